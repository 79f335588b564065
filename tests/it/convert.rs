//! Every conversion that MindSpore's `transform_checkpoints` was seen to do, parameter for parameter, bit for bit.
//!
//! The cases, their sources and strategies are those of `tests/data/mindspore/make_golden.py`, chained as there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::support::{TestEnv, compare, compare_dir, data, index, read_ckpt, read_ranks, read_tensors};

/// A case of the peer. Source: a folder of `src/`, or an earlier case. Strategies: files, or one rank.
pub(crate) struct Case {
    name: &'static str,
    pub(crate) source: &'static str,
    from: Option<&'static str>,
    to: Option<&'static str>,
    pub(crate) precision: &'static str,
}

const fn case(
    name: &'static str,
    source: &'static str,
    from: Option<&'static str>,
    to: Option<&'static str>,
    precision: &'static str,
) -> Case {
    Case { name, source, from, to, precision }
}

const MP2: Option<&str> = Some("mp2.ckpt");
const MP4: Option<&str> = Some("mp4.ckpt");
const MP8: Option<&str> = Some("mp8.ckpt");
const MP16: Option<&str> = Some("mp16.ckpt");
const DP2MP2: Option<&str> = Some("dp2mp2.ckpt");
const OPT: Option<&str> = Some("dp2mp2_opt_train.ckpt");
const OPT2: Option<&str> = Some("dp4mp2_opt2_train.ckpt");
const PP: Option<&str> = Some("pp2mp2_merged.ckpt");
const PPOPT: Option<&str> = Some("pp2dp2mp2_opt_merged.ckpt");
const NESTED: Option<&str> = Some("nested_layout8.ckpt");

const CASES: [Case; 39] = [
    case("c01_1to2_fp16", "fp16_1p", None, MP2, "fp16"),
    case("c02_1to4_fp16", "fp16_1p", None, MP4, "fp16"),
    case("c03_1to8_fp16", "fp16_1p", None, MP8, "fp16"),
    case("c04_1to16_fp16", "fp16_1p", None, MP16, "fp16"),
    case("c05_4to2_fp16", "c02_1to4_fp16", MP4, MP2, "fp16"),
    case("c06_2to8_fp16", "c01_1to2_fp16", MP2, MP8, "fp16"),
    case("c07_8to16_fp16", "c03_1to8_fp16", MP8, MP16, "fp16"),
    case("c08_4to8_fp16", "c02_1to4_fp16", MP4, MP8, "fp16"),
    case("c09_4to1_fp16", "c02_1to4_fp16", MP4, None, "fp16"),
    case("c10_8to1_fp16", "c03_1to8_fp16", MP8, None, "fp16"),
    case("c11_16to4_fp16", "c04_1to16_fp16", MP16, MP4, "fp16"),
    case("c12_16to1_fp16", "c04_1to16_fp16", MP16, None, "fp16"),
    case("c13_16to8_fp16", "c04_1to16_fp16", MP16, MP8, "fp16"),
    case("c14_4json_to_2_fp16", "c02_1to4_fp16", Some("mp4.json"), MP2, "fp16"),
    case("c15_1to2_bf16", "bf16_1p", None, MP2, "bf16"),
    case("c16_2to1_bf16", "c15_1to2_bf16", MP2, None, "bf16"),
    case("c17_1to_dp2mp2_fp16", "fp16_1p", None, DP2MP2, "fp16"),
    case("c18_dp2mp2_to_mp4_fp16", "c17_1to_dp2mp2_fp16", DP2MP2, MP4, "fp16"),
    case("c19_mp4_to_dp2mp2_fp16", "c02_1to4_fp16", MP4, DP2MP2, "fp16"),
    case("c20_train_1to_dp2mp2opt", "train_fp32_1p", None, OPT, "fp32"),
    case("c21_train_dp2mp2opt_to_mp2", "c20_train_1to_dp2mp2opt", OPT, MP2, "fp32"),
    case("c22_train_dp2mp2opt_to_1", "c20_train_1to_dp2mp2opt", OPT, None, "fp32"),
    case("c23_train_dp2mp2opt_to_mp4", "c20_train_1to_dp2mp2opt", OPT, MP4, "fp32"),
    case("c24_train_1to_dp4mp2opt2", "train_fp32_1p", None, OPT2, "fp32"),
    case("c25_train_dp4mp2opt2_to_mp2", "c24_train_1to_dp4mp2opt2", OPT2, MP2, "fp32"),
    case("c26_1to_pp2mp2_fp16", "fp16_1p", None, PP, "fp16"),
    case("c27_pp2mp2_to_mp4_fp16", "c26_1to_pp2mp2_fp16", PP, MP4, "fp16"),
    case("c28_mp4_to_pp2mp2_fp16", "c02_1to4_fp16", MP4, PP, "fp16"),
    case("c29_pp2mp2_to_1_fp16", "c26_1to_pp2mp2_fp16", PP, None, "fp16"),
    case("c30_1to_pp2dp2mp2opt_fp16", "fp16_1p", None, PPOPT, "fp16"),
    case("c31_pp2dp2mp2opt_to_mp4_fp16", "c30_1to_pp2dp2mp2opt_fp16", PPOPT, MP4, "fp16"),
    case("c32_pp2dp2mp2opt_to_1_fp16", "c30_1to_pp2dp2mp2opt_fp16", PPOPT, None, "fp16"),
    case("c33_pp2dp2mp2opt_to_pp2mp2_fp16", "c30_1to_pp2dp2mp2opt_fp16", PPOPT, PP, "fp16"),
    case("c34_gqa_1to2", "gqa_fp16_1p", None, MP2, "fp16"),
    case("c35_gqa_2to4", "c34_gqa_1to2", MP2, MP4, "fp16"),
    case("c36_multichunk_1to2", "multichunk_fp16_1p", None, MP2, "fp16"),
    case("c37_1to_nested8", "nested_fp16_1p", None, NESTED, "fp16"),
    case("c38_1to_dp2mp2_fp32", "fp32_1p", None, DP2MP2, "fp32"),
    case("c39_nested8_to_1", "c37_1to_nested8", NESTED, None, "fp16"),
];

pub(crate) fn strategy(name: &str) -> PathBuf {
    data("mindspore/strategies").join(name)
}

/// The one directory in another.
pub(crate) fn only(dir: &Path) -> PathBuf {
    let mut entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let first = entries.next().expect("an entry").expect("a readable entry").path();
    assert!(entries.next().is_none(), "{} holds more than {}", dir.display(), first.display());
    first
}

/// Converts with strategies, or to one rank, into `out/<name>`. Returns the target.
fn convert(env: &TestEnv, name: &str, source: &Path, from: Option<&Path>, to: Option<&Path>, more: &[&str]) -> PathBuf {
    let (dst, st) = (env.path("out").join(name), env.path("st").join(name));
    let mut command = env.command(&["-f", "distributed_weight_transfer", "--no-sync", "-sc"]);
    command.arg(source).arg("-dc").arg(&dst).arg("-is").arg(st).args(more);
    if let Some(from) = from {
        command.arg("-ss").arg(from);
    }
    match to {
        Some(to) => command.arg("-ds").arg(to),
        None => command.args(["-w", "1"]),
    };
    crate::support::Run::of(&mut command).ok();
    only(&dst)
}

/// Runs a case and the cases that it starts from. Returns its target.
pub(crate) fn run(env: &TestEnv, case: &Case, more: &[&str]) -> PathBuf {
    let source = match CASES.iter().find(|other| other.name == case.source) {
        Some(other) => run(env, other, &[]),
        None => data("mindspore/src").join(case.source),
    };
    let (from, to) = (case.from.map(strategy), case.to.map(strategy));
    let more = [&["-p", case.precision], more].concat();
    convert(env, case.name, &source, from.as_deref(), to.as_deref(), &more)
}

pub(crate) fn find(name: &str) -> &'static Case {
    CASES.iter().find(|case| case.name == name).expect("a known case")
}

#[track_caller]
fn check(name: &str) {
    let env = TestEnv::new();
    let dir = run(&env, find(name), &[]);
    compare_dir(&dir, &index("mindspore"), &format!("out/{name}"), "ckpt", |_| true);
}

/// From a training to an inference strategy the peer copies each rank's own pieces of adam states, which mean nothing:
/// they are to be left out on request.
#[track_caller]
fn check_without_adam(name: &str) {
    let env = TestEnv::new();
    let dir = run(&env, find(name), &["--ignore", "adam_*"]);
    compare_dir(&dir, &index("mindspore"), &format!("out/{name}"), "ckpt", |n| !n.starts_with("adam_"));
}

macro_rules! cases {
    ($check:ident: $($name:ident)*) => { $(#[test] fn $name() { $check(stringify!($name)); })* };
}

cases! { check:
    c01_1to2_fp16 c02_1to4_fp16 c03_1to8_fp16 c04_1to16_fp16 c05_4to2_fp16 c06_2to8_fp16 c07_8to16_fp16 c08_4to8_fp16
    c09_4to1_fp16 c10_8to1_fp16 c11_16to4_fp16 c12_16to1_fp16 c13_16to8_fp16 c14_4json_to_2_fp16 c15_1to2_bf16
    c16_2to1_bf16 c17_1to_dp2mp2_fp16 c18_dp2mp2_to_mp4_fp16 c19_mp4_to_dp2mp2_fp16 c20_train_1to_dp2mp2opt
    c22_train_dp2mp2opt_to_1 c24_train_1to_dp4mp2opt2 c26_1to_pp2mp2_fp16 c27_pp2mp2_to_mp4_fp16
    c28_mp4_to_pp2mp2_fp16 c29_pp2mp2_to_1_fp16 c30_1to_pp2dp2mp2opt_fp16 c31_pp2dp2mp2opt_to_mp4_fp16
    c32_pp2dp2mp2opt_to_1_fp16 c33_pp2dp2mp2opt_to_pp2mp2_fp16 c34_gqa_1to2 c35_gqa_2to4 c36_multichunk_1to2
    c37_1to_nested8 c38_1to_dp2mp2_fp32 c39_nested8_to_1
}

cases! { check_without_adam:
    c21_train_dp2mp2opt_to_mp2 c23_train_dp2mp2opt_to_mp4 c25_train_dp4mp2opt2_to_mp2
}

#[test]
fn no_case_of_the_peer_is_left_out() {
    let known: BTreeSet<&str> = CASES.iter().map(|case| case.name).collect();
    let index = index("mindspore");
    let peer: BTreeSet<&str> =
        index.keys().filter_map(|key| key.strip_prefix("out/")?.split_once('/').map(|(case, _)| case)).collect();
    assert_eq!(known, peer);
    // Each has a test above: the source of this file is the list.
    let source = include_str!("convert.rs");
    let tested = source.split("cases! { check").skip(1).map(|part| part.split('}').next().unwrap_or(""));
    let tested: String = tested.collect();
    for name in known {
        assert!(tested.contains(name), "{name} has no test");
    }
}

#[test]
fn adam_states_do_not_reach_an_inference_target_unasked() {
    let env = TestEnv::new();
    let source = run(&env, find("c20_train_1to_dp2mp2opt"), &[]);
    let mut command = env.command(&["-f", "distributed_weight_transfer", "-p", "fp32", "-dc", "refused"]);
    command.arg("-sc").arg(source).arg("-ss").arg(strategy("dp2mp2_opt_train.ckpt"));
    command.arg("-ds").arg(strategy("mp2.ckpt"));
    crate::support::Run::of(&mut command).failed(1, &["adam_m.", "--ignore"]);
    assert!(!env.path("refused").exists());
}

/// The peer cannot use the JSON of a nested layout as a source, since it has lost the shapes; nor can anyone.
#[test]
fn c40_a_nested_layout_in_json_is_refused() {
    let env = TestEnv::new();
    let source = run(&env, find("c37_1to_nested8"), &[]);
    let mut command = env.command(&["-f", "distributed_weight_transfer", "-p", "fp16", "-w", "1", "-dc", "refused"]);
    command.arg("-sc").arg(source).arg("-ss").arg(strategy("nested_layout8.json"));
    crate::support::Run::of(&mut command).failed(1, &["error: ", "hint: ", "JSON", ".ckpt"]);
    assert!(!env.path("refused").exists());
}

#[test]
fn the_stages_in_a_directory_are_the_merged_strategy() {
    let env = TestEnv::new();
    let index = index("mindspore");
    let stages = data("mindspore/strategies/stages/pp2mp2");
    let source = data("mindspore/src/fp16_1p");
    let split = convert(&env, "to_stages", &source, None, Some(&stages), &["-p", "fp16"]);
    compare_dir(&split, &index, "out/c26_1to_pp2mp2_fp16", "ckpt", |_| true);
    let joined = convert(&env, "from_stages", &split, Some(&stages), Some(&strategy("mp4.ckpt")), &["-p", "fp16"]);
    compare_dir(&joined, &index, "out/c27_pp2mp2_to_mp4_fp16", "ckpt", |_| true);
    let opt = data("mindspore/strategies/stages/pp2dp2mp2_opt");
    let split = convert(&env, "to_opt", &source, None, Some(&opt), &["-p", "fp16"]);
    compare_dir(&split, &index, "out/c30_1to_pp2dp2mp2opt_fp16", "ckpt", |_| true);
    let whole = convert(&env, "from_opt", &split, Some(&opt), None, &["-p", "fp16"]);
    compare_dir(&whole, &index, "out/c32_pp2dp2mp2opt_to_1_fp16", "ckpt", |_| true);
}

#[test]
fn json_strategies_serve_as_source_and_target() {
    let env = TestEnv::new();
    let json = strategy("mp4.json");
    let split = convert(&env, "json", &data("mindspore/src/fp16_1p"), None, Some(&json), &["-p", "fp16"]);
    compare_dir(&split, &index("mindspore"), "out/c02_1to4_fp16", "ckpt", |_| true);
    let whole = convert(&env, "whole", &split, Some(&json), None, &["-p", "fp16"]);
    compare_dir(&whole, &index("mindspore"), "out/c09_4to1_fp16", "ckpt", |_| true);
}

#[test]
fn mindspores_safetensors_are_resharded_as_mindspore_does() {
    let env = TestEnv::new();
    let index = index("mindspore");
    let (mp2, mp4) = (strategy("mp2.ckpt"), strategy("mp4.ckpt"));
    let ranks = data("mindspore/safetensors/4p");
    let two = convert(&env, "ranks", &ranks, Some(&mp4), Some(&mp2), &["-p", "fp16"]);
    compare_dir(&two, &index, "out/c05_4to2_fp16", "safetensors", |_| true);
    let ckpt = convert(&env, "ckpt", &ranks, Some(&mp4), Some(&mp2), &["-p", "fp16", "--format", "ckpt"]);
    compare_dir(&ckpt, &index, "out/c05_4to2_fp16", "ckpt", |_| true);
    let unified = data("mindspore/safetensors/unified");
    let two = convert(&env, "unified", &unified, None, Some(&mp2), &["-p", "fp16"]);
    compare_dir(&two, &index, "out/c05_4to2_fp16", "safetensors", |_| true);
    // What the peer's own load_distributed_checkpoint made of the same file.
    let peer = data("mindspore/safetensors/from_unified_2p");
    for (rank, ours) in read_ranks(&two, 2, "safetensors").into_iter().enumerate() {
        let theirs = read_tensors(&peer.join(format!("rank_{rank}/net.safetensors")));
        let theirs: BTreeMap<_, _> = theirs.into_iter().map(|t| (t.name.clone(), t)).collect();
        assert_eq!(ours, theirs);
    }
}

#[test]
fn a_format_and_back_changes_nothing() {
    let env = TestEnv::new();
    let mp4 = strategy("mp4.ckpt");
    let source = data("mindspore/src/bf16_1p");
    let there = convert(&env, "there", &source, None, Some(&mp4), &["-p", "bf16", "--format", "safetensors"]);
    assert!(there.join("rank_3/checkpoint_3.safetensors").is_file());
    let back = convert(&env, "back", &there, Some(&mp4), None, &["-p", "bf16", "--format", "ckpt"]);
    let expected = &index("mindspore")["src/bf16_1p/rank_0/checkpoint_0.ckpt"];
    compare("back", &read_tensors(&back.join("rank_0/checkpoint_0.ckpt")), expected);
}

#[test]
fn a_crc_trailer_is_written_on_request_and_true() {
    let env = TestEnv::new();
    let source = data("mindspore/src/fp16_1p");
    let dir = convert(&env, "crc", &source, None, Some(&strategy("mp2.ckpt")), &["-p", "fp16", "--crc"]);
    let bytes = std::fs::read(dir.join("rank_1/checkpoint_1.ckpt")).unwrap();
    assert_eq!(&bytes[bytes.len() - 17..bytes.len() - 10], b"crc_num");
    // The reader checks it.
    assert_eq!(read_ckpt(&bytes).len(), 21);
    compare_dir(&dir, &index("mindspore"), "out/c01_1to2_fp16", "ckpt", |_| true);
}

#[test]
fn a_whole_model_directory_has_an_index_of_everything() {
    let env = TestEnv::new();
    let options = ["-p", "fp16", "--format", "safetensors", "--max-shard-size", "30KB"];
    let dir = convert(&env, "whole", &strategy_source(&env), Some(&strategy("mp4.ckpt")), None, &options);
    let map = std::fs::read(dir.join("model.safetensors.index.json")).unwrap();
    let map: serde_json::Value = serde_json::from_slice(&map).unwrap();
    let map: BTreeMap<String, String> = serde_json::from_value(map["weight_map"].clone()).unwrap();
    let files: BTreeSet<&String> = map.values().collect();
    assert!(files.len() > 3, "{files:?}");
    let mut all = Vec::new();
    for file in files {
        let tensors = read_tensors(&dir.join(file));
        let bytes = std::fs::metadata(dir.join(file)).unwrap().len();
        assert!(bytes <= 30_000 || tensors.len() == 1, "{file} has {bytes} bytes");
        for tensor in tensors {
            assert_eq!(&map[&tensor.name], file, "{}", tensor.name);
            all.push(tensor);
        }
    }
    assert_eq!(all.len(), map.len());
    compare("whole", &all, &index("mindspore")["src/fp16_1p/rank_0/checkpoint_0.ckpt"]);
    // It is a source again.
    let two = convert(&env, "two", &dir, None, Some(&strategy("mp2.ckpt")), &["-p", "fp16", "--format", "ckpt"]);
    compare_dir(&two, &index("mindspore"), "out/c01_1to2_fp16", "ckpt", |_| true);
}

fn strategy_source(env: &TestEnv) -> PathBuf {
    run(env, find("c02_1to4_fp16"), &[])
}

#[test]
fn by_rules_the_result_is_what_mindspores_strategies_give() {
    let env = TestEnv::new();
    let index = index("mindspore");
    let yaml = data("models/mindspore_llama.yaml");
    let source = data("mindspore/src/fp16_1p");
    let convert = |source: &Path, ranks: &str, place: &str| {
        let mut command = env.command(&["-f", "distributed_weight_transfer", "-p", "fp16", "-w", ranks, "--no-sync"]);
        command.arg("-y").arg(&yaml).arg("-sc").arg(source);
        command.args(["-dc", &format!("{place}/ckpt"), "-is", &format!("{place}/strategy")]);
        crate::support::Run::of(&mut command).ok();
        env.path(&format!("{place}/ckpt/fp16_{ranks}p"))
    };
    for (ranks, key) in [
        ("1", "src/fp16_1p"),
        ("2", "out/c01_1to2_fp16"),
        ("4", "out/c02_1to4_fp16"),
        ("8", "out/c03_1to8_fp16"),
        ("16", "out/c04_1to16_fp16"),
    ] {
        let dir = convert(&source, ranks, &format!("to{ranks}"));
        compare_dir(&dir, &index, key, "ckpt", |_| true);
        let strategies = env.path(&format!("to{ranks}/strategy/fp16_{ranks}p/strategy"));
        let names: BTreeSet<String> = std::fs::read_dir(&strategies)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let wanted = (0..ranks.parse().unwrap()).map(|rank: u32| format!("ckpt_strategy_rank_{rank}.ckpt")).collect();
        assert_eq!(names, wanted);
        // n to m without any strategy, and to one rank with the strategy that was written before.
        let four = convert(&dir, "4", &format!("from{ranks}"));
        compare_dir(&four, &index, "out/c02_1to4_fp16", "ckpt", |_| true);
        let whole = super::convert::convert(&env, ranks, &dir, Some(&strategies), None, &["-p", "fp16"]);
        compare_dir(&whole, &index, "src/fp16_1p", "ckpt", |_| true);
    }
}

#[test]
fn without_a_model_the_shapes_are_inferred_and_said() {
    let env = TestEnv::new();
    let mut command =
        env.command(&["-f", "distributed_weight_transfer", "-p", "fp16", "-w", "4", "--heads", "16", "-dc", "out"]);
    command.arg("-sc").arg(data("mindspore/src/gqa_fp16_1p"));
    let run = crate::support::Run::of(&mut command).ok();
    for said in ["hidden 64", "2 layers", "32 k rows", "ffn 160"] {
        assert!(run.stderr.contains(said), "{run:#?}");
    }
    compare_dir(&env.path("out/fp16_4p"), &index("mindspore"), "out/c35_gqa_2to4", "ckpt", |_| true);
    assert!(env.path("infer_strategy/fp16_4p/strategy/ckpt_strategy_rank_3.ckpt").is_file());
}
