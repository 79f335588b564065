//! Ten small plans as text, line by line: `tests/data/plans`.
use std::path::Path;

use ckpt_convert::internals::job::plan_of;
use ckpt_convert::job::{Fusion as Order, Lora};
use ckpt_convert::{Job, Precision};

use crate::support::{Float, Fusion, Llama, Sharding, Tensor, TestEnv, TrainingRun, data, write_ckpt};

/// The plan must be the one that is kept; with `BLESS=1` it is kept from now on.
#[track_caller]
fn check(name: &str, env: &TestEnv, job: &Job) {
    let planned = job.plan().unwrap_or_else(|error| panic!("{name}: {error}"));
    let found = plan_of(&planned).text(env.root());
    let path = data("plans").join(format!("{name}.txt"));
    if std::env::var_os("BLESS").is_some_and(|bless| bless == "1") {
        std::fs::write(&path, &found).expect("the fixture");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    for (number, (found, kept)) in (1..).zip(found.lines().zip(kept.lines())) {
        assert_eq!(found, kept, "{name}.txt, line {number} (BLESS=1 keeps what is new)");
    }
    assert_eq!(found.lines().count(), kept.lines().count(), "{name}.txt has other lines (BLESS=1 keeps what is new)");
}

/// Four kv heads of two query heads, 16 columns, one layer.
fn model() -> Llama {
    Llama { kv_heads: 4, ffn: 8, vocab: 8, bias: true, ..Llama::small() }
}

fn sharding(ranks: u64, fusion: Option<Fusion>) -> Sharding {
    Sharding { ranks, fusion, vocabulary_whole: false }
}

/// A source of so many ranks, and a job from it to a new one.
fn transfer(ranks: u64, source: Option<Fusion>, to: u32, target: Option<Fusion>) -> (TestEnv, Job) {
    let env = TestEnv::new();
    model().write(&env.path("src"), sharding(ranks, source), "ckpt");
    let yaml = env.write("model.yaml", model().yaml(target.is_some(), false));
    let order = |fusion| if fusion == Some(Fusion::Grouped) { Order::Grouped } else { Order::RankConcat };
    let mut job = Job::transfer(env.path("src"), env.path("out")).ranks(to).model(yaml.display().to_string());
    (job.source.fusion, job.target.fusion) = (Some(order(source)), Some(order(target)));
    (env, job)
}

#[test]
fn one_rank_to_four_that_are_fused() {
    let (env, job) = transfer(1, None, 4, Some(Fusion::RankConcat));
    check("1_to_4_fused", &env, &job.precision(Precision::Fp16));
}

#[test]
fn four_fused_ranks_to_one() {
    let (env, job) = transfer(4, Some(Fusion::RankConcat), 1, None);
    check("4_fused_to_1", &env, &job);
}

#[test]
fn two_grouped_ranks_to_four() {
    let (env, job) = transfer(2, Some(Fusion::Grouped), 4, Some(Fusion::Grouped));
    check("2_to_4_grouped", &env, &job);
}

#[test]
fn rank_concat_to_grouped() {
    let (env, job) = transfer(2, Some(Fusion::RankConcat), 2, Some(Fusion::Grouped));
    check("rank_concat_to_grouped", &env, &job);
}

/// Stages of one layer and four devices each, whose parameters are cut in many ways and by the optimizer besides.
fn training(stages: u64) -> TrainingRun {
    let model = Llama { layers: stages, bias: false, ..model() };
    TrainingRun { model, tied: false, stages, matrix: vec![2, 2], seed: 1 }
}

#[test]
fn strategies_of_two_stages_to_ranks() {
    let (env, run) = (TestEnv::new(), training(2));
    let full = run.full();
    let layouts = || full.iter().map(|t| run.layout(&t.name, &t.dims, u64::from(t.name.contains("layers.1."))));
    assert!(layouts().any(|layout| layout.size != 0), "the optimizer cuts something");
    assert!(layouts().any(|layout| layout.map.iter().any(|axes| axes.len() > 1)), "something is cut twice");
    for rank in 0..run.ranks() {
        let is_model = |tensor: &Tensor| full.iter().any(|of_model| of_model.name == tensor.name);
        let tensors: Vec<Tensor> = run.rank(&full, rank).into_iter().filter(is_model).collect();
        env.write(&format!("src/rank_{rank}/checkpoint_{rank}.ckpt"), write_ckpt(&tensors));
    }
    run.write_strategies(&env.path("ss"), &full, false);
    let yaml = env.write("model.yaml", run.yaml(true, false));
    let mut job = Job::transfer(env.path("src"), env.path("out")).ranks(2).model(yaml.display().to_string());
    (job.source.strategy, job.target.fusion) = (Some(env.path("ss")), Some(Order::RankConcat));
    check("strategy_to_ranks", &env, &job);
}

#[test]
fn a_training_run_to_ranks() {
    let (env, run) = (TestEnv::new(), training(2));
    let full = run.full();
    run.write(&env.path("src"), &full, 70, "ckpt");
    run.write_strategies(&env.path("ts"), &full, true);
    let yaml = env.write("model.yaml", run.yaml(true, true));
    let mut job = Job::train_to_infer(env.path("src"), env.path("out")).ranks(2).model(yaml.display().to_string());
    (job.source.train_strategy, job.target.fusion) = (Some(env.path("ts")), Some(Order::Grouped));
    check("train_to_infer", &env, &job.precision(Precision::Bf16));
}

#[test]
fn an_adapter_is_merged() {
    let (env, run) = (TestEnv::new(), training(1));
    let full = run.full();
    let mut all = full.clone();
    for tensor in full.iter().filter(|t| t.name.contains("attention.w") || t.name.contains("w2")) {
        let name = tensor.name.trim_end_matches(".weight");
        let factor = |tail: &str, dims: [u64; 2]| {
            let bytes = vec![0; usize::try_from(dims[0] * dims[1]).expect("small") * Float::Fp16.size()];
            Tensor { name: format!("{name}.{tail}"), dims: dims.to_vec(), bytes, ..tensor.clone() }
        };
        all.push(factor("mindpet_delta_lora_a", [3, tensor.dims[1]]));
        all.push(factor("mindpet_delta_lora_b", [tensor.dims[0], 3]));
    }
    run.write(&env.path("src"), &all, 70, "ckpt");
    run.write_strategies(&env.path("ts"), &all, true);
    let yaml = env.write("model.yaml", run.yaml(true, false));
    let mut job = Job::train_to_infer(env.path("src"), env.path("out")).ranks(2).model(yaml.display().to_string());
    (job.source.train_strategy, job.target.fusion) = (Some(env.path("ts")), Some(Order::RankConcat));
    (job.edits.lora, job.edits.lora_alpha) = (Some(Lora::Merge), Some(6.0));
    check("lora_merge", &env, &job.precision(Precision::Fp16));
}

#[test]
fn hugging_face_to_ranks() {
    let env = TestEnv::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tiny-llama/hf");
    for file in ["config.json", "model.safetensors"] {
        env.write(&format!("hf/{file}"), std::fs::read(source.join(file)).expect("the example"));
    }
    let mut job = Job::pt_to_ms(env.path("hf"), env.path("out")).ranks(2).fused(true);
    job.target.fusion = Some(Order::Grouped);
    check("pt_to_ms", &env, &job.precision(Precision::Fp32));
}

#[test]
fn ranks_to_hugging_face() {
    let (env, mut job) = transfer(2, Some(Fusion::Grouped), 1, None);
    job.function = ckpt_convert::Function::MsToPt;
    job.target.ranks = None;
    job.target.fusion = None;
    check("ms_to_pt", &env, &job);
}

#[test]
fn ranks_to_quantised_ranks() {
    let (env, mut job) = transfer(1, None, 2, Some(Fusion::RankConcat));
    job.function = ckpt_convert::Function::QuantWeight;
    check("quant_w8a16", &env, &job.precision(Precision::W8a16));
}
