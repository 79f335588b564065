//! `-f train_to_infer`: what is refused, and how the way out is named.

use std::path::PathBuf;

use crate::support::{Llama, Run, Tensor, TestEnv, TrainingRun, read_ranks, read_tensors, write_ckpt};

const BASE: &str = "-f train_to_infer -p fp16 -w 2 -sc src -ts ts -dc out -is st -y model.yaml --no-sync";

fn run_of(tied: bool) -> TrainingRun {
    let model = Llama { layers: 2, ..Llama::small() };
    TrainingRun { model, tied, stages: 2, matrix: vec![2, 2], seed: 5 }
}

/// A directory with a good training run of two stages of four ranks at step 70 in `src`, its strategies and its yaml.
fn env() -> TestEnv {
    env_of(&run_of(false))
}

fn env_of(run: &TrainingRun) -> TestEnv {
    let env = TestEnv::new();
    let full = run.full();
    run.write(&env.path("src"), &full, 70, "ckpt");
    run.write_strategies(&env.path("ts"), &full, true);
    env.write("model.yaml", run.yaml(false, false));
    env
}

fn file(env: &TestEnv, rank: u32) -> PathBuf {
    env.path(&format!("src/rank_{rank}/llama_rank_{rank}-1_70.ckpt"))
}

fn edit(env: &TestEnv, rank: u32, change: impl FnOnce(&mut Vec<Tensor>)) {
    let mut tensors = read_tensors(&file(env, rank));
    change(&mut tensors);
    std::fs::write(file(env, rank), write_ckpt(&tensors)).expect("written");
}

#[track_caller]
fn refused(env: &TestEnv, options: &str, said: &[&str]) {
    let before = env.tree();
    let run = env.line(&format!("{BASE} {options}"));
    run.failed(1, &[said, &["error: "]].concat());
    assert_eq!(env.tree(), before, "something was written");
}

#[track_caller]
fn accepted(env: &TestEnv, options: &str) -> Run {
    let run = env.line(&format!("{BASE} {options}")).ok();
    std::fs::remove_dir_all(env.path("out")).expect("a target");
    run
}

#[test]
fn several_steps_must_be_told_apart_and_the_common_ones_are_listed() {
    let env = env();
    let run = run_of(false);
    let older = TrainingRun { model: Llama { seed: 8, ..run.model.clone() }, ..run.clone() };
    older.write(&env.path("src"), &older.full(), 60, "ckpt");
    older.write(&env.path("src"), &older.full(), 50, "ckpt");
    std::fs::remove_file(env.path("src/rank_3/llama_rank_3-1_50.ckpt")).unwrap();
    refused(&env, "", &["rank_0 holds 3 checkpoints", "every rank has 1_60, 1_70", "--step 1_70", "--latest"]);
    refused(&env, "--step 50", &["step 50", "`rank_3`", "every rank has 1_60, 1_70"]);
    env.line(&format!("{BASE} --step 60")).ok();
    let yaml = env.write("whole.yaml", run.yaml(false, false));
    older.model.write(
        &env.path("older"),
        crate::support::Sharding { ranks: 1, fusion: None, vocabulary_whole: false },
        "ckpt",
    );
    let mut verify = env.command(&["verify", "older", "out/fp16_2p", "-y"]);
    Run::of(verify.arg(yaml)).ok();
    // One file each, but of two steps.
    for rank in 0..8 {
        let gone = if rank == 5 { 70 } else { 60 };
        std::fs::remove_file(env.path(&format!("src/rank_{rank}/llama_rank_{rank}-1_{gone}.ckpt"))).unwrap();
        let _ = std::fs::remove_file(env.path(&format!("src/rank_{rank}/llama_rank_{rank}-1_50.ckpt")));
    }
    std::fs::remove_dir_all(env.path("out")).unwrap();
    refused(&env, "", &["rank_0 holds llama_rank_0-1_70.ckpt", "rank_5 holds llama_rank_5-1_60.ckpt", "hint: "]);
}

#[test]
fn the_number_of_stages_is_checked_where_it_is_given() {
    let env = env();
    accepted(&env, "-pp 2");
    accepted(&env, "");
    refused(&env, "-pp 7", &["-pp 7", "2 pipeline stage"]);
    refused(&env, "-tm 3", &["-tm 3"]);
    let run = env.line("-f train_to_infer -p fp16 -w 2 -sc src -dc out -is st");
    run.failed(1, &["-ts"]);
    env.line("-f distributed_weight_transfer -p fp16 -w 2 -sc src --step 70").failed(1, &["--step", "train_to_infer"]);
    let to_hf = "-f ms_to_pt -p fp16 -sc src -ts ts -dc out -y model.yaml";
    env.line(&format!("{to_hf} --strip-only")).failed(1, &["--strip-only", "train_to_infer"]);
    env.line(&format!("{to_hf} --lora keep")).failed(1, &["--lora merge", "--lora drop"]);
    env.line(&format!("{to_hf} -pp 3")).failed(1, &["-pp 3", "2 pipeline stage"]);
    env.line("-f ms_to_pt -p w8a16 -sc src -ts ts -dc out").failed(1, &["ms_to_pt does not quantise", "quant_weight"]);
    env.line("-f train_to_infer -p w8a16 --strip-only -sc src -ts ts -dc out")
        .failed(1, &["--strip-only does not quantise"]);
}

#[test]
fn entries_of_which_nothing_is_known_are_listed() {
    let env = env();
    let unknown = |tensors: &mut Vec<Tensor>| {
        let counter = tensors.last().cloned().expect("a tensor");
        // A single number of that name could only be a counter.
        let (dims, bytes) = (vec![2], [counter.bytes.clone(), counter.bytes.clone()].concat());
        tensors.push(Tensor { name: "fancy_state".to_owned(), dims, bytes, ..counter.clone() });
        tensors.push(Tensor { name: "network.model.norm_out.weight".to_owned(), ..counter });
    };
    edit(&env, 0, unknown);
    refused(&env, "", &["`fancy_state`", "`network.model.norm_out.weight`", "--keep", "--drop"]);
    refused(&env, "--keep [", &["--keep [", "attern"]);
    refused(&env, "--drop fancy*", &["`network.model.norm_out.weight`"]);
    let run = accepted(&env, "--drop fancy* --drop network.* --json");
    assert_eq!(run.json()["ignored"], 2);
}

#[test]
fn adapters_are_named_and_refused_unless_something_is_said() {
    let env = env();
    let adapter = "model.layers.0.attention.wq.mindpet_delta_lora_a";
    for rank in 0..4 {
        edit(&env, rank, |tensors| {
            let scalar = tensors.last().cloned().expect("a tensor");
            tensors.push(Tensor { name: adapter.to_owned(), ..scalar });
        });
    }
    refused(&env, "", &[adapter, "--lora merge", "--lora keep", "--lora drop"]);
    let run = accepted(&env, "--lora drop --json");
    assert_eq!(run.json()["ignored"], 1);
}

#[test]
fn a_tied_embedding_must_be_one_tensor_in_both_stages() {
    let run = run_of(true);
    let env = env_of(&run);
    accepted(&env, "");
    // Whichever rank of the last stage: each is compared, asked or not, whatever its size.
    for rank in 4..8 {
        let good = std::fs::read(file(&env, rank)).unwrap();
        edit(&env, rank, |tensors| {
            let tensor = tensors.iter_mut().find(|t| t.name.contains("tok_embeddings")).expect("the embedding");
            tensor.bytes[0] ^= 1;
        });
        refused(&env, "", &["tok_embeddings", &format!("rank_{rank}")]);
        std::fs::write(file(&env, rank), good).unwrap();
    }
    accepted(&env, "");
}

/// What one rank of a stage lacks of it another stage has, cut over its ranks in its own way.
#[test]
fn the_other_stage_stands_in_for_a_rank_without_its_shard_of_a_tied_embedding() {
    for seed in 0..6 {
        let run = TrainingRun { seed, ..run_of(true) };
        let env = env_of(&run);
        env.line(&format!("{BASE} -dc whole -is whole_st")).ok();
        for rank in 0..8 {
            let good = std::fs::read(file(&env, rank)).unwrap();
            edit(&env, rank, |tensors| tensors.retain(|t| t.name != "model.tok_embeddings.embedding_weight"));
            env.line(&format!("{BASE} --overwrite --check-replicas")).ok();
            let read = |dir: &str| read_ranks(&env.path(&format!("{dir}/fp16_2p")), 2, "ckpt");
            assert_eq!(read("out"), read("whole"), "seed {seed}");
            std::fs::write(file(&env, rank), good).unwrap();
        }
        std::fs::remove_dir_all(env.path("out")).unwrap();
        for rank in 0..8 {
            edit(&env, rank, |tensors| tensors.retain(|t| t.name != "model.tok_embeddings.embedding_weight"));
        }
        refused(&env, "", &["lacks", "tok_embeddings"]);
    }
}

#[test]
fn a_missing_rank_and_a_missing_stage_are_named() {
    let env = env();
    std::fs::remove_dir_all(env.path("src/rank_6")).unwrap();
    refused(&env, "", &["missing without a replica: rank 6 of `", ".weight`", "hint: "]);
    for rank in [4, 5, 7] {
        std::fs::remove_dir_all(env.path(&format!("src/rank_{rank}"))).unwrap();
    }
    refused(&env, "", &["stage 1 (rank 4 to rank 7) is missing", "hint: "]);
}

#[test]
fn a_missing_stage_of_the_strategy_is_named() {
    let env = env();
    for rank in 0..4 {
        std::fs::remove_file(env.path(&format!("ts/ckpt_strategy_rank_{rank}.ckpt"))).unwrap();
    }
    refused(&env, "", &["no stage 0"]);
}

/// A byte cut off each kind of file: the message names the file.
#[test]
fn a_file_cut_short_is_named() {
    let cut = |path: &std::path::Path| {
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
    };
    let env = env();
    cut(&file(&env, 6));
    refused(&env, "", &["rank_6/llama_rank_6-1_70.ckpt", "cut short"]);
    let env = self::env();
    cut(&env.path("ts/ckpt_strategy_rank_4.ckpt"));
    refused(&env, "", &["ckpt_strategy_rank_4.ckpt"]);
    let env = TestEnv::new();
    let run = run_of(false);
    run.write(&env.path("src"), &run.full(), 70, "safetensors");
    run.write_strategies(&env.path("ts"), &run.full(), true);
    env.write("model.yaml", run.yaml(false, false));
    accepted(&env, "");
    cut(&env.path("src/rank_2/llama_rank_2-1_70.safetensors"));
    refused(&env, "", &["rank_2/llama_rank_2-1_70.safetensors"]);
}
