//! The order of fused rows: what decides it, and that it is said; and the manifest beside a source.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::cluster::{end, host};
use crate::support::{Fusion, Llama, Run, Sharding, Tensor, TestEnv, data, read_ranks, read_tensors, write_ckpt};

const WHOLE: Sharding = Sharding { ranks: 1, fusion: None, vocabulary_whole: false };
/// A key that mindformers knows from 1.4 on.
const SIGN: &str = "load_ckpt_format: \"safetensors\"\n";
pub(crate) const TRANSFER: &str = "-f distributed_weight_transfer -p fp16 -q --no-sync";

/// Does something to a checkpoint's directory, or to its manifest.
type ChangeFiles<'a> = &'a dyn Fn(&Path);
type ChangeManifest = fn(&mut Value);

pub(crate) fn sharded(ranks: u64, fusion: Fusion) -> Sharding {
    Sharding { ranks, fusion: Some(fusion), vocabulary_whole: false }
}

/// What the ranks of a target must hold.
fn expected(model: &Llama, sharding: Sharding) -> Vec<BTreeMap<String, Tensor>> {
    let full = model.full();
    let named = |rank| model.rank(&full, rank, sharding).into_iter().map(|t| (t.name.clone(), t)).collect();
    (0..sharding.ranks).map(named).collect()
}

#[track_caller]
fn holds(env: &TestEnv, dir: &str, model: &Llama, sharding: Sharding) {
    let found = read_ranks(&env.path(dir), sharding.ranks, "ckpt");
    assert!(found == expected(model, sharding), "{dir} is not the model over {sharding:?}");
}

/// A model, unfused and whole in `src`, `old.yaml` without a sign of the version and `new.yaml` with one, both fused.
pub(crate) fn env_of(model: &Llama) -> TestEnv {
    let env = TestEnv::new();
    model.write(&env.path("src"), WHOLE, "ckpt");
    env.write("old.yaml", model.yaml(true, false));
    env.write("new.yaml", format!("{SIGN}{}", model.yaml(true, false)));
    env
}

/// The same with a grouped checkpoint of two ranks in `grouped/fp16_2p_qkv`, made by a conversion.
fn env_with_grouped(model: &Llama) -> TestEnv {
    let env = env_of(model);
    env.line(&format!("{TRANSFER} -w 2 -y new.yaml -sc src -dc grouped -is st")).ok();
    holds(&env, "grouped/fp16_2p_qkv", model, sharded(2, Fusion::Grouped));
    env
}

fn manifest(env: &TestEnv, dir: &str) -> Value {
    let bytes = std::fs::read(env.path(dir).join("manifest.json")).expect("a manifest");
    serde_json::from_slice(&bytes).expect("JSON")
}

fn edit_manifest(env: &TestEnv, dir: &str, change: impl FnOnce(&mut Value)) {
    let mut value = manifest(env, dir);
    change(&mut value);
    env.write(&format!("{dir}/manifest.json"), value.to_string());
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let to = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).expect("a copy");
        }
    }
}

/// The value and the reason of the choice about one side.
#[track_caller]
fn choice(json: &Value, side: &str) -> (String, String) {
    let choices = json["choices"].as_array().unwrap_or_else(|| panic!("no choices in {json}"));
    let found = choices.iter().find(|c| c["what"].as_str().is_some_and(|what| what.ends_with(side)));
    let found = found.unwrap_or_else(|| panic!("nothing about the {side} in {choices:?}"));
    (found["value"].as_str().expect("text").to_owned(), found["why"].as_str().expect("text").to_owned())
}

#[test]
fn a_yaml_of_mindformers_1_4_gives_the_order_that_its_network_reads() {
    let small = Llama::small();
    for model in [
        small.clone(),
        Llama { bias: true, layers: 2, ..small.clone() },
        Llama { bias: true, rep: 1, ..small.clone() },
        Llama { kv_heads: 4, rep: 3, head_dim: 3, bias: true, ..small },
    ] {
        let env = env_of(&model);
        for ranks in [2, 4] {
            let line = format!("{TRANSFER} -w {ranks} -y new.yaml -sc src");
            let told = env.line(&format!("{line} -dc out -is st")).ok().stdout;
            let target = sharded(ranks, Fusion::Grouped);
            holds(&env, &format!("out/fp16_{ranks}p_qkv"), &model, target);
            for words in ["order of fused rows in the target: grouped", "new.yaml", "load_ckpt_format"] {
                assert!(told.contains(words), "{words}: {told}");
            }
            env.line(&format!("{line} -dc asked -is asked_st --dst-fusion grouped")).ok();
            holds(&env, &format!("asked/fp16_{ranks}p_qkv"), &model, target);
        }
    }
}

#[test]
fn the_order_and_its_reason_are_printed_wherever_a_result_is_described() {
    let env = env_of(&Llama::small());
    let line = format!("{TRANSFER} -w 2 -y new.yaml -sc src -dc out -is st");
    let plan = env.line(&format!("{line} --dry-run")).ok().stdout;
    assert!(plan.contains("  order of fused rows in the target: grouped (new.yaml"), "{plan}");
    let plan = env.line(&format!("{line} --dry-run --json")).ok().json();
    let summary = env.line(&format!("{line} --json")).ok().json();
    let said = choice(&plan, "target");
    assert_eq!(said.0, "grouped");
    assert_eq!(choice(&summary, "target"), said);
    let manifest = manifest(&env, "out/fp16_2p_qkv");
    assert_eq!(choice(&manifest, "target"), said);
    assert_eq!(manifest["options"]["dst_fusion"], "grouped");
    // Where nothing is fused there is nothing to say.
    let unfused = env.line(&format!("{line}_plain --qkv_concat false --json")).ok().json();
    assert!(unfused.get("choices").is_none(), "{unfused}");
}

#[test]
fn the_original_yamls_and_n_to_m_keep_the_original_order() {
    // The packaged yaml, of a smaller model.
    let model = Llama { kv_heads: 16, rep: 1, ffn: 96, ..Llama::small() };
    let env = env_of(&model);
    for count in ["1p", "4p", "16p"] {
        let path = data(&format!("models/llama2_7b/qkv/llama2_7b_{count}.yaml"));
        let mut text = std::fs::read_to_string(path).expect("the packaged yaml");
        for (from, to) in [
            ("hidden_size: 4096", "hidden_size: 32"),
            ("num_layers: 32", "num_layers: 1"),
            ("num_heads: 32", "num_heads: 16"),
            ("vocab_size: 32000", "vocab_size: 24"),
            ("multiple_of: 256", "multiple_of: 16"),
        ] {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        env.write("original.yaml", text);
        let target = sharded(4, Fusion::RankConcat);
        let dc = format!("out_{count}");
        let told = env.line(&format!("{TRANSFER} -w 4 -y original.yaml -sc src -dc {dc} -is {dc}_st")).ok().stdout;
        holds(&env, &format!("{dc}/fp16_4p_qkv"), &model, target);
        assert!(told.contains("in the target: rank-concat") && told.contains("--dst-fusion grouped"), "{told}");
        env.line(&format!("n-to-m -q -w 4 -y original.yaml -sc src -dc m_{count}")).ok();
        holds(&env, &format!("m_{count}/fp16_4p_qkv"), &model, target);
        env.line(&format!("{TRANSFER} -w 4 -y original.yaml -sc src -dc g_{count} -is g_st --dst-fusion grouped")).ok();
        holds(&env, &format!("g_{count}/fp16_4p_qkv"), &model, sharded(4, Fusion::Grouped));
    }
}

#[test]
fn an_order_that_the_yaml_contradicts_is_refused_unless_it_is_forced() {
    let model = Llama::small();
    let env = env_of(&model);
    let line = format!("{TRANSFER} -w 2 -y new.yaml -sc src -dc out -is st --dst-fusion rank-concat");
    let before = env.tree();
    env.line(&line).failed(1, &["--dst-fusion rank-concat", "new.yaml", "load_ckpt_format", "--force-fusion"]);
    assert_eq!(env.tree(), before, "nothing is written");
    let told = env.line(&format!("{line} --force-fusion")).ok().stdout;
    assert!(told.contains("rank-concat (--dst-fusion and --force-fusion, although new.yaml"), "{told}");
    holds(&env, "out/fp16_2p_qkv", &model, sharded(2, Fusion::RankConcat));
    // A target without fused parameters has no order that could be wrong.
    env.line(&format!("{line} --qkv_concat false -is plain_st")).ok();
    holds(&env, "out/fp16_2p", &model, Sharding { ranks: 2, ..WHOLE });
}

/// A checkpoint of mindformers' own beside its yaml: read as rank-concat it would become another model.
#[test]
fn a_fused_source_whose_order_nothing_states_is_asked_about() {
    let model = Llama { bias: true, ..Llama::small() };
    for fusion in [Fusion::Grouped, Fusion::RankConcat] {
        let env = env_of(&model);
        model.write(&env.path("fused"), sharded(2, fusion), "ckpt");
        let line = format!("{TRANSFER} -w 4 -y new.yaml -sc fused -dc out -is st");
        let before = env.tree();
        env.line(&line).failed(1, &["order of the source's fused rows", "new.yaml", "--src-fusion grouped"]);
        env.line("-f ms_to_pt -p fp16 -y new.yaml -sc fused -dc hf").failed(1, &["--src-fusion rank-concat"]);
        assert_eq!(env.tree(), before, "nothing is written");
        env.line(&format!("{line} --src-fusion {}", fusion.option())).ok();
        holds(&env, "out/fp16_4p_qkv", &model, sharded(4, Fusion::Grouped));
        // Without a sign of the version the usual order is taken, and that is said.
        let told = env.line(&format!("{TRANSFER} -w 4 -y old.yaml -sc fused -dc old -is old_st")).ok().stdout;
        assert!(told.contains("in the source: rank-concat (usual up to mindformers 1.3"), "{told}");
        if fusion == Fusion::RankConcat {
            holds(&env, "old/fp16_4p_qkv", &model, sharded(4, Fusion::RankConcat));
        }
    }
}

#[test]
fn a_conversion_goes_on_in_the_order_that_the_last_one_wrote() {
    let model = Llama { bias: true, ..Llama::small() };
    let env = env_with_grouped(&model);
    let line = format!("{TRANSFER} -sc grouped/fp16_2p_qkv");
    for yaml in ["old", "new"] {
        let told = env.line(&format!("{line} -w 4 -y {yaml}.yaml -dc {yaml} -is {yaml}_st")).ok().stdout;
        assert!(told.contains("in the source: grouped") && told.contains("manifest.json says so"), "{told}");
        holds(&env, &format!("{yaml}/fp16_4p_qkv"), &model, sharded(4, Fusion::Grouped));
    }
    env.line(&format!("{line} -w 1 -y old.yaml -dc plain -is plain_st --qkv_concat false")).ok();
    holds(&env, "plain/fp16_1p", &model, WHOLE);
    env.line(&format!("{line} -w 4 -y old.yaml -dc back -is back_st --dst-fusion rank-concat")).ok();
    holds(&env, "back/fp16_4p_qkv", &model, sharded(4, Fusion::RankConcat));
    let against = format!("{line} -w 4 -y old.yaml -dc no -is no_st --src-fusion rank-concat");
    env.line(&against).failed(1, &["--src-fusion rank-concat", "manifest.json says so", "--force-fusion"]);
    assert!(!env.path("no").exists());
    // The hint: without the option.
    env.line(&against.replace(" --src-fusion rank-concat", "")).ok();
    holds(&env, "no/fp16_4p_qkv", &model, sharded(4, Fusion::Grouped));
    // One rank: the manifest is in the directory above, or two above.
    env.line(&format!("{TRANSFER} -w 1 -y new.yaml -sc src -dc one -is one_st")).ok();
    for (index, source) in ["one/fp16_1p_qkv/rank_0", "one/fp16_1p_qkv/rank_0/checkpoint_0.ckpt"].iter().enumerate() {
        env.line(&format!("{TRANSFER} -w 2 -y old.yaml -sc {source} -dc two{index} -is st{index}")).ok();
        holds(&env, &format!("two{index}/fp16_2p_qkv"), &model, sharded(2, Fusion::Grouped));
    }
}

/// The whole model with numbers below two.
fn finite(model: &Llama) -> Vec<Tensor> {
    let mut full = model.full();
    full.iter_mut().flat_map(|t| t.bytes.iter_mut().skip(1).step_by(2)).for_each(|high| *high &= 0xbf);
    full
}

/// What `quant_weight` made is a source as any other.
#[test]
fn a_quantised_checkpoint_goes_on_in_its_order_too() {
    let model = Llama { head_dim: 8, ffn: 128, ..Llama::small() };
    let env = env_of(&model);
    env.write("src/rank_0/checkpoint_0.ckpt", write_ckpt(&finite(&model)));
    let quantise = "-f quant_weight -p w8a16 -q --no-sync -y new.yaml -sc src";
    env.line(&format!("{quantise} -w 2 -dc two -is two_st")).ok();
    env.line(&format!("{quantise} -w 4 -dc four -is four_st")).ok();
    let line =
        "-f distributed_weight_transfer -p w8a16 -q --no-sync -w 4 -y old.yaml -sc two/w8a16_2p_qkv -dc out -is st";
    env.line(line).ok();
    let ranks = |dir: &str| read_ranks(&env.path(dir), 4, "ckpt");
    assert!(ranks("out/w8a16_4p_qkv") == ranks("four/w8a16_4p_qkv"), "4 ranks by way of 2 are not 4 ranks");
}

#[test]
fn verify_reads_the_manifests_of_both() {
    let model = Llama { bias: true, ..Llama::small() };
    let env = env_with_grouped(&model);
    env.line(&format!("{TRANSFER} -w 4 -y old.yaml -sc src -dc rank -is rank_st")).ok();
    let (src, rank, grouped) = ("src", "rank/fp16_4p_qkv", "grouped/fp16_2p_qkv");
    for (a, b) in [(src, grouped), (grouped, src), (rank, grouped), (grouped, rank), (grouped, grouped)] {
        let told = env.line(&format!("verify -q {a} {b} -y old.yaml")).ok();
        assert!(told.stderr.contains("grouped (") && told.stderr.contains("manifest.json says so"), "{told:#?}");
    }
    // A grouped source that was read as rank-concat.
    env.line(&format!(
        "{TRANSFER} -w 4 -y old.yaml -sc {grouped} -dc no -is no_st --src-fusion rank-concat --force-fusion"
    ))
    .ok();
    for (a, b) in [(grouped, "no/fp16_4p_qkv"), ("no/fp16_4p_qkv", src)] {
        let told = env.line(&format!("verify -q {a} {b} -y old.yaml"));
        assert_eq!(told.status, Some(1), "{told:#?}");
        assert!(told.stdout.starts_with("different:"), "{told:#?}");
    }
    env.line(&format!("verify -q {src} {grouped} -y old.yaml --dst-fusion rank-concat"))
        .failed(2, &["--dst-fusion rank-concat", "--force-fusion"]);
    let json = env.line(&format!("verify -q {rank} {grouped} -y old.yaml --json")).ok().json();
    assert_eq!(choice(&json, "second").0, "grouped");
    assert_eq!(choice(&json, "first").0, "rank-concat");
}

/// A second checkpoint shows what a checkpoint alone does not.
#[test]
fn verify_finds_that_another_order_makes_the_fused_rows_equal() {
    let model = Llama { bias: true, layers: 2, ..Llama::small() };
    let env = env_of(&model);
    model.write(&env.path("grouped"), sharded(2, Fusion::Grouped), "ckpt");
    let told = env.line("verify -q src grouped -y old.yaml");
    assert_eq!(told.status, Some(1), "{told:#?}");
    assert!(told.stderr.contains("with --dst-fusion grouped the fused rows of the first layer are equal"), "{told:#?}");
    env.line("verify -q src grouped -y old.yaml --dst-fusion grouped").ok();
    // Another model in the same order: no order makes them equal.
    Llama { seed: 8, ..model.clone() }.write(&env.path("other"), sharded(2, Fusion::RankConcat), "ckpt");
    let told = env.line("verify -q src other -y old.yaml");
    assert!(told.status == Some(1) && !told.stderr.contains("are equal"), "{told:#?}");
}

#[test]
fn files_that_are_not_those_of_the_manifest_are_refused() {
    let model = Llama::small();
    let env = env_with_grouped(&model);
    let source = env.path("grouped/fp16_2p_qkv");
    let longer = |path: &Path| {
        let mut tensors = read_tensors(path);
        tensors.push(Tensor { name: "model.extra".into(), dtype: "Float16".into(), dims: vec![2], bytes: vec![0; 4] });
        std::fs::write(path, write_ckpt(&tensors)).expect("a file");
    };
    let one_more = |dir: &Path| {
        std::fs::create_dir(dir.join("rank_2")).expect("a directory");
        std::fs::copy(dir.join("rank_1/checkpoint_1.ckpt"), dir.join("rank_2/checkpoint_2.ckpt")).expect("a copy");
    };
    let cases: [(&str, ChangeFiles<'_>, &[&str]); 3] = [
        ("more", &one_more, &["does not list", "rank_2/checkpoint_2.ckpt"]),
        (
            "fewer",
            &|dir| std::fs::remove_dir_all(dir.join("rank_1")).expect("removed"),
            &["lists `rank_1/checkpoint_1.ckpt`, not found there"],
        ),
        (
            "longer",
            &|dir| longer(&dir.join("rank_1/checkpoint_1.ckpt")),
            &["rank_1/checkpoint_1.ckpt", "bytes; the file has"],
        ),
    ];
    for (name, change, said) in cases {
        copy(&source, &env.path(name));
        change(&env.path(name));
        let line = format!("{TRANSFER} -w 4 -y new.yaml -sc {name} -dc out_{name} -is st");
        env.line(&line).failed(1, &[&["manifest.json", "hint: "], said].concat());
        assert!(!env.path(&format!("out_{name}")).exists());
        let doctor = env.line(&format!("doctor {name}"));
        assert!(doctor.status == Some(1) && doctor.stdout.contains(said[0]), "{doctor:#?}");
        // How far they differ is what verify is asked.
        let told = env.line(&format!("verify -q src {name} -y new.yaml"));
        assert!(told.status != Some(0) && told.stderr.contains(said[0]), "{told:#?}");
    }
    // A rank alone is no model; the directory above it is.
    let line = format!("{TRANSFER} -w 1 -y new.yaml -sc grouped/fp16_2p_qkv/rank_1 -dc out -is st");
    env.line(&line).failed(1, &["lists 2 files", "name the directory that holds the manifest"]);
    env.line(&line.replace("/rank_1", "")).ok();
    env.line("doctor grouped/fp16_2p_qkv").ok();
    holds(&env, "out/fp16_1p_qkv", &model, sharded(1, Fusion::Grouped));
}

#[test]
fn a_manifest_that_is_not_ours_is_left_alone_and_a_hostile_one_does_no_harm() {
    let model = Llama::small();
    let env = env_with_grouped(&model);
    let own = std::fs::read(env.path("grouped/fp16_2p_qkv/manifest.json")).expect("a manifest");
    let line = format!("{TRANSFER} -w 2 -y old.yaml -sc src -dc out -is st --overwrite");
    let nested = "[".repeat(100_000);
    for other in
        ["{}", "[]", "", "\u{0}", "{\"tool\": {\"name\": \"npm\"}, \"manifest_version\": 1}", "not JSON", &nested]
    {
        env.write("src/manifest.json", other);
        let told = env.line(&line).ok();
        assert!(told.stderr.contains("manifest.json is not a manifest of ckpt-convert"), "{told:#?}");
        holds(&env, "out/fp16_2p_qkv", &model, sharded(2, Fusion::RankConcat));
    }
    std::fs::remove_file(env.path("src/manifest.json")).expect("removed");
    let line = line.replace("-sc src", "-sc grouped/fp16_2p_qkv");
    let cases: [(ChangeManifest, &str); 9] = [
        (|m| m["manifest_version"] = 2.into(), "is of version 2"),
        (|m| m["options"]["dst_fusion"] = "sideways".into(), "unknown order of fused rows, `sideways`"),
        (|m| m["options"] = Value::Null, "is damaged"),
        (|m| m["files"] = "many".into(), "is damaged"),
        (|m| m["files"][0]["path"] = "../../etc/x.ckpt".into(), "outside its directory"),
        (|m| m["files"][0]["path"] = "/etc/x.ckpt".into(), "outside its directory"),
        (|m| m["files"][0]["length"] = u64::MAX.into(), "bytes; the file has"),
        (|m| m["files"][1] = m["files"][0].clone(), "twice"),
        (|m| m["files"] = Value::Array(Vec::new()), "does not list"),
    ];
    for (change, said) in cases {
        env.write("grouped/fp16_2p_qkv/manifest.json", &own);
        edit_manifest(&env, "grouped/fp16_2p_qkv", change);
        env.line(&line).failed(1, &[said, "hint: "]);
    }
    env.write("grouped/fp16_2p_qkv/manifest.json", &own[..own.len() / 2]);
    env.line(&line).failed(1, &["manifest.json is damaged"]);
    // One of ours that is too large to be read is no reason to take the usual order.
    let large = std::fs::File::options().write(true).open(env.path("grouped/fp16_2p_qkv/manifest.json"));
    large.and_then(|file| file.set_len((256 << 20) + 1)).expect("a sparse file");
    env.line(&line).failed(1, &["manifest.json has 268435457 bytes", "--src-fusion"]);
    // What the hint says: without the manifest, and with the order.
    std::fs::remove_file(env.path("grouped/fp16_2p_qkv/manifest.json")).expect("removed");
    env.line(&format!("{line} --src-fusion grouped --dst-fusion grouped")).ok();
    holds(&env, "out/fp16_2p_qkv", &model, sharded(2, Fusion::Grouped));
}

/// Flips a bit of the first byte of a tensor, and returns where that is.
fn damage(env: &TestEnv, dir: &str, file: &str, name: &str) -> u64 {
    let manifest = manifest(env, dir);
    let tensors = manifest["tensors"].as_array().expect("tensors");
    let tensor = tensors.iter().find(|t| t["name"] == name && t["file"] == file).expect("the tensor");
    let offset = tensor["offset"].as_u64().expect("an offset");
    let path = env.path(dir).join(file);
    let mut bytes = std::fs::read(&path).expect("the file");
    bytes[usize::try_from(offset).expect("small")] ^= 1;
    std::fs::write(path, bytes).expect("written");
    offset
}

#[test]
fn check_source_finds_a_damaged_byte_and_names_its_tensor() {
    let model = Llama::small();
    for format in ["ckpt", "safetensors"] {
        let env = env_of(&model);
        env.line(&format!("{TRANSFER} -w 2 -y new.yaml -sc src -dc first -is st --format {format}")).ok();
        let dir = "first/fp16_2p_qkv";
        let line = format!("{TRANSFER} -w 4 -y new.yaml -sc {dir} --format ckpt");
        let told = env.line(&format!("{line} -dc out -is out_st --check-source")).ok();
        assert!(told.stderr.contains("tensors of the source have the sums of"), "{told:#?}");
        holds(&env, "out/fp16_4p_qkv", &model, sharded(4, Fusion::Grouped));
        let (file, name) = (format!("rank_1/checkpoint_1.{format}"), "model.layers.0.feed_forward.w2.weight");
        let offset = damage(&env, dir, &file, name);
        let place = format!("`{name} in {file} at byte {offset}`");
        env.line(&format!("{line} -dc no -is no_st --check-source"))
            .failed(1, &[&place, "manifest.json", "copy them again"]);
        assert!(!env.path("no").exists());
        // It costs a read of the source, so it is not done unasked.
        env.line(&format!("{line} -dc unasked -is unasked_st")).ok();
        edit_manifest(&env, dir, |m| m["tensors"][0]["offset"] = 0.into());
        env.line(&format!("{line} -dc no -is no_st --check-source"))
            .failed(1, &["lies elsewhere by the file's own header"]);
        edit_manifest(&env, dir, |m| m["tensors"] = Value::Array(Vec::new()));
        env.line(&format!("{line} -dc no -is no_st --check-source")).failed(1, &["does not list `"]);
        std::fs::remove_file(env.path(dir).join("manifest.json")).expect("removed");
        env.line(&format!("{line} -dc no -is no_st --src-fusion grouped --check-source"))
            .failed(1, &["--check-source", "has none"]);
    }
}

/// A training run of one rank: the model and its optimizer's state.
fn trained(env: &TestEnv, mut tensors: Vec<Tensor>) {
    let moments: Vec<Tensor> =
        tensors.iter().map(|t| Tensor { name: format!("adam_m.{}", t.name), ..t.clone() }).collect();
    tensors.extend(moments);
    tensors.push(Tensor { name: "global_step".into(), dtype: "Int32".into(), dims: vec![1], bytes: vec![1, 0, 0, 0] });
    env.write("run/rank_0/checkpoint_0.ckpt", write_ckpt(&tensors));
}

#[test]
fn several_hosts_say_in_their_summary_what_one_says() {
    let model = Llama { head_dim: 32, ffn: 1024, layers: 2, ..Llama::small() };
    let env = env_of(&model);
    trained(&env, model.full());
    let line = "-f train_to_infer -p fp16 -w 4 -y new.yaml -sc run -q --json";
    let one = env.line(&format!("{line} -dc one -is one_st --nodes 1")).ok().json();
    assert!(one["training_state"]["adam_m."].as_u64().is_some_and(|n| n > 10), "{one}");
    let hosts: Vec<_> = (0..2).map(|i| host(&env, &format!("{line} -dc out -is st"), i, 2)).collect();
    let runs: Vec<Run> = hosts.into_iter().map(|child| end(child).ok()).collect();
    let summaries: Vec<Value> = runs.iter().filter(|run| !run.stdout.is_empty()).map(Run::json).collect();
    let [summary] = summaries.as_slice() else { panic!("one host publishes: {runs:#?}") };
    let machine = ["target", "strategies", "seconds", "peak_anonymous_memory", "direct", "bytes_shared", "ways"];
    for (key, value) in one.as_object().expect("an object").iter().filter(|(key, _)| !machine.contains(&key.as_str())) {
        assert_eq!(summary.get(key), Some(value), "{key}");
    }
    assert_eq!(manifest(&env, "out/fp16_4p_qkv")["choices"], manifest(&env, "one/fp16_4p_qkv")["choices"]);
    holds(&env, "out/fp16_4p_qkv", &model, sharded(4, Fusion::Grouped));
}

#[test]
fn the_manifest_has_the_options_that_decided_the_result() {
    let model = Llama { head_dim: 8, ffn: 128, ..Llama::small() };
    let env = env_of(&model);
    trained(&env, finite(&model));
    let line = "-f train_to_infer -p w8a16 -w 2 -y new.yaml -sc run -q --no-sync -dc out -is st --format safetensors";
    env.line(line).ok();
    let options = manifest(&env, "out/w8a16_2p_qkv")["options"].clone();
    assert_eq!((&options["names"], &options["format"]), (&"gs-0.6".into(), &"safetensors".into()), "{options}");
    let config = "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": 128, \
                  \"num_attention_heads\": 16, \"num_key_value_heads\": 8, \"num_hidden_layers\": 1, \
                  \"intermediate_size\": 128, \"vocab_size\": 24, \"tie_word_embeddings\": false}";
    env.write("hf/config.json", config);
    env.line("-f ms_to_pt -p fp16 -sc src -q --no-sync -dc out --hf-config hf").ok();
    assert_eq!(manifest(&env, "out/fp16_hf")["options"]["hf_config"], "hf");
}

#[cfg(unix)]
#[test]
fn a_grouped_source_that_is_reached_through_links_stays_grouped() {
    let model = Llama::small();
    let env = env_with_grouped(&model);
    let source = env.path("grouped/fp16_2p_qkv");
    // A directory of links to ranks, one of links to files, and a copy with other names.
    for rank in 0..2 {
        std::fs::create_dir_all(env.path("ranks")).expect("a directory");
        std::os::unix::fs::symlink(source.join(format!("rank_{rank}")), env.path(&format!("ranks/rank_{rank}")))
            .unwrap();
        let (dir, file) = (env.path(&format!("files/rank_{rank}")), format!("checkpoint_{rank}.ckpt"));
        std::fs::create_dir_all(&dir).expect("a directory");
        std::os::unix::fs::symlink(source.join(format!("rank_{rank}/{file}")), dir.join(file)).unwrap();
    }
    copy(&source, &env.path("renamed"));
    for rank in 0..2 {
        let dir = env.path(&format!("renamed/rank_{rank}"));
        let (from, to) = (dir.join(format!("checkpoint_{rank}.ckpt")), dir.join(format!("llama_7b_rank_{rank}.ckpt")));
        std::fs::copy(&from, to).expect("a copy");
        std::fs::remove_file(from).expect("removed");
    }
    for source in ["ranks", "files", "renamed"] {
        let run = env.line(&format!(
            "{TRANSFER} -w 1 -y old.yaml -sc {source} -dc out_{source} -is st_{source} --dst-fusion rank-concat"
        ));
        assert!(run.ok().stdout.contains("order of fused rows in the source: grouped"), "{source}");
        holds(
            &env,
            &format!("out_{source}/fp16_1p_qkv"),
            &model,
            Sharding { fusion: Some(Fusion::RankConcat), ..WHOLE },
        );
    }
}

#[test]
fn files_of_another_order_beside_a_manifest_are_found_by_their_sums() {
    let model = Llama::small();
    let env = env_with_grouped(&model);
    env.line(&format!("{TRANSFER} -w 2 -y old.yaml -sc src -dc plain -is plain_st")).ok();
    let file = "fp16_2p_qkv/rank_1/checkpoint_1.ckpt";
    std::fs::copy(env.path("grouped").join(file), env.path("plain").join(file)).expect("a copy");
    let line = format!("{TRANSFER} -w 1 -y old.yaml -sc plain/fp16_2p_qkv -dc out -is st");
    env.line(&line).failed(1, &["w_qkv.weight in rank_1/checkpoint_1.ckpt", "manifest.json", "hint: "]);
    assert!(!env.path("out").exists());
}

/// The sums of one manifest do not vouch for the files of another.
#[cfg(unix)]
#[test]
fn check_source_does_not_vouch_for_files_of_several_conversions() {
    let model = Llama::small();
    let env = env_with_grouped(&model);
    env.line(&format!("{TRANSFER} -w 2 -y new.yaml -sc src -dc again -is again_st")).ok();
    std::fs::create_dir_all(env.path("joined")).expect("a directory");
    for (rank, dir) in ["grouped", "again"].into_iter().enumerate() {
        let to = env.path(&format!("{dir}/fp16_2p_qkv/rank_{rank}"));
        std::os::unix::fs::symlink(to, env.path(&format!("joined/rank_{rank}"))).expect("a link");
    }
    let line = format!("{TRANSFER} -w 1 -y new.yaml -sc joined -dc out -is st");
    env.line(&format!("{line} --check-source")).failed(1, &["--check-source", "joined has none"]);
    env.line(&line).ok();
    holds(&env, "out/fp16_1p_qkv", &model, Sharding { fusion: Some(Fusion::Grouped), ..WHOLE });
}
