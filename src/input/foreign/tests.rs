//! Directories as they occur, and as they must not be taken for one another.

use super::*;

const INDEX: &str = r#"{"metadata":{"total_size":8},"weight_map":{"a":"FILE1","b":"FILE2"}}"#;

/// A directory with these files, each empty unless it has a text after `=`.
fn dir(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let (name, text) = file.split_once('=').unwrap_or((file, ""));
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn index(name: &str, one: &str, two: &str) -> String {
    format!("{name}={}", INDEX.replace("FILE1", one).replace("FILE2", two))
}

fn bin_index() -> String {
    index("pytorch_model.bin.index.json", "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
}

fn safetensors_index() -> String {
    index("model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
}

fn names(paths: &[PathBuf]) -> Vec<&str> {
    paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect()
}

/// The error of a directory, which must contain all of these words.
#[track_caller]
fn refused(files: &[&str], said: &[&str]) {
    let dir = dir(files);
    let error = discover_foreign(dir.path()).unwrap_err().to_string();
    for words in said {
        assert!(error.contains(words), "{words:?} is not said: {error}");
    }
}

#[test]
fn one_file_or_an_indexed_set_is_found() {
    let found = dir(&["model.safetensors", "config.json", "training_args.bin", "optimizer.pt"]);
    let found = discover_foreign(found.path()).unwrap();
    let ForeignKind::HfSafetensors { files, index: None } = &found.kind else { panic!("{found:?}") };
    assert_eq!((names(files), found.notes.len()), (vec!["model.safetensors"], 0));
    assert!(found.config.is_some());

    let (one, two) = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin");
    let found = dir(&[one, two, &bin_index(), "rng_state.pth"]);
    let found = discover_foreign(found.path()).unwrap();
    let ForeignKind::HfBin { files, index: Some(index) } = &found.kind else { panic!("{found:?}") };
    assert_eq!(names(files), [one, two]);
    assert_eq!(index.map["b"], two);
    assert_eq!(found.config, None);

    // Without an index the numbers say whether all are there.
    let found = dir(&[two, one]);
    let found = discover_foreign(found.path()).unwrap();
    assert!(matches!(&found.kind, ForeignKind::HfBin { files, index: None } if names(files) == [one, two]));

    // Without files of either kind, a file of any name.
    let found = dir(&["llama.pth", "params.json"]);
    let found = discover_foreign(found.path()).unwrap();
    assert!(matches!(&found.kind, ForeignKind::SinglePth(path) if path.ends_with("llama.pth")));
}

#[test]
fn safetensors_are_preferred_and_a_note_says_so() {
    let both = dir(&["model.safetensors", "pytorch_model.bin", "consolidated.00.pth", "params.json"]);
    let found = discover_foreign(both.path()).unwrap();
    assert!(matches!(&found.kind, ForeignKind::HfSafetensors { files, .. } if names(files) == ["model.safetensors"]));
    assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
    assert!(found.notes[0].contains(".bin") && found.notes[1].contains("consolidated"), "{:?}", found.notes);
    // Half a set is not passed over in silence for the other kind.
    let half = dir(&["model-00001-of-00002.safetensors", "pytorch_model.bin"]);
    assert!(discover_foreign(half.path()).is_err());
}

#[test]
fn metas_shards_are_in_order_and_whole() {
    let meta = dir(&["consolidated.01.pth", "consolidated.00.pth", "params.json", "tokenizer.model", "checklist.chk"]);
    let found = discover_foreign(meta.path()).unwrap();
    let ForeignKind::Meta { shards, params } = &found.kind else { panic!("{found:?}") };
    assert_eq!(names(shards), ["consolidated.00.pth", "consolidated.01.pth"]);
    assert!(params.ends_with("params.json"));
    assert_eq!(names(&found.companions), ["tokenizer.model"]);
    let gap = ["consolidated.00.pth", "consolidated.03.pth", "params.json"];
    refused(&gap, &["`consolidated.01.pth`, `consolidated.02.pth` missing"]);
    refused(&["consolidated.01.pth", "params.json"], &["`consolidated.00.pth` missing"]);
    refused(&["consolidated.00.pth"], &["`params.json` missing"]);
}

#[test]
fn incomplete_and_mixed_sets_are_refused_by_name() {
    let (one, three) = ("pytorch_model-00001-of-00003.bin", "pytorch_model-00003-of-00003.bin");
    refused(&[one, three], &["`pytorch_model-00002-of-00003.bin` missing"]);
    // A name may claim any number of files; the message stays short.
    refused(&["model-00001-of-99999.safetensors"], &["`model-00002-of-99999.safetensors`", "more missing"]);
    refused(&[one, three, "pytorch_model-00002-of-00002.bin"], &["several saves", "00002-of-00002"]);
    refused(&["pytorch_model.bin", one], &["several saves"]);
    refused(&["a.pth", "b.pt"], &["2 checkpoint files", "`a.pth`, `b.pt`"]);
}

#[test]
fn an_index_that_does_not_fit_its_files_is_refused() {
    let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    refused(&[&safetensors_index(), one], &["index.json", two, "named in the index, but not there"]);
    refused(&[&safetensors_index()], &[one, two, "not there"]);
    refused(&[&safetensors_index(), one, two, "model.safetensors"], &["`model.safetensors` there, but not named"]);
    refused(&[one, "model.safetensors.index.json={}"], &["names no file"]);
    refused(&[one, "model.safetensors.index.json=[]"], &["index.json"]);
    // A directory is no file.
    refused(&[&safetensors_index(), one, &format!("{two}/x")], &[two, "not there"]);
    for outside in ["../x.safetensors", "/etc/passwd", "sub/x.safetensors", "..", ""] {
        let files = [&index("model.safetensors.index.json", one, outside), one, "sub/x.safetensors"];
        refused(&files, &["index.json", "not a plain file name"]);
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    refused(&["adapter_config.json", "adapter_model.safetensors"], &["adapter", "merge"]);
    refused(&["adapter_config.json", "model.safetensors"], &["adapter"]);
    for other in ["model.onnx", "flax_model.msgpack", "tf_model.h5"] {
        refused(&["config.json", other], &[other, "expected", "pytorch_model.bin", "consolidated"]);
    }
    refused(&["consolidated.safetensors", "params.json"], &["`consolidated.safetensors`"]);
    refused(&["README.md"], &["no checkpoint that can be read; expected"]);
    assert!(matches!(discover_foreign(Path::new("/nowhere/at/all")), Err(InputError::NotFound(_))));
}

#[test]
fn a_file_stands_for_itself_unless_it_is_one_of_several() {
    let files = ["model-00001-of-00002.safetensors", "odd.safetensors", "pytorch_model.bin", "x.pt", "notes.txt"];
    let here = dir(&[&files[..], &["config.json", "adapter_model.bin", "consolidated.00.pth"]].concat());
    let at = |name: &str| discover_foreign(&here.path().join(name));
    let said = |name: &str| at(name).unwrap_err().to_string();
    assert!(said(files[0]).contains("one of 2 files"), "{}", said(files[0]));
    let found = at(files[1]).unwrap();
    assert!(matches!(&found.kind, ForeignKind::HfSafetensors { files, index: None } if files.len() == 1));
    assert_eq!(names(&found.companions), ["config.json"]);
    assert!(matches!(at(files[2]).unwrap().kind, ForeignKind::HfBin { index: None, .. }));
    assert!(matches!(at(files[3]).unwrap().kind, ForeignKind::SinglePth(_)));
    assert!(matches!(at("consolidated.00.pth").unwrap().kind, ForeignKind::SinglePth(_)), "no params.json");
    assert!(said(files[4]).contains("notes.txt"));
    assert!(said("adapter_model.bin").contains("adapter"));
    std::fs::write(here.path().join("params.json"), "{}").unwrap();
    assert!(matches!(at("consolidated.00.pth").unwrap().kind, ForeignKind::Meta { shards, .. } if shards.len() == 1));
    std::fs::write(here.path().join("consolidated.01.pth"), "").unwrap();
    assert!(said("consolidated.01.pth").contains("one of 2 files"));
}

#[test]
fn companions_are_those_that_a_user_of_the_model_needs() {
    let carried = [
        "added_tokens.json",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "merges.txt",
        "special_tokens_map.json",
        "spiece.model",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    ];
    let others = ["model.safetensors", "README.md", "trainer_state.json", "tokenizer_dir/x", ".hidden.model"];
    let found = dir(&[&carried[..], &others[..]].concat());
    assert_eq!(names(&discover_foreign(found.path()).unwrap().companions), carried);
}

#[test]
fn what_mindspore_wrote_is_left_to_its_own_discovery() {
    let tells = |files: &[&str]| provenance(dir(files).path()).unwrap();
    for ours in [
        &["rank_0/a.safetensors", "rank_1/a.safetensors"][..],
        &["rank_0/a.ckpt", "config.json"],
        &["model.ckpt", "config.json"],
        &["part0.safetensors", "param_name_map.json"],
        &["notes.txt"],
    ] {
        assert_eq!(tells(ours), Provenance::MindSpore, "{ours:?}");
    }
    for foreign in [
        &["pytorch_model.bin"][..],
        &["consolidated.00.pth", "params.json"],
        &["adapter_config.json", "adapter_model.safetensors"],
        &["config.json", "model.gguf"],
        &["tf_model.h5"],
        &["config.json"],
    ] {
        assert_eq!(tells(foreign), Provenance::Foreign, "{foreign:?}");
    }
    // Both write these: the names in the headers decide.
    assert_eq!(tells(&["model.safetensors", "config.json"]), Provenance::ByNames);
    assert_eq!(tells(&["model-00001-of-00001.safetensors", "pytorch_model.bin"]), Provenance::ByNames);
    let files = dir(&["a.bin", "a.pth", "a.safetensors", "a.ckpt", "a"]);
    let of = |name: &str| provenance(&files.path().join(name)).unwrap();
    assert_eq!(["a.bin", "a.pth"].map(of), [Provenance::Foreign; 2]);
    assert_eq!(of("a.safetensors"), Provenance::ByNames);
    assert_eq!(["a.ckpt", "a"].map(of), [Provenance::MindSpore; 2]);
}

#[test]
fn every_name_is_where_the_index_says_and_nothing_else_is() {
    let map = [("a", "one"), ("b", "two")].map(|(name, file)| (name.to_owned(), file.to_owned()));
    let index = ForeignIndex { path: "i.json".into(), map: map.into() };
    let check = |files: &[(&'static str, &[&'static str])]| {
        check_index(&index, files.iter().map(|(file, names)| (*file, names.iter().copied())))
    };
    check(&[("one", &["a"]), ("two", &["b"])]).unwrap();
    for (files, said) in [
        (&[("one", &["b"][..]), ("two", &["a"])][..], "`a`, `b` not (only) in the file"),
        (&[("one", &["a"]), ("two", &[])], "`b` named in the index, but in no file"),
        (&[("one", &["a", "c"]), ("two", &["b"])], "`c` in a file, but not named"),
        (&[("one", &["a"]), ("two", &["a", "b"])], "`a` not (only)"),
        (&[], "`a`, `b` named in the index"),
    ] {
        let error = check(files).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}
