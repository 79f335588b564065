//! Inputs that lie, numbers that are absurd, and conclusions that must not be drawn.

use std::path::Path;
use std::process::Command;

use crate::support::{
    Fusion, Llama, Run, Sharding, Tensor, TestEnv, data, read_ranks, read_tensors, record, write_ckpt,
};

const PLAIN: Sharding = Sharding { ranks: 4, fusion: None, vocabulary_whole: false };
const BASE: &str = "-f distributed_weight_transfer -p fp16 -sc src -dc out -is st --no-sync";

fn env(sharding: Sharding) -> TestEnv {
    let env = TestEnv::new();
    Llama::small().write(&env.path("src"), sharding, "ckpt");
    env.write("model.yaml", Llama::small().yaml(sharding.fusion.is_some(), false));
    env
}

fn edit(dir: &Path, rank: u32, change: impl Fn(&mut Tensor)) {
    let path = dir.join(format!("rank_{rank}/checkpoint_{rank}.ckpt"));
    let mut tensors = read_tensors(&path);
    tensors.iter_mut().for_each(change);
    std::fs::write(path, write_ckpt(&tensors)).expect("written");
}

/// Runs with ten seconds of processor time and 3 GiB of addresses at most, so that a run-away is a failure.
fn bounded(env: &TestEnv, line: &str) -> Run {
    let script = format!("ulimit -t 10; ulimit -v 3000000; exec \"$0\" {line}");
    let mut command = Command::new("sh");
    command.current_dir(env.root()).args(["-c", &script, env!("CARGO_BIN_EXE_ckpt-convert")]);
    Run::of(&mut command)
}

#[track_caller]
fn refused(env: &TestEnv, line: &str, said: &[&str]) {
    let before = env.tree();
    bounded(env, line).failed(1, said);
    assert_eq!(env.tree(), before, "something was written");
}

/// A header of a megabyte that lists more than fits in what `--memory` allows, and the same where that is more.
#[test]
fn headers_take_no_more_memory_than_is_allowed() {
    let env = TestEnv::new();
    let tensor = |n| format!("\"{n}\":{{\"dtype\":\"F16\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    let header = format!("{{{}}}", (0..20_000).map(tensor).collect::<Vec<_>>().join(","));
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    env.write("src.safetensors", file);
    let line = "-f distributed_weight_transfer -p keep -w 1 -sc src.safetensors -dc out -is st";
    let said = "src.safetensors: its contents take more memory than --memory allows, 33554432 bytes (at byte 8)";
    refused(&env, &format!("{line} --memory 32MiB"), &[said, "hint: give a larger --memory"]);
    let more = bounded(&env, &format!("{line} --memory 256MiB"));
    assert!(!more.stderr.contains("--memory"), "{more:#?}");
}

/// A checkpoint whose one parameter every rank would hold whole, so that any number of ranks divides it.
fn norm_only() -> TestEnv {
    let env = TestEnv::new();
    env.write("src/rank_0/checkpoint_0.ckpt", record("model.norm_out.weight", "Float16", &[4], &[0; 8]));
    env
}

#[test]
fn an_absurd_number_of_ranks() {
    let env = norm_only();
    refused(&env, &format!("{BASE} -w 4294967295"), &["4294967295"]);
    refused(&env, &format!("{BASE} -w 100000000"), &["100000000"]);
}

/// A strategy file of a few dozen bytes can claim billions of devices.
#[test]
fn an_absurd_number_of_devices() {
    let matrix = [0x08, 0xff, 0xff, 0x03, 0x08, 0xff, 0xff, 0x03]; // [65535, 65535]
    let map = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]; // [-1]
    let delimited = |key: u8, bytes: &[u8]| [&[key, u8::try_from(bytes.len()).unwrap()], bytes].concat();
    let layout = [delimited(0x0a, &matrix), delimited(0x12, &map), vec![0x28, 0, 0x30, 0, 0x38, 0]].concat();
    let item = [delimited(0x0a, b"model.norm_out.weight"), delimited(0x12, &layout)].concat();
    let env = norm_only();
    env.write("strategy.ckpt", [vec![0x08, 0x01], delimited(0x1a, &item)].concat());
    refused(&env, &format!("{BASE} -ds strategy.ckpt"), &["error: "]);
    refused(&env, &format!("{BASE} -ss strategy.ckpt -w 1"), &["error: "]);
}

#[test]
fn an_absurd_number_of_layers() {
    let env = env(PLAIN);
    env.write("model.yaml", Llama::small().yaml(false, false).replace("num_layers: 1", "num_layers: 4000000000"));
    refused(&env, &format!("{BASE} -y model.yaml -w 2"), &["layer"]);
    // The same in a name.
    let env = norm_only();
    let name = "model.layers.4294967295.attention_norm.weight";
    env.write("src/rank_0/checkpoint_0.ckpt", record(name, "Float16", &[4], &[0; 8]));
    refused(&env, &format!("{BASE} -w 2"), &["layer"]);
}

#[test]
fn an_absurd_rank_directory() {
    let env = env(PLAIN);
    std::fs::create_dir(env.path("src/rank_4294967295")).unwrap();
    refused(&env, &format!("{BASE} -y model.yaml -w 2"), &["rank_4294967295", "hint: "]);
}

/// Opening one waits for a writer, for ever.
#[test]
fn a_pipe_in_place_of_a_checkpoint() {
    let env = env(PLAIN);
    let path = env.path("src/rank_2/checkpoint_2.ckpt");
    std::fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let line = format!("{BASE} -y model.yaml -w 2");
    let mut command = Command::new("timeout");
    command
        .current_dir(env.root())
        .args(["-s", "KILL", "10", env!("CARGO_BIN_EXE_ckpt-convert")])
        .args(line.split(' '));
    let run = Run::of(&mut command);
    assert!(matches!(run.status, Some(1 | 2)), "{run:#?}");
    assert!(run.stderr.contains("rank_2/checkpoint_2.ckpt"), "{run:#?}");
    assert!(!env.path("out").exists());
}

/// What a file calls its parameters must not reach the terminal as commands, nor look like lines of ours.
#[test]
fn names_with_control_characters() {
    let env = norm_only();
    let name = "model.\u{1b}[31mred\nerror: no such thing";
    env.write("src/rank_0/checkpoint_0.ckpt", record(name, "Float16", &[4], &[0; 8]));
    let refused = bounded(&env, &format!("{BASE} -w 2"));
    let listed = env.line("inspect src").ok();
    for text in [&refused.stderr, &listed.stdout] {
        assert!(text.contains("red") && !text.contains('\u{1b}') && !text.contains("\nerror: no such"), "{text:?}");
    }
}

/// Ranks that hold the same zeros may still hold different rows of the vocabulary: that they are alike proves nothing.
#[test]
fn a_vocabulary_of_zeros_keeps_its_rows() {
    for zero in ["lm_head.weight", "model.tok_embeddings.embedding_weight"] {
        let env = env(PLAIN);
        for rank in 0..4 {
            edit(&env.path("src"), rank, |t| {
                if t.name == zero {
                    t.bytes.fill(0);
                }
            });
        }
        let run = env.line(&format!("{BASE} -w 1"));
        // Refused as ambiguous, or right: nothing else.
        if run.status == Some(0) {
            let whole = &read_ranks(&env.path("out/fp16_1p"), 1, "ckpt")[0];
            assert_eq!(whole[zero].dims, [24, 32], "{zero}");
        } else {
            run.failed(1, &["-y"]);
        }
        // With the model named there is no doubt.
        env.line(&format!("{BASE} -w 2 -y model.yaml")).ok();
        let halves = read_ranks(&env.path("out/fp16_2p"), 2, "ckpt");
        assert_eq!(halves[1][zero].dims, [12, 32], "{zero}");
    }
}

/// Every rank has the norms; which of two versions counts nobody can say.
#[test]
fn replicas_that_differ() {
    let env = env(PLAIN);
    edit(&env.path("src"), 2, |t| {
        if t.name == "model.norm_out.weight" {
            t.bytes[5] ^= 1;
        }
    });
    let line = format!("{BASE} -w 2 -y model.yaml");
    refused(&env, &line, &["model.norm_out.weight", "rank_2"]);
    // Reported by the comparison too.
    let good = self::env(PLAIN);
    let mut command = env.command(&["verify", "-q"]);
    let run = Run::of(command.arg(good.path("src")).arg("src").args(["-y", "model.yaml"]));
    assert_eq!(run.status, Some(1), "{run:#?}");
    assert!(run.stdout.contains("model.norm_out.weight"), "{run:#?}");
}

/// Data-parallel replicas may be left out where a strategy shows that they are replicas; nothing else may.
#[test]
fn replicas_that_are_not_there() {
    let env = TestEnv::new();
    let strategy = |name: &str| data("mindspore/strategies").join(name).display().to_string();
    let source = data("mindspore/src/fp16_1p").display().to_string();
    let base = "-f distributed_weight_transfer -p fp16 --no-sync";
    env.line(&format!("{base} -sc {source} -dc a -is st_a -ds {}", strategy("dp2mp2.ckpt"))).ok();
    let back = format!("{base} -sc a/fp16_4p -is st_b -w 1 -ss {}", strategy("dp2mp2.ckpt"));
    std::fs::remove_dir_all(env.path("a/fp16_4p/rank_2")).unwrap();
    std::fs::remove_dir_all(env.path("a/fp16_4p/rank_3")).unwrap();
    env.line(&format!("{back} -dc b")).ok();
    let mut command = env.command(&["verify", "-q", "b/fp16_1p"]);
    Run::of(command.arg(source)).ok();
    std::fs::remove_dir_all(env.path("a/fp16_4p/rank_1")).unwrap();
    env.line(&format!("{back} -dc c")).failed(1, &["`model.", "1"]);
    assert!(!env.path("c").exists());
}

/// More files than may be open at once.
#[test]
fn more_files_than_may_be_open() {
    let env = env(Sharding { ranks: 8, fusion: Some(Fusion::RankConcat), ..PLAIN });
    for line in [
        format!("{BASE} -y model.yaml -w 8"),
        format!("{BASE} -w 1 --qkv_concat false --format safetensors --max-shard-size 100B"),
    ] {
        let script = format!("ulimit -n 20; exec \"$0\" {line}");
        let mut command = Command::new("sh");
        command.current_dir(env.root()).args(["-c", &script, env!("CARGO_BIN_EXE_ckpt-convert")]);
        let run = Run::of(&mut command);
        if run.status != Some(0) {
            // A limit that cannot be raised is a reason to stop, in order.
            run.failed(2, &["open files", "hint: "]);
            assert!(!env.path("out").exists());
        }
    }
}

/// The original's option parser takes the last of two, and scripts rely on it.
#[test]
fn of_an_option_given_twice_the_last_counts() {
    let env = env(PLAIN);
    env.line(&format!("{BASE} -w 2 -y nowhere.yaml -y model.yaml -w 8")).ok();
    assert!(env.path("out/fp16_8p").is_dir());
    assert!(!env.path("out/fp16_2p").exists());
}

/// `lm_head` may share the embedding's weight; then there is none in the files.
#[test]
fn a_model_with_tied_embeddings() {
    let env = env(PLAIN);
    for rank in 0..4 {
        let path = env.path(&format!("src/rank_{rank}/checkpoint_{rank}.ckpt"));
        let mut tensors = read_tensors(&path);
        tensors.retain(|t| t.name != "lm_head.weight");
        std::fs::write(path, write_ckpt(&tensors)).unwrap();
    }
    refused(&env, &format!("{BASE} -y model.yaml -w 2"), &["lm_head.weight", "hint: "]);
    let yaml = Llama::small().yaml(false, false);
    env.write("model.yaml", yaml.replace("qkv_concat", "tie_word_embeddings: true\n    qkv_concat"));
    env.line(&format!("{BASE} -y model.yaml -w 2")).ok();
    let (full, model) = (Llama::small().full(), Llama::small());
    for (rank, found) in (0..).zip(read_ranks(&env.path("out/fp16_2p"), 2, "ckpt")) {
        let mut wanted = model.rank(&full, rank, Sharding { ranks: 2, ..PLAIN });
        wanted.retain(|t| t.name != "lm_head.weight");
        assert_eq!(found.into_values().collect::<Vec<_>>(), {
            wanted.sort_by(|a, b| a.name.cmp(&b.name));
            wanted
        });
    }
}

/// 50 kB of aliases, or of merge keys, name more values than fit the memory.
#[test]
fn a_yaml_of_aliases_or_merge_keys_is_refused_with_its_name_and_the_limit() {
    let env = env(PLAIN);
    let repeat = |make: &dyn Fn(usize) -> String| (0..10_000).map(make).collect::<Vec<_>>().concat();
    let keys = repeat(&|n| format!("k{n}: 1,"));
    let merges = repeat(&|n| format!("  c{n}:\n    <<: *a\n"));
    for bomb in [
        format!("a: &a [{}]\nb: [{}]\n", "x,".repeat(10_000), "*a,".repeat(10_000)),
        format!("a: &a {{{keys}}}\nb:\n{merges}"),
    ] {
        env.write("bomb.yaml", bomb);
        for line in [&format!("{BASE} -w 2 -y bomb.yaml"), "strategy from-yaml bomb.yaml -w 2 out.ckpt"] {
            refused(&env, line, &["error: bomb.yaml: ", "more than 100000 values", "line "]);
        }
    }
    env.write("bomb.yaml", "[".repeat(100_000));
    refused(&env, &format!("{BASE} -w 2 -y bomb.yaml"), &["error: bomb.yaml: ", "more than 64 levels", "line 1"]);
}

/// Editors write other encodings, and an editor of Windows begins UTF-8 with a mark and ends lines with two characters.
#[test]
fn a_yaml_of_another_encoding_is_refused_by_its_line_and_one_of_windows_is_read() {
    let env = env(PLAIN);
    let yaml = Llama::small().yaml(false, false);
    let line = yaml.lines().count() + 1;
    env.write("gbk.yaml", [yaml.as_bytes(), b"note: \xc4\xfa\n"].concat());
    let said = format!("error: gbk.yaml: the model configuration is not readable: line {line} is not UTF-8");
    refused(&env, &format!("{BASE} -w 2 -y gbk.yaml"), &[&said]);
    env.write("windows.yaml", format!("\u{feff}{}", yaml.replace('\n', "\r\n")));
    bounded(&env, &format!("{BASE} -w 2 -y windows.yaml --dry-run")).ok();
}

#[test]
fn ranks_of_two_formats_are_refused_with_a_hint() {
    let env = env(PLAIN);
    Llama::small().write(&env.path("other"), PLAIN, "safetensors");
    let ranks = ["src", "other"].map(|dir| env.path(&format!("{dir}/rank_3")));
    std::fs::remove_file(ranks[0].join("checkpoint_3.ckpt")).expect("removed");
    let name = "checkpoint_3.safetensors";
    std::fs::copy(ranks[1].join(name), ranks[0].join(name)).expect("copied");
    let said = ["one checkpoint has one format", "hint: keep the files of one format there"];
    refused(&env, &format!("{BASE} -w 2 -y model.yaml"), &said);
}
