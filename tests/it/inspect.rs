//! `inspect`, and the scripts that have the original's names.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Fusion, Llama, Run, Sharding, TestEnv, compare_dir, data, index};

fn inspect(path: &Path, more: &[&str]) -> Run {
    let env = TestEnv::new();
    let mut command = env.command(&["inspect"]);
    command.arg(path).args(more);
    Run::of(&mut command).ok()
}

fn find<'a>(listing: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let list = listing["tensors"].as_array().or(listing["params"].as_array()).expect("a list");
    list.iter().find(|t| t["name"] == name).expect("a listed name")
}

#[test]
fn a_file() {
    let path = data("formats/all_dtypes.ckpt");
    let listing = inspect(&path, &["--json"]).json();
    assert_eq!(listing["tensors"].as_array().unwrap().len(), 22);
    assert_eq!(find(&listing, "dt.bf16")["shape"], serde_json::json!([2, 3]));
    assert_eq!(find(&listing, "dt.bf16")["dtype"], "bf16");
    assert_eq!(find(&listing, "scalar.f32_0d")["shape"], serde_json::json!([]));
    assert_eq!(listing["bytes"], std::fs::metadata(&path).unwrap().len());
    let text = inspect(&path, &[]).stdout;
    assert!(text.contains("dt.bf16") && text.contains("[2, 3]"), "{text}");
}

#[test]
fn a_crc_trailer_is_shown() {
    let listing = inspect(&data("formats/mini_multichunk_bytes3k_crc.ckpt"), &["--json"]).json();
    assert_eq!(listing["ranks"][0]["crc"], true);
    let listing = inspect(&data("formats/mini_plain.ckpt"), &["--json"]).json();
    assert_eq!(listing["ranks"][0]["crc"], false);
}

#[test]
fn a_rank_directory_and_a_checkpoint() {
    let listing = inspect(&data("mindspore/safetensors/4p/rank_1"), &["--json"]).json();
    assert_eq!(listing["ranks"].as_array().unwrap().len(), 1);
    assert_eq!(find(&listing, "model.layers.0.attention.wo.weight")["shape"], serde_json::json!([64, 16]));

    let listing = inspect(&data("mindspore/safetensors/4p"), &["--json"]).json();
    assert_eq!(listing["format"], "safetensors");
    assert_eq!(listing["ranks"].as_array().unwrap().len(), 4);
    assert_eq!(listing["fused"], false);
    let tensor = find(&listing, "model.layers.0.attention.wo.weight");
    assert_eq!(tensor["shape"], serde_json::json!([64, 16]));
    assert_eq!(tensor["full_shape"], serde_json::json!([64, 64]));
    // 2 layers of 4 x 64 x 64 + 3 x 160 x 64 + 2 x 64, twice 96 x 64, 64.
    assert_eq!(listing["parameters"], 2 * (4 * 4096 + 3 * 10240 + 128) + 2 * 6144 + 64);
}

#[test]
fn a_fused_checkpoint() {
    let env = TestEnv::new();
    let sharding = Sharding { ranks: 2, fusion: Some(Fusion::RankConcat), vocabulary_whole: false };
    Llama::small().write(&env.path("src"), sharding, "ckpt");
    let listing = env.line("inspect src --json").ok().json();
    assert_eq!(listing["fused"], true);
    let tensor = find(&listing, "model.layers.0.attention.w_qkv.weight");
    assert_eq!(tensor["shape"], serde_json::json!([32, 32]));
    assert_eq!(tensor["full_shape"], serde_json::json!([64, 32]));
    assert!(env.line("inspect src").ok().stdout.contains("fused (w_qkv, w_gate_hidden)"));
}

#[test]
fn a_checkpoint_that_makes_no_model_is_listed_all_the_same() {
    let env = TestEnv::new();
    let sharding = Sharding { ranks: 2, fusion: None, vocabulary_whole: false };
    Llama::small().write(&env.path("src"), sharding, "ckpt");
    std::fs::copy(data("formats/mini_plain.ckpt"), env.path("src/rank_1/checkpoint_1.ckpt")).unwrap();
    let listing = env.line("inspect src --json").ok().json();
    assert_eq!(listing["ranks"].as_array().unwrap().len(), 2);
    assert!(listing["notes"][0].to_string().contains("full shapes are not known"), "{listing}");
}

#[test]
fn strategies() {
    let merged = data("mindspore/strategies/pp2mp2_merged.ckpt");
    let listing = inspect(&merged, &["--json"]).json();
    assert_eq!((&listing["stages"], &listing["devices"]), (&2.into(), &2.into()));
    let params = listing["params"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap());
    let weights = params.filter(|name| !name.starts_with("adam_") && !name.starts_with("accu_"));
    assert_eq!(weights.count(), 21);
    assert_eq!(find(&listing, "lm_head.weight")["stage"], 1);
    let stages = inspect(&data("mindspore/strategies/stages/pp2mp2"), &["--json"]).json();
    assert_eq!(stages["params"], listing["params"]);
    assert_eq!(stages["files"].as_array().unwrap().len(), 2);
    let json = inspect(&data("mindspore/strategies/mp4.json"), &["--json"]).json();
    assert_eq!(find(&json, "lm_head.weight")["full_shape"], serde_json::json!([96, 64]));
    let text = inspect(&data("mindspore/strategies/dp2mp2_opt_train.ckpt"), &[]).stdout;
    assert!(text.contains("strategy of 1 stage(s) of 4 device(s), 63 parameters"), "{text}");
}

#[test]
fn generated_strategies_are_read_as_such() {
    let env = TestEnv::new();
    let sharding = Sharding { ranks: 1, fusion: None, vocabulary_whole: false };
    Llama::small().write(&env.path("src"), sharding, "ckpt");
    env.write("model.yaml", Llama::small().yaml(true, true));
    env.line("-f distributed_weight_transfer -p fp16 -w 4 -y model.yaml -sc src -dc out -is st --no-sync").ok();
    // The directory that `-is` named, as the original's users name it.
    let listing = env.line("inspect st/fp16_4p --json").ok().json();
    assert_eq!(listing["devices"], 4);
    let parts = |name: &str| {
        let param = find(&listing, name);
        let devices = param["device_matrix"].as_array().expect("a matrix");
        let axes = param["tensor_map"].as_array().expect("a map");
        let count = |axis: &serde_json::Value| {
            let axes = axis.as_array().expect("device axes");
            let device = |a: &serde_json::Value| {
                devices[devices.len() - 1 - usize::try_from(a.as_u64().expect("an axis")).expect("small")].as_u64()
            };
            axes.iter().map(|a| device(a).expect("a number")).product::<u64>()
        };
        axes.iter().map(count).collect::<Vec<_>>()
    };
    assert_eq!(parts("model.layers.0.attention.w_qkv.weight"), [4, 1]);
    assert_eq!(parts("model.layers.0.attention.wo.weight"), [1, 4]);
    assert_eq!(parts("model.layers.0.ffn_norm.weight"), [1]);
    // `vocab_emb_dp: true`: whole on every rank.
    assert_eq!(parts("model.tok_embeddings.embedding_weight"), [1, 1]);
}

/// A place to call the scripts from, with the fused four ranks of the original's tests where its README has a model.
fn workplace() -> (TestEnv, PathBuf) {
    let env = TestEnv::new();
    let four = env.path("ckpt/llama2_7b/qkv/4_llama-2-7b");
    std::fs::create_dir_all(env.path("convert_ckpt_qkv")).expect("a directory");
    std::fs::create_dir_all(four.parent().expect("a parent")).expect("directories");
    std::os::unix::fs::symlink(data("reference/4p_qkv_to_8p/src"), four).expect("a link");
    let place = env.path("convert_ckpt_qkv");
    (env, place)
}

fn script(interpreter: &str, name: &str, place: &Path) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(name);
    let mut command = Command::new(interpreter);
    command.arg(path).current_dir(place).env("CKPT_CONVERT", env!("CARGO_BIN_EXE_ckpt-convert"));
    command
}

/// The original's README: `bash ckpt_convert.sh -f … -p … -w … -y … -sc … -dc … -is …`.
#[test]
fn the_scripts_take_the_originals_command_lines() {
    for name in ["ckpt_convert.sh", "ckpt_convert_for_16p.sh"] {
        let (env, place) = workplace();
        let mut command = script("bash", name, &place);
        command.args(["-f", "distributed_weight_transfer", "-p", "fp16", "-w", "8", "-y"]);
        command.arg(data("models/reference_mha.yaml")).args(["-sc", "../ckpt/llama2_7b/qkv/4_llama-2-7b"]);
        command.args(["-dc", "../ckpt/llama2_7b/qkv/8_llama-2-7b", "-is", "../strategy/llama2_7b/qkv/8_llama-2-7b"]);
        Run::of(&mut command).ok();
        let target = env.path("ckpt/llama2_7b/qkv/8_llama-2-7b/fp16_8p_qkv");
        compare_dir(&target, &index("reference"), "4p_qkv_to_8p/out/fp16_8p_qkv", "ckpt", |_| true);
        let strategies = env.path("strategy/llama2_7b/qkv/8_llama-2-7b/fp16_8p/strategy");
        assert!(strategies.join("ckpt_strategy_rank_7.ckpt").is_file());
    }
}

/// The original's README calls it with python, though it is a shell script; both must do.
#[test]
fn the_simplified_script_runs_under_bash_and_python() {
    for interpreter in ["bash", "python3"] {
        let (env, place) = workplace();
        let mut command = script(interpreter, "ckpt_convert_n_to_m.sh", &place);
        command.args(["-w", "8", "-sc", "../ckpt/llama2_7b/qkv/4_llama-2-7b", "-y"]);
        Run::of(command.arg(data("models/reference_mha.yaml"))).ok();
        let target = env.path("ckpt/llama2_7b/qkv/8_llama-2-7b/fp16_8p_qkv");
        compare_dir(&target, &index("reference"), "4p_qkv_to_8p/out/fp16_8p_qkv", "ckpt", |_| true);
        let strategies = env.path("strategy/llama2_7b/qkv/8_llama-2-7b/fp16_8p/strategy");
        assert!(strategies.join("ckpt_strategy_rank_0.ckpt").is_file(), "{interpreter}");
        // The status comes through.
        let mut command = script(interpreter, "ckpt_convert_n_to_m.sh", &place);
        Run::of(command.args(["-w", "8", "-sc", "nowhere"])).failed(1, &["nowhere does not exist"]);
    }
}

#[test]
fn help_names_every_option_of_the_original() {
    let env = TestEnv::new();
    let help = env.line("--help").ok().stdout;
    for option in ["-f", "-p", "-w", "-y", "-sc", "-dc", "-is", "-ts", "-pp", "-tm", "-d", "-dp", "-h", "n-to-m"] {
        assert!(help.contains(option), "{option}");
    }
    let short = env.line("-h").ok();
    assert!(short.stdout.contains("--src_ckpt_path"));
}
