//! `-f train_to_infer`: MindSpore's own results of training runs, and random runs against naive slicing.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::Config;

use crate::convert::{find, only, run as run_case, strategy};
use crate::support::{
    Float, Fusion, Llama, Run, Sharding, Tensor, TestEnv, TrainingRun, Values, cases, cast, compare_dir, data,
    fused_of, index, read_ranks,
};

/// From the training ranks of a case of the peer, with its strategy or its stages'.
fn infer(env: &TestEnv, name: &str, from: &str, to: &[&str]) -> (PathBuf, Run) {
    let case = find(name);
    let source = run_case(env, find(case.source), &[]);
    let (dst, st) = (env.path(&format!("infer_{name}")), env.path(&format!("st_{name}")));
    let mut command = env.command(&["-f", "train_to_infer", "-p", case.precision, "--no-sync", "--json", "-sc"]);
    command.arg(source).arg("-ts").arg(strategy(from)).arg("-dc").arg(&dst).arg("-is").arg(st).args(to);
    let run = Run::of(&mut command).ok();
    (only(&dst), run)
}

/// What the peer gives, without the training state that it passes through.
#[track_caller]
fn check(name: &str, from: &str, to: Option<&str>) {
    let env = TestEnv::new();
    let to = to.map(strategy);
    let to: Vec<&str> = to.as_ref().map_or(vec!["-w", "1"], |to| vec!["-ds", to.to_str().expect("UTF-8")]);
    let (dir, _) = infer(&env, name, from, &to);
    let keep = |n: &str| n.starts_with("model.") || n == "lm_head.weight";
    compare_dir(&dir, &index("mindspore"), &format!("out/{name}"), "ckpt", keep);
}

#[test]
fn data_parallel_with_optimizer_shards() {
    check("c21_train_dp2mp2opt_to_mp2", "dp2mp2_opt_train.ckpt", Some("mp2.ckpt"));
    check("c22_train_dp2mp2opt_to_1", "dp2mp2_opt_train.ckpt", None);
    check("c23_train_dp2mp2opt_to_mp4", "dp2mp2_opt_train.ckpt", Some("mp4.ckpt"));
}

#[test]
fn optimizer_shards_over_groups_of_two() {
    check("c25_train_dp4mp2opt2_to_mp2", "dp4mp2_opt2_train.ckpt", Some("mp2.ckpt"));
}

#[test]
fn pipeline_stages_merged() {
    check("c27_pp2mp2_to_mp4_fp16", "pp2mp2_merged.ckpt", Some("mp4.ckpt"));
    check("c29_pp2mp2_to_1_fp16", "pp2mp2_merged.ckpt", None);
}

#[test]
fn pipeline_stages_with_optimizer_shards_merged_or_in_a_directory() {
    for from in ["pp2dp2mp2_opt_merged.ckpt", "stages/pp2dp2mp2_opt"] {
        check("c31_pp2dp2mp2opt_to_mp4_fp16", from, Some("mp4.ckpt"));
        check("c32_pp2dp2mp2opt_to_1_fp16", from, None);
        check("c33_pp2dp2mp2opt_to_pp2mp2_fp16", from, Some("pp2mp2_merged.ckpt"));
    }
}

/// The full model that the runs came from, cut by the rules: nothing of the training state, each entry of it counted.
#[test]
fn the_full_model_is_what_all_of_them_are_of() {
    let env = TestEnv::new();
    let yaml = data("models/mindspore_llama.yaml");
    let yaml = yaml.to_str().expect("UTF-8");
    for (name, from) in [
        ("c22_train_dp2mp2opt_to_1", "dp2mp2_opt_train.ckpt"),
        ("c25_train_dp4mp2opt2_to_mp2", "dp4mp2_opt2_train.ckpt"),
    ] {
        let (dir, run) = infer(&env, name, from, &["-w", "1", "-y", yaml, "-tm", "2", "-pp", "1"]);
        let keep = |n: &str| n.starts_with("model.") || n == "lm_head.weight";
        compare_dir(&dir, &index("mindspore"), "src/train_fp32_1p", "ckpt", keep);
        let dropped = &run.json()["training_state"];
        for (rule, count) in [("adam_m.", 21), ("adam_v.", 21), ("global_step", 1), ("learning_rate", 1)] {
            assert_eq!(dropped[rule], count, "{rule} in {dropped}");
        }
        assert_eq!(run.json()["ignored"], 0);
        assert!(run.stderr.contains("modes 1 and 2 give the same result"), "{run:#?}");
    }
}

#[test]
fn strip_only_writes_the_same_ranks_without_the_training_state() {
    let env = TestEnv::new();
    let (dir, _) = infer(&env, "c23_train_dp2mp2opt_to_mp4", "dp2mp2_opt_train.ckpt", &["--strip-only"]);
    let keep = |n: &str| n.starts_with("model.") || n == "lm_head.weight";
    compare_dir(&dir, &index("mindspore"), "out/c20_train_1to_dp2mp2opt", "ckpt", keep);
    assert!(!env.path("st_c23_train_dp2mp2opt_to_mp4").exists(), "strategies of the source need not be written");
    // With stages too, and one rank without any strategy.
    let (dir, _) = infer(&env, "c31_pp2dp2mp2opt_to_mp4_fp16", "stages/pp2dp2mp2_opt", &["--strip-only"]);
    compare_dir(&dir, &index("mindspore"), "out/c30_1to_pp2dp2mp2opt_fp16", "ckpt", keep);
    let mut command = env.command(&["-f", "train_to_infer", "-p", "keep", "--strip-only", "-dc", "one", "--no-sync"]);
    Run::of(command.arg("-sc").arg(data("mindspore/src/train_fp32_1p"))).ok();
    compare_dir(&env.path("one/keep_1p_stripped"), &index("mindspore"), "src/train_fp32_1p", "ckpt", keep);
}

#[derive(Clone, Debug)]
struct Plan {
    run: TrainingRun,
    /// Of the source's files.
    format: &'static str,
    every_rank: bool,
    target: Sharding,
    norms: Float,
}

fn divisors(of: u64) -> Vec<u64> {
    (1..=of).filter(|n| of.is_multiple_of(*n)).collect()
}

fn plans() -> impl Strategy<Value = Plan> {
    let matrices = vec![vec![1], vec![4], vec![2, 2], vec![2, 3], vec![2, 2, 2], vec![1, 4, 2], vec![3, 2, 2]];
    let model = (
        prop::sample::select(vec![1u64, 2, 4, 6]),
        1u64..3,
        1u64..4,
        prop::sample::select(vec![12u64, 24, 36]),
        prop::sample::select(vec![8u64, 12, 13, 24]),
        1u64..4,
        prop::sample::select(Float::ALL.to_vec()),
        any::<u64>(),
    );
    let run = (prop::sample::select(matrices), 1u64..4, any::<bool>(), any::<u64>());
    let rest =
        (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<prop::sample::Index>());
    (model, run, rest).prop_map(
        |(model, (matrix, stages, tied, layouts), (ckpt, every_rank, fused, whole, wide, to))| {
            let (kv_heads, rep, head_dim, ffn, vocab, layers, float, seed) = model;
            let values = Values::Numbers;
            let model = Llama { kv_heads, rep, head_dim, ffn, vocab, layers, bias: false, float, values, seed };
            let ranks = divisors(kv_heads);
            Plan {
                run: TrainingRun { model, tied, stages: stages.min(layers), matrix, seed: layouts },
                format: if ckpt { "ckpt" } else { "safetensors" },
                every_rank,
                target: Sharding {
                    ranks: ranks[to.index(ranks.len())],
                    fusion: fused.then_some(Fusion::RankConcat),
                    vocabulary_whole: whole,
                },
                norms: if wide { Float::Fp32 } else { Float::Fp16 },
            }
        },
    )
}

fn config(count: u32) -> Config {
    let regressions = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/train.regressions");
    cases(count, regressions)
}

fn convert(env: &TestEnv, plan: &Plan, more: &[&str]) -> Run {
    let fused = plan.target.fusion.is_some();
    let yaml = env.write("model.yaml", plan.run.yaml(fused, plan.target.vocabulary_whole));
    let ranks = plan.target.ranks.to_string();
    let mut command = env.command(&["-f", "train_to_infer", "-p", "fp16", "-w", &ranks, "-sc", "src", "-ts", "ts"]);
    command.arg("-y").arg(yaml).args(["-dc", "out", "-is", "st", "--no-sync", "--json", "--check-replicas"]);
    command.args(["--norm-dtype", plan.norms.option(), "--format", "ckpt"]).args(more);
    Run::of(&mut command)
}

/// What each rank shall hold: the whole tensors cast, then cut. And what overflows, by the name in the target.
fn expected(plan: &Plan, full: &[Tensor]) -> (Vec<BTreeMap<String, Tensor>>, BTreeMap<String, u64>) {
    let from = plan.run.model.float;
    let mut overflowed = BTreeMap::new();
    let mut of = |to: Float| -> Vec<Tensor> {
        let tensors = full.iter().map(|tensor| {
            let (bytes, count) = cast(from, to, &tensor.bytes);
            let fused = fused_of(&tensor.name).filter(|_| plan.target.fusion.is_some());
            if count > 0 && to == (if tensor.name.contains("norm") { plan.norms } else { Float::Fp16 }) {
                *overflowed.entry(fused.map_or(tensor.name.clone(), |(whole, _)| whole)).or_insert(0) += count;
            }
            Tensor { bytes, dtype: to.dtype().to_owned(), ..tensor.clone() }
        });
        tensors.collect()
    };
    let half = of(Float::Fp16);
    let norms: Vec<Tensor> = if plan.norms == Float::Fp16 { half.clone() } else { of(plan.norms) };
    let model = Llama { float: Float::Fp16, ..plan.run.model.clone() };
    let rank = |rank| {
        let tensors = model.rank(&half, rank, plan.target).into_iter().map(|tensor| {
            let norm = norms.iter().find(|n| n.name == tensor.name && n.name.contains("norm"));
            (tensor.name.clone(), norm.cloned().unwrap_or(tensor))
        });
        tensors.collect()
    };
    ((0..plan.target.ranks).map(rank).collect(), overflowed)
}

fn target(env: &TestEnv, plan: &Plan) -> PathBuf {
    let suffix = if plan.target.fusion.is_some() { "_qkv" } else { "" };
    env.path(&format!("out/fp16_{}p{suffix}", plan.target.ranks))
}

/// The ranks that hold an element of the model that none of the others holds, of whatever stage.
fn irreplaceable(run: &TrainingRun, full: &[Tensor], gone: &[u64]) -> Vec<u64> {
    let mut found = Vec::new();
    for &rank in gone {
        let (stage, device) = (rank / run.devices(), rank % run.devices());
        let lost = full.iter().filter(|t| run.is_in(&t.name, stage)).any(|tensor| {
            let mine = run.layout(&tensor.name, &tensor.dims, stage).block(&tensor.dims, device).1;
            let mut held = HashSet::new();
            for other in (0..run.ranks()).filter(|other| !gone.contains(other)) {
                let (stage, device) = (other / run.devices(), other % run.devices());
                if run.is_in(&tensor.name, stage) {
                    held.extend(run.layout(&tensor.name, &tensor.dims, stage).block(&tensor.dims, device).1);
                }
            }
            mine.iter().any(|element| !held.contains(element))
        });
        found.extend(lost.then_some(rank));
    }
    found
}

fn remove(dir: &Path, ranks: &[u64]) {
    for rank in ranks {
        std::fs::remove_dir_all(dir.join(format!("rank_{rank}"))).expect("a rank directory");
    }
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn a_training_run_becomes_what_naive_slicing_gives(plan in plans()) {
        let env = TestEnv::new();
        let full = plan.run.full();
        plan.run.write(&env.path("src"), &full, 70, plan.format);
        plan.run.write_strategies(&env.path("ts"), &full, plan.every_rank);
        let run = convert(&env, &plan, &["-pp", &plan.run.stages.to_string()]);
        prop_assert_eq!(run.status, Some(0), "{:#?}", run);
        let (ranks, overflowed) = expected(&plan, &full);
        let written = read_ranks(&target(&env, &plan), plan.target.ranks, "ckpt");
        for (rank, (found, wanted)) in written.iter().zip(&ranks).enumerate() {
            prop_assert_eq!(found, wanted, "rank {}", rank);
        }
        let summary = run.json();
        let counted: BTreeMap<String, u64> = summary["overflowed"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|o| (o["name"].as_str().expect("a name").to_owned(), o["values"].as_u64().expect("a number")))
            .collect();
        prop_assert_eq!(counted, overflowed);
        prop_assert_eq!(&summary["training_state"]["adam_m."], full.len());
    }

    #[test]
    fn ranks_may_be_missing_exactly_where_others_hold_the_same(plan in plans(), picks in prop::collection::vec(any::<prop::sample::Index>(), 1..4)) {
        let env = TestEnv::new();
        let full = plan.run.full();
        plan.run.write(&env.path("src"), &full, 70, plan.format);
        plan.run.write_strategies(&env.path("ts"), &full, true);
        let ranks = usize::try_from(plan.run.ranks()).expect("small");
        let mut gone: Vec<u64> = picks.iter().map(|pick| pick.index(ranks) as u64).collect();
        gone.sort_unstable();
        gone.dedup();
        remove(&env.path("src"), &gone);
        let run = convert(&env, &plan, &[]);
        let lost = irreplaceable(&plan.run, &full, &gone);
        if lost.is_empty() {
            prop_assert_eq!(run.status, Some(0), "{:#?}", run);
            let written = read_ranks(&target(&env, &plan), plan.target.ranks, "ckpt");
            prop_assert_eq!(written, expected(&plan, &full).0);
            return Ok(());
        }
        prop_assert_eq!(run.status, Some(1), "{:#?}", run);
        prop_assert!(!env.path("out").exists(), "{:#?}", run);
        // All ranks gone: nothing is a training run any more. A stage gone: it is named. Else every rank and its parameters.
        let whole_stage = (0..plan.run.stages)
            .any(|stage| (0..plan.run.devices()).all(|d| gone.contains(&(stage * plan.run.devices() + d))));
        if whole_stage {
            prop_assert!(run.stderr.contains("stage ") || gone.len() == ranks, "{:#?}", run);
        } else {
            for rank in &lost {
                let said = run.stderr.lines().next().expect("a line").split(|c: char| !c.is_ascii_digit());
                prop_assert!(said.into_iter().any(|number| number == rank.to_string()), "rank {}: {:#?}", rank, run);
            }
            prop_assert!(run.stderr.contains("missing without a replica") && run.stderr.contains(".weight") || run.stderr.contains("embedding_weight"), "{:#?}", run);
        }
    }
}
