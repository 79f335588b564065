//! What is refused: with which status and words, and that nothing whatever is written.

use std::fmt::Write;
use std::path::PathBuf;

use crate::support::{
    Fusion, Llama, Run, Sharding, Tensor, TestEnv, crc32, data, read_tensors, record, write_ckpt, write_safetensors,
};

const PLAIN: Sharding = Sharding { ranks: 4, fusion: None, vocabulary_whole: false };
pub(crate) const BASE: &str = "-f distributed_weight_transfer -sc src -dc out -is st -p fp16";

/// A directory with a good checkpoint of four ranks in `src` and its `model.yaml`.
pub(crate) fn env() -> TestEnv {
    let env = TestEnv::new();
    Llama::small().write(&env.path("src"), PLAIN, "ckpt");
    env.write("model.yaml", Llama::small().yaml(false, false));
    env
}

fn file(env: &TestEnv, rank: u32) -> PathBuf {
    env.path(&format!("src/rank_{rank}/checkpoint_{rank}.ckpt"))
}

/// Changes the parameters of one rank.
fn edit(env: &TestEnv, rank: u32, change: impl FnOnce(&mut Vec<Tensor>)) {
    let path = file(env, rank);
    let mut tensors = read_tensors(&path);
    change(&mut tensors);
    std::fs::write(path, write_ckpt(&tensors)).expect("written");
}

fn find<'a>(tensors: &'a mut [Tensor], name: &str) -> &'a mut Tensor {
    tensors.iter_mut().find(|t| t.name.ends_with(name)).expect("a tensor of that name")
}

/// The command must fail and leave everything as it was.
#[track_caller]
pub(crate) fn refused_line(env: &TestEnv, line: &str, status: i32, said: &[&str]) {
    let before = env.tree();
    let run = env.line(line);
    run.failed(status, said);
    assert!(run.stdout.is_empty(), "{run:#?}");
    assert_eq!(env.tree(), before, "something was written");
}

/// The usual conversion with these options besides must fail as the input's fault.
#[track_caller]
fn refused(env: &TestEnv, options: &str, said: &[&str]) {
    refused_line(env, &format!("{BASE} {options}"), 1, &[said, &["error: "]].concat());
}

/// The same, with the model named and a hint given: the usual case.
#[track_caller]
fn bad_source(env: &TestEnv, said: &[&str]) {
    refused(env, "-w 2 -y model.yaml", said);
}

#[test]
fn the_good_checkpoint_of_these_tests_is_good() {
    let env = env();
    env.line(&format!("{BASE} -w 2 -y model.yaml")).ok();
    env.line("verify src out/fp16_2p -y model.yaml").ok();
}

#[test]
fn a_path_that_is_not_there() {
    let env = env();
    refused_line(
        &env,
        "-f distributed_weight_transfer -sc no/where -p fp16 -w 2",
        1,
        &["no/where does not exist", "hint: "],
    );
}

#[test]
fn a_missing_rank_directory() {
    let env = env();
    std::fs::remove_dir_all(env.path("src/rank_2")).unwrap();
    bad_source(&env, &["src has no `rank_2`", "hint: "]);
}

#[test]
fn a_missing_last_rank_directory() {
    let env = env();
    std::fs::remove_dir_all(env.path("src/rank_3")).unwrap();
    bad_source(&env, &[]);
    // Without a model too: the remaining q rows are not the model's width.
    refused(&env, "-w 1", &[]);
}

#[test]
fn an_empty_rank_directory() {
    let env = env();
    std::fs::remove_file(file(&env, 2)).unwrap();
    bad_source(&env, &["rank_2 holds no checkpoint", "hint: "]);
}

#[test]
fn strays_beside_the_rank_directories() {
    for stray in ["src/backup/notes.txt", "src/rank_00/a.ckpt", "src/rank_x/a.ckpt", "src/other.ckpt"] {
        let env = env();
        env.write(stray, "x");
        bad_source(&env, &[stray.split('/').nth(1).unwrap(), "src", "hint: "]);
    }
}

#[test]
fn two_checkpoints_in_a_rank_directory() {
    let env = env();
    std::fs::copy(file(&env, 1), env.path("src/rank_1/older.ckpt")).unwrap();
    bad_source(&env, &["rank_1", "checkpoint_1.ckpt", "older.ckpt", "hint: "]);
}

#[test]
fn a_directory_in_place_of_a_checkpoint() {
    let env = env();
    std::fs::remove_file(file(&env, 1)).unwrap();
    std::fs::create_dir(file(&env, 1)).unwrap();
    bad_source(&env, &["rank_1"]);
}

#[test]
fn a_ckpt_that_is_cut_short() {
    let whole = std::fs::read(file(&env(), 1)).unwrap();
    // In the first key, in the first length, in names and dims, in the data of the first and of the last.
    for length in [0, 1, 2, 3, 30, 60, 200, whole.len() / 2, whole.len() - 1] {
        let env = env();
        std::fs::write(file(&env, 1), &whole[..length]).unwrap();
        bad_source(&env, &["rank_1/checkpoint_1.ckpt"]);
    }
    // Between two records the file is good protobuf: then a parameter is missing.
    let env = env();
    edit(&env, 1, |tensors| tensors.truncate(5));
    bad_source(&env, &["`model.layers.0.", "hint: "]);
}

#[test]
fn a_safetensors_file_that_is_cut_short() {
    let env = TestEnv::new();
    Llama::small().write(&env.path("src"), PLAIN, "safetensors");
    env.write("model.yaml", Llama::small().yaml(false, false));
    let path = env.path("src/rank_1/checkpoint_1.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        bad_source(&env, &["rank_1/checkpoint_1.safetensors"]);
    }
    std::fs::write(&path, [whole, vec![0]].concat()).unwrap();
    bad_source(&env, &["rank_1/checkpoint_1.safetensors"]);
}

#[test]
fn content_that_is_shorter_or_longer_than_its_dims() {
    for change in [-2i64, 2] {
        let env = env();
        edit(&env, 1, |tensors| {
            let tensor = find(tensors, "attention.wo.weight");
            let length = i64::try_from(tensor.bytes.len()).unwrap() + change;
            tensor.bytes.resize(usize::try_from(length).unwrap(), 0);
        });
        bad_source(&env, &["rank_1/checkpoint_1.ckpt", "`model.layers.0.attention.wo.weight`", "hint: "]);
    }
}

#[test]
fn dims_that_no_file_can_have() {
    let with = |dims: &[u64], said: &str| {
        let env = env();
        let bytes = [std::fs::read(file(&env, 1)).unwrap(), record("huge", "Float16", dims, &[0; 4])].concat();
        std::fs::write(file(&env, 1), bytes).unwrap();
        bad_source(&env, &["rank_1/checkpoint_1.ckpt", said]);
    };
    for dims in [[u64::MAX / 2, 2], [1 << 40, 1 << 40], [0, 3]] {
        with(&dims, "`huge`");
    }
    with(&[u64::MAX], "negative");
}

#[test]
fn files_that_are_no_checkpoint() {
    let env = env();
    for content in ["", "hello, this is text\n", "\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}"] {
        std::fs::write(file(&env, 0), content).unwrap();
        bad_source(&env, &["rank_0/checkpoint_0.ckpt"]);
    }
}

#[test]
fn an_unknown_dtype() {
    let env = env();
    edit(&env, 1, |tensors| find(tensors, "wq.weight").dtype = "Float7".to_owned());
    bad_source(&env, &["checkpoint_1.ckpt", "wq.weight", "Float7"]);
}

#[test]
fn a_number_of_ranks_that_divides_nothing() {
    let env = env();
    // Any of these works, though 16 divides the attention heads.
    let hint = "hint: -w must divide the heads, the kv heads and the ffn rows: 1, 2, 4, 8\n";
    refused(&env, "-w 3 -y model.yaml", &["3 ranks do not divide the 16 attention heads", hint]);
    refused(&env, "-w 16 -y model.yaml", &["16 ranks do not divide the 8 kv heads", hint]);
    refused(&env, "-w 1000000 -y model.yaml", &["-w 1000000", "at most 65536 ranks"]);
    refused(&env, "-w 65536 -y model.yaml", &["65536 ranks do not divide"]);
    refused(&env, "-w 4294967295", &[]);
    // Without a model, rows decide.
    refused(&env, "-w 3", &["3", "hint: "]);
}

#[test]
fn a_strategy_of_another_model() {
    let env = env();
    let json = data("mindspore/strategies/mp4.json");
    refused(&env, &format!("-w 2 -ss {}", json.display()), &["`model.", "hint: "]);
    let mp2 = data("mindspore/strategies/mp2.ckpt");
    refused(&env, &format!("-ds {}", mp2.display()), &["model.layers.1.", "hint: "]);
    let nested = data("mindspore/strategies/nested_layout8.ckpt");
    refused(&env, &format!("-ds {} -y model.yaml", nested.display()), &["`", "hint: "]);
}

#[test]
fn a_strategy_for_another_number_of_ranks() {
    let env = env();
    let strategy = |name: &str| data("mindspore/strategies").join(name).display().to_string();
    refused(&env, &format!("-w 2 -ss {}", strategy("mp2.ckpt")), &["source", "2 ranks", "4", "hint: "]);
    refused(&env, &format!("-w 2 -ss {}", strategy("mp8.ckpt")), &["hint: "]);
    refused(&env, &format!("-w 4 -ds {}", strategy("mp2.ckpt")), &["target", "2 ranks", "4", "hint: "]);
}

#[test]
fn a_strategy_that_is_none() {
    let env = env();
    env.write("empty/readme.txt", "x");
    refused(&env, "-w 2 -ss nowhere", &["nowhere does not exist"]);
    refused(&env, "-w 2 -ss empty", &["empty holds no strategy", "hint: "]);
    refused(&env, "-w 2 -ss src/rank_0/checkpoint_0.ckpt", &["checkpoint_0.ckpt"]);
    refused(&env, "-w 2 -ds model.yaml", &["model.yaml"]);
}

#[test]
fn a_target_that_is_there() {
    let env = env();
    env.line(&format!("{BASE} -w 2 -y model.yaml")).ok();
    refused(&env, "-w 2 -y model.yaml", &["out/fp16_2p exists already", "hint: ", "--overwrite"]);
    // Whatever it is.
    let env = self::env();
    std::fs::create_dir_all(env.path("out/fp16_2p")).unwrap();
    refused(&env, "-w 2 -y model.yaml", &["out/fp16_2p exists already"]);
    let env = self::env();
    env.write("out/fp16_2p", "a file");
    refused(&env, "-w 2 -y model.yaml", &["out/fp16_2p exists already"]);
    let env = self::env();
    std::fs::create_dir(env.path("out")).unwrap();
    std::os::unix::fs::symlink("nowhere", env.path("out/fp16_2p")).unwrap();
    refused(&env, "-w 2 -y model.yaml", &["out/fp16_2p exists already"]);
}

#[test]
fn other_strategies_that_are_there() {
    let env = env();
    env.write("st/fp16_2p/strategy/ckpt_strategy_rank_0.ckpt", "another conversion's");
    refused(&env, "-w 2 -y model.yaml", &["st/fp16_2p/strategy", "hint: ", "--overwrite"]);
}

#[test]
fn a_target_that_cannot_be_made() {
    let env = env();
    env.write("file", "x");
    let line = "-f distributed_weight_transfer -sc src -p fp16 -w 2 -y model.yaml";
    refused_line(&env, &format!("{line} -dc file/out -is st"), 2, &["error: ", "file"]);
    refused_line(&env, &format!("{line} -dc out -is file/st"), 2, &["error: ", "file"]);
}

#[test]
fn a_target_in_the_source_or_around_it() {
    let env = env();
    let line = "-f distributed_weight_transfer -p fp16 -w 2 -y model.yaml --overwrite";
    refused_line(&env, &format!("{line} -sc src -dc src -is st"), 1, &["src/fp16_2p", "src", "hint: "]);
    refused_line(&env, &format!("{line} -sc src -dc src/rank_0/deep -is st"), 1, &["hint: "]);
    std::os::unix::fs::symlink("src", env.path("link")).unwrap();
    refused_line(&env, &format!("{line} -sc src -dc link -is st"), 1, &["hint: "]);
    // The source where the target goes, however it is called.
    Llama::small().write(&env.path("out/fp16_2p"), Sharding { ranks: 2, ..PLAIN }, "ckpt");
    for source in ["out/fp16_2p", "./out/../out/fp16_2p", "out/fp16_2p/"] {
        refused_line(&env, &format!("{line} -sc {source} -dc out -is st"), 1, &["hint: "]);
    }
    Llama::small().write(&env.path("out/fp16_2p/deep"), Sharding { ranks: 2, ..PLAIN }, "ckpt");
    refused_line(&env, &format!("{line} -sc out/fp16_2p/deep -dc out -is st"), 1, &["hint: "]);
    // Strategies in the source would be strays there, and the next run would refuse it.
    refused_line(&env, &format!("{line} -sc src -dc dst -is src"), 1, &["src", "hint: "]);
}

#[test]
fn strategies_and_target_in_one_place() {
    // An unfused target is out/fp16_2p, its strategies out/fp16_2p/strategy: one would be published over the other.
    let env = env();
    let line = "-f distributed_weight_transfer -p fp16 -w 2 -y model.yaml -sc src -dc out -is out";
    refused_line(&env, line, 1, &["out/fp16_2p", "hint: "]);
    refused_line(&env, &format!("{line} --overwrite"), 1, &["out/fp16_2p", "hint: "]);
}

#[test]
fn a_model_configuration_that_is_none() {
    let good = Llama::small().yaml(false, false);
    for (yaml, said) in [
        (good.replace("hidden_size", "hiden_size"), "`hidden_size`"),
        (good.replace("num_heads: 16", "num_heads: sixteen"), "num_heads"),
        (good.replace("num_heads: 16", "num_heads: -16"), "num_heads"),
        (good.replace("num_heads: 16", "num_heads: 0"), "num_heads"),
        (good.replace("hidden_size: 32", "hidden_size: 99999999999999999999"), "hidden_size"),
        (good.replace("qkv_concat: false", "qkv_concat: maybe"), "qkv_concat"),
        (good.replace("LlamaForCausalLM", "ChatGLM2ForConditionalGeneration"), "ChatGLM2ForConditionalGeneration"),
        ("model: [".to_owned(), "not readable"),
        ("hello".to_owned(), "model"),
        (String::new(), "model"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nb: *b\n".to_owned(), "model"),
    ] {
        let env = env();
        env.write("model.yaml", yaml);
        bad_source(&env, &["model.yaml", said]);
    }
    let env = env();
    env.write("binary.yaml", [0xff, 0xfe, 0x00]);
    refused(&env, "-w 2 -y binary.yaml", &["binary.yaml"]);
    refused(&env, "-w 2 -y llama9_9b", &["llama9_9b", "hint: ", "llama2_7b"]);
    refused(&env, "-w 2 -y src", &["src"]);
}

/// Nine levels of nine: a third of a billion values if the aliases were followed.
#[test]
fn a_yaml_bomb() {
    let env = env();
    let mut yaml = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        writeln!(yaml, "a{level}: &a{level} [{aliases}]").unwrap();
    }
    env.write("model.yaml", yaml + &Llama::small().yaml(false, false));
    bad_source(&env, &["model.yaml"]);
}

#[test]
fn a_model_of_other_dimensions() {
    for other in [
        Llama { layers: 2, ..Llama::small() },
        Llama { ffn: 96, ..Llama::small() },
        Llama { vocab: 48, ..Llama::small() },
        Llama { kv_heads: 16, rep: 1, ..Llama::small() },
        Llama { bias: true, ..Llama::small() },
    ] {
        let env = env();
        env.write("model.yaml", other.yaml(false, false));
        bad_source(&env, &["model.", "hint: "]);
    }
    let env = env();
    refused(&env, "-w 2 -y llama2_7b", &["`model.", "hint: "]);
}

#[test]
fn names_that_no_rule_knows() {
    let env = env();
    for rank in 0..4 {
        edit(&env, rank, |tensors| {
            let mut tensor = find(tensors, "wq.weight").clone();
            "model.layers.0.attention.wx.weight".clone_into(&mut tensor.name);
            tensors.push(tensor);
        });
    }
    refused(&env, "-w 2", &["model.layers.0.attention.wx.weight", "hint: ", "--ignore"]);
    bad_source(&env, &["model.layers.0.attention.wx.weight", "hint: ", "--ignore"]);
    env.line(&format!("{BASE} -w 2 -y model.yaml --ignore *.wx.weight")).ok();
}

#[test]
fn a_layer_both_fused_and_not() {
    let env = TestEnv::new();
    let fused = Sharding { fusion: Some(Fusion::RankConcat), ..PLAIN };
    env.write("model.yaml", Llama::small().yaml(false, false));
    Llama::small().write(&env.path("src"), fused, "ckpt");
    let full = Llama::small().full();
    for rank in 0..4 {
        let plain = Llama::small().rank(&full, rank.into(), PLAIN);
        edit(&env, rank, |tensors| tensors.extend(plain.into_iter().filter(|t| t.name.ends_with("wq.weight"))));
    }
    bad_source(&env, &["model.layers.0.attention.wq.weight"]);
}

#[test]
fn grouped_rows_without_a_model() {
    let env = TestEnv::new();
    let fused = Sharding { fusion: Some(Fusion::Grouped), ..PLAIN };
    Llama::small().write(&env.path("src"), fused, "ckpt");
    refused(&env, "-w 2 --src-fusion grouped", &["-y"]);
    refused(&env, "-w 2 --dst-fusion grouped", &["-y"]);
}

#[test]
fn ranks_that_disagree() {
    let halved = |t: &mut Tensor| {
        t.dims[0] /= 2;
        t.bytes.truncate(t.bytes.len() / 2);
    };
    let env = env();
    edit(&env, 2, |tensors| halved(find(tensors, "w1.weight")));
    bad_source(&env, &["`model.layers.0.feed_forward.w1.weight`", "hint: "]);
    let env = self::env();
    edit(&env, 2, |tensors| "BFloat16".clone_into(&mut find(tensors, "w1.weight").dtype));
    bad_source(&env, &["`model.layers.0.feed_forward.w1.weight`", "fp16", "bf16", "hint: "]);
    // A norm of another shape on one rank.
    let env = self::env();
    edit(&env, 2, |tensors| halved(find(tensors, "attention_norm.weight")));
    bad_source(&env, &["`model.layers.0.attention_norm.weight`", "hint: "]);
}

#[test]
fn a_parameter_that_is_not_there() {
    let env = env();
    edit(&env, 2, |tensors| tensors.retain(|t| !t.name.ends_with("w2.weight")));
    bad_source(&env, &["`model.layers.0.feed_forward.w2.weight`", "2", "hint: "]);
    let env = self::env();
    for rank in 0..4 {
        edit(&env, rank, |tensors| tensors.retain(|t| !t.name.ends_with("w2.weight")));
    }
    bad_source(&env, &["model.layers.0.feed_forward.w2.weight", "hint: "]);
    refused(&env, "-w 2", &["model.layers.0.feed_forward.w2.weight"]);
}

#[test]
fn a_parameter_that_is_there_twice() {
    let env = env();
    edit(&env, 1, |tensors| {
        let again = find(tensors, "wq.weight").clone();
        tensors.push(again);
    });
    bad_source(&env, &["checkpoint_1.ckpt", "model.layers.0.attention.wq.weight", "twice"]);
}

#[test]
fn functions_that_do_not_quantise() {
    let env = env();
    for function in ["pt_to_ms", "ms_to_pt"] {
        let line = format!("-f {function} -sc src -dc out -is st -p w8a16");
        refused_line(&env, &line, 1, &[function, "does not quantise", "-f quant_weight -p w8a16"]);
    }
}

#[test]
fn options_that_are_missing_or_wrong() {
    let env = env();
    for (line, said) in [
        ("-p fp16 -w 2 -sc src", "-f"),
        ("-f distributed_weight_transfer -w 2 -sc src", "-p"),
        ("-f distributed_weight_transfer -p fp16 -sc src", "-w"),
        ("-f distributed_weight_transfer -p fp16 -w 2", "-sc"),
        ("-f distributed_weight_transfer -p fp16 -w 0 -sc src", "-w 0"),
        ("-f distributed_weight_transfer -p fp16 -w -1 -sc src", "-1"),
        ("-f distributed_weight_transfer -p fp16 -w four -sc src", "four"),
        ("-f distributed_weight_transfer -p fp16 -w 99999999999 -sc src", "99999999999"),
        ("-f distributed_weight_transfer -p fp12 -w 2 -sc src", "fp12"),
        ("-f nothing -p fp16 -w 2 -sc src", "nothing"),
        ("-f distributed_weight_transfer -p fp16 -w 2 -sc src --no-such-option", "--no-such-option"),
        ("-f distributed_weight_transfer -p fp16 -w 2 -sc src --memory 1KiB", "--memory"),
        ("-f distributed_weight_transfer -p fp16 -w 2 -sc src --workers 0", "--workers"),
        ("-f distributed_weight_transfer -p fp16 -w 2 -sc src --ignore [", "--ignore"),
        ("-f distributed_weight_transfer -p fp16 -w 2 -sc src --max-shard-size 1MB", "--max-shard-size"),
        ("-f distributed_weight_transfer -p fp16 -w 2 -sc src --crc --format safetensors", "--crc"),
        ("n-to-m -w 2", "-sc"),
    ] {
        refused_line(&env, line, 1, &["error: ", said]);
    }
    // Of `verify`, 1 says that two checkpoints differ.
    refused_line(&env, "verify src", 2, &["error: ", "<B>"]);
}

#[test]
fn encrypted_checkpoints() {
    for cipher in ["aes_gcm", "aes_cbc", "sm4_cbc"] {
        let env = env();
        std::fs::copy(data(&format!("formats/mini_{cipher}_key16.ckpt")), file(&env, 0)).unwrap();
        bad_source(&env, &["rank_0/checkpoint_0.ckpt", "encrypted"]);
    }
}

#[test]
fn a_checksum_that_is_wrong() {
    let env = env();
    let path = file(&env, 1);
    let mut bytes = std::fs::read(&path).unwrap();
    let sum = crc32(&bytes);
    bytes.extend([b"crc_num\0\0\0\0\0\0".as_slice(), &sum.to_be_bytes()].concat());
    std::fs::write(&path, &bytes).unwrap();
    env.line(&format!("{BASE} -w 4 -y model.yaml")).ok();
    // One bit of the last tensor's data.
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    bad_source(&env, &["rank_1/checkpoint_1.ckpt", "CRC", "hint: ", "--no-crc-check"]);
    env.line(&format!("{BASE} -w 2 -y model.yaml --no-crc-check")).ok();
}

#[test]
fn formats_that_are_mixed() {
    let env = env();
    let tensors = read_tensors(&file(&env, 3));
    std::fs::remove_file(file(&env, 3)).unwrap();
    env.write("src/rank_3/checkpoint_3.safetensors", write_safetensors(&tensors));
    bad_source(&env, &["checkpoint_0.ckpt", "checkpoint_3.safetensors"]);
}

#[test]
fn an_index_that_does_not_fit_its_files() {
    let env = TestEnv::new();
    let tensors = Llama::small().full();
    let (first, second) = tensors.split_at(3);
    env.write("src/a.safetensors", write_safetensors(first));
    env.write("src/b.safetensors", write_safetensors(second));
    let index = |files: &[&str]| {
        let pairs = tensors.iter().zip(files.iter().chain(std::iter::repeat(&files[files.len() - 1])));
        let map: Vec<String> = pairs.map(|(t, file)| format!("{:?}: {file:?}", t.name)).collect();
        format!("{{\"metadata\": {{\"total_size\": 1}}, \"weight_map\": {{{}}}}}", map.join(", "))
    };
    let write = |text: String| env.write("src/model.safetensors.index.json", text);
    let (a, b) = ("a.safetensors", "b.safetensors");
    for (files, said) in [
        (vec![a, a, b], "not in the file"),
        (vec![a, a, a, b, "c.safetensors"], "c.safetensors"),
        (vec![a], "b.safetensors"),
        (vec![a, a, a, "../b.safetensors"], "../b.safetensors"),
        (vec![a, a, a, "/etc/passwd"], "/etc/passwd"),
    ] {
        write(index(&files));
        refused(&env, "-w 2", &["model.safetensors.index.json", said]);
    }
    write("{".to_owned());
    refused(&env, "-w 2", &["model.safetensors.index.json"]);
    write(index(&[a, a, a, b]));
    env.line(&format!("{BASE} -w 2 --heads 16")).ok();
    // A shard of an earlier save.
    env.write("src/old.safetensors", write_safetensors(first));
    refused_line(
        &env,
        "-f distributed_weight_transfer -p fp16 -w 4 -sc src -dc out4 -is st4",
        1,
        &["old.safetensors", "hint: "],
    );
}

#[test]
fn comparing_what_cannot_be_compared() {
    let env = env();
    // Trouble is distinguished from a difference, as by `cmp`.
    refused_line(&env, "verify src nowhere", 2, &["nowhere does not exist"]);
    refused_line(&env, "inspect nowhere", 1, &["nowhere does not exist"]);
    env.write("text.ckpt", "this is text");
    refused_line(&env, "inspect text.ckpt", 1, &["text.ckpt"]);
}

/// Differences of the headers are listed by name; it is a result, not an error.
#[test]
fn models_that_differ_in_names_or_dtypes() {
    let env = env();
    let other = Llama { layers: 2, ..Llama::small() };
    other.write(&env.path("more"), PLAIN, "ckpt");
    let before = env.tree();
    let run = env.line("verify src more");
    assert_eq!(run.status, Some(1), "{run:#?}");
    assert!(run.stdout.contains("`model.layers.1.attention.wq.weight` is only in the second"), "{run:#?}");
    let other = Llama { float: crate::support::Float::Bf16, ..Llama::small() };
    other.write(&env.path("bf16"), PLAIN, "ckpt");
    let run = env.line("verify src bf16 --json");
    assert_eq!(run.status, Some(1), "{run:#?}");
    assert_eq!(run.json()["same"], false);
    assert!(run.json()["differences"][0].to_string().contains("bf16"), "{run:#?}");
    std::fs::remove_dir_all(env.path("more")).unwrap();
    std::fs::remove_dir_all(env.path("bf16")).unwrap();
    let after: Vec<_> = env.tree().into_keys().collect();
    assert!(after.iter().all(|path| before.contains_key(path)));
    let _: Run = env.line("verify src src").ok();
}

/// As with the original scripts, whose wrappers append options.
#[test]
fn of_a_repeated_option_the_last_counts() {
    let env = env();
    let run = env.line("-f distributed_weight_transfer -p fp16 -w 3 -w 2 -sc nowhere -sc src -dc out -is st");
    assert_eq!(run.status, Some(0), "{run:#?}");
    assert!(env.path("out/fp16_2p/rank_1/checkpoint_1.ckpt").is_file());
}

#[test]
fn files_that_are_missing_or_too_large_are_wrong_input() {
    let env = TestEnv::new();
    for line in ["strategy convert none out.json", "merge-manifest none"] {
        env.line(line).failed(1, &["none", "No such file or directory"]);
    }
    env.write("large.yaml", vec![b'#'; 5 << 20]);
    env.line("strategy from-yaml large.yaml -w 1 out.ckpt").failed(1, &["large.yaml: 5242880 bytes, more than the"]);
    env.line("-f ms_to_pt -p keep -sc s -ds st").failed(1, &["writes one whole model: leave -ds out"]);
}
