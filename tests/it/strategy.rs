//! `strategy` and `doctor`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{Fusion, Llama, Run, Sharding, Tensor, TestEnv, TrainingRun, data, read_tensors, write_ckpt};

fn strategies(name: &str) -> String {
    data("mindspore/strategies").join(name).to_str().expect("UTF-8").to_owned()
}

fn show(env: &TestEnv, path: &str) -> Value {
    env.run(&["strategy", "show", "--json", path]).ok().json()
}

/// Parameter to what is said of it, without the full shape, which only JSON states.
fn layouts(listing: &Value) -> BTreeMap<String, Value> {
    let params = listing["params"].as_array().expect("a list").iter().cloned();
    let named = params.map(|mut param| {
        param["full_shape"] = Value::Null;
        (format!("{} {}", param["stage"], param["name"]), param)
    });
    named.collect()
}

/// The fields of a message, each with its key, sorted: MindSpore takes the files in the order of the directory.
fn fields(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Some(&key) = bytes.first() {
        let varint = |bytes: &[u8]| {
            let len = bytes.iter().position(|b| b & 0x80 == 0).expect("a varint") + 1;
            (len, bytes[..len].iter().rev().fold(0usize, |value, b| value << 7 | usize::from(b & 0x7f)))
        };
        let (len, value) = varint(&bytes[1..]);
        let end = 1 + len + if key & 7 == 2 { value } else { 0 };
        found.push(bytes[..end].to_vec());
        bytes = &bytes[end..];
    }
    found.sort();
    found
}

/// Item for item, byte for byte, what MindSpore's `merge_pipeline_strategys` made of the same files.
#[test]
fn stages_are_merged_as_mindspore_merges_them() {
    let env = TestEnv::new();
    for name in ["pp2mp2", "pp2dp2mp2_opt"] {
        let out = format!("{name}.ckpt");
        env.run(&["strategy", "merge", &strategies(&format!("stages/{name}")), &out]).ok();
        let (ours, theirs) = (
            std::fs::read(env.path(&out)).unwrap(),
            std::fs::read(strategies(&format!("{name}_merged.ckpt"))).unwrap(),
        );
        assert_eq!(fields(&ours), fields(&theirs), "{name}");
        assert!(fields(&ours).len() > 40, "{name}");
        let again = env.run(&["strategy", "merge", &strategies(&format!("stages/{name}")), &out]);
        again.failed(1, &[&out, "exist"]);
    }
    // In JSON the same.
    for stage in ["0", "1"] {
        let from = strategies(&format!("stages/pp2dp2mp2_opt/strategy_stage{stage}.ckpt"));
        std::fs::create_dir_all(env.path("json")).unwrap();
        env.run(&["strategy", "convert", &from, &format!("json/stage{stage}.json")]).ok();
    }
    env.run(&["strategy", "merge", "json", "merged.json"]).ok();
    let merged = layouts(&show(&env, "merged.json"));
    assert_eq!(merged, layouts(&show(&env, &strategies("pp2dp2mp2_opt_merged.ckpt"))));
    assert!(merged.keys().any(|name| name.starts_with("1 ")));
    env.run(&["strategy", "merge", &strategies("pp2mp2_merged.ckpt"), "twice.ckpt"]).failed(1, &["merged already"]);
    env.run(&["strategy", "merge", &strategies("stages/pp2mp2"), "x.json"]).failed(1, &["x.json", "protobuf"]);
}

/// MindSpore wrote the same strategy in both encodings.
#[test]
fn a_strategy_is_converted_to_json_and_back() {
    let env = TestEnv::new();
    let yaml = data("models/mindspore_llama.yaml").to_str().expect("UTF-8").to_owned();
    env.run(&["strategy", "convert", &strategies("mp4.ckpt"), "mp4.json", "-y", &yaml]).ok();
    let read = |path: &std::path::Path| serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(read(&env.path("mp4.json")), read(strategies("mp4.json").as_ref()));
    env.run(&["strategy", "convert", "mp4.json", "mp4.ckpt"]).ok();
    let back = layouts(&show(&env, "mp4.ckpt"));
    assert_eq!(back, layouts(&show(&env, &strategies("mp4.ckpt"))));
    assert_eq!(back.len(), 21);
    // Optimizer shards survive; nested layouts do not, and are refused.
    let train = strategies("dp2mp4_opt_train.ckpt");
    env.run(&["strategy", "convert", &train, "train.json"]).ok();
    assert_eq!(layouts(&show(&env, "train.json")), layouts(&show(&env, &train)));
    let nested = env.run(&["strategy", "convert", &strategies("nested_layout8.ckpt"), "nested.json"]);
    nested.failed(1, &["nested layout"]);
    assert!(!env.path("nested.json").exists());
}

/// Without MindSpore the same layouts as its compiler gives.
#[test]
fn a_strategy_from_a_yaml_is_what_mindspores_compiler_gives() {
    let env = TestEnv::new();
    let yaml = data("models/mindspore_llama.yaml").to_str().expect("UTF-8").to_owned();
    for ranks in ["2", "4", "8", "16"] {
        let (one, dir) = (format!("mp{ranks}.ckpt"), format!("dir{ranks}"));
        env.run(&["strategy", "from-yaml", &yaml, "-w", ranks, &one]).ok();
        env.run(&["strategy", "from-yaml", &yaml, "-w", ranks, &dir]).ok();
        let compiled = layouts(&show(&env, &strategies(&format!("mp{ranks}.ckpt"))));
        assert_eq!(layouts(&show(&env, &one)), compiled);
        assert_eq!(layouts(&show(&env, &dir)), compiled);
    }
    env.run(&["strategy", "from-yaml", &yaml, "-w", "4", "mp4.json"]).ok();
    let json = show(&env, "mp4.json");
    assert_eq!(json["params"][0]["full_shape"], serde_json::json!([96, 64]));
    env.run(&["strategy", "from-yaml", &yaml, "-w", "3", "three.ckpt"]).failed(1, &["3 ranks do not divide"]);
}

fn training(env: &TestEnv) -> TrainingRun {
    let model = Llama { layers: 2, ..Llama::small() };
    let run = TrainingRun { model, tied: false, stages: 2, matrix: vec![2, 2], seed: 5 };
    let full = run.full();
    run.write(&env.path("src"), &full, 70, "ckpt");
    run.write_strategies(&env.path("ts"), &full, true);
    env.write("model.yaml", run.yaml(false, false));
    run
}

const DOCTOR: &str = "doctor src -ts ts -y model.yaml";

/// Something is wrong: the findings say so, each with its remedy, and the status is 1.
#[track_caller]
fn ill(env: &TestEnv, line: &str, said: &[&str]) {
    let run = env.line(line);
    assert_eq!(run.status, Some(1), "{run:#?}");
    for words in said {
        assert!(run.stdout.contains(words), "{words:?} is not said: {run:#?}");
    }
    let wrong = run.stdout.lines().filter(|line| line.contains("WRONG")).count();
    let remedies = run.stdout.lines().filter(|line| line.contains("remedy: ")).count();
    assert!(wrong > 0 && remedies >= wrong, "{run:#?}");
    assert!(!run.stderr.contains("panicked"), "{run:#?}");
}

#[track_caller]
fn well(env: &TestEnv, line: &str) -> Run {
    let run = env.line(line).ok();
    assert!(run.stdout.contains("nothing is wrong"), "{run:#?}");
    run
}

#[test]
fn a_healthy_run_is_well() {
    let env = TestEnv::new();
    training(&env);
    let run = well(&env, DOCTOR);
    assert!(run.stdout.contains("adam_m."), "{run:#?}");
    let json = env.line(&format!("{DOCTOR} --json")).ok().json();
    assert_eq!(json["well"], true);
    let peers = data("mindspore/src/train_fp32_1p");
    well(&env, &format!("doctor {}", peers.display()));
}

#[test]
fn missing_ranks_and_stages_and_ranks_too_many() {
    let env = TestEnv::new();
    training(&env);
    std::fs::create_dir_all(env.path("src/rank_8")).unwrap();
    std::fs::copy(env.path("src/rank_0/llama_rank_0-1_70.ckpt"), env.path("src/rank_8/llama_rank_8-1_70.ckpt"))
        .unwrap();
    std::fs::remove_dir_all(env.path("src/rank_6")).unwrap();
    ill(&env, DOCTOR, &["`rank_8` of a strategy for 8 ranks", "missing without a replica: rank 6"]);
    for rank in [4, 5, 7] {
        std::fs::remove_dir_all(env.path(&format!("src/rank_{rank}"))).unwrap();
    }
    ill(&env, DOCTOR, &["stage 1 (rank 4 to rank 7) is missing"]);
}

#[test]
fn steps_side_by_side_stale_files_and_interrupted_saves() {
    let env = TestEnv::new();
    let run = training(&env);
    run.write(&env.path("src"), &run.full(), 60, "ckpt");
    env.write("src/rank_3/llama_rank_3-1_80.ckpt.tmp", "half");
    ill(
        &env,
        DOCTOR,
        &["several checkpoints in one directory", "every rank has 1_60, 1_70", "rank_3/llama_rank_3-1_80.ckpt.tmp"],
    );
    well(&env, &format!("{DOCTOR} --step 60"));
    for rank in 0..8 {
        let gone = if rank == 2 { 70 } else { 60 };
        std::fs::remove_file(env.path(&format!("src/rank_{rank}/llama_rank_{rank}-1_{gone}.ckpt"))).unwrap();
    }
    ill(&env, DOCTOR, &["not of step 1_70", "rank_2 (step 1_60)", "stale"]);
}

#[test]
fn a_strategy_of_another_run() {
    let env = TestEnv::new();
    let run = training(&env);
    // Other layouts of the same model over the same devices.
    let other = TrainingRun { seed: 6, ..run.clone() };
    other.write_strategies(&env.path("other"), &other.full(), true);
    ill(&env, "doctor src -ts other -y model.yaml", &["give the strategy of the run that saved this checkpoint"]);
    // A file of another number of ranks among them.
    let small = TrainingRun { matrix: vec![2], ..run.clone() };
    std::fs::write(env.path("ts/ckpt_strategy_rank_3.ckpt"), small.strategy(&small.full(), 1)).unwrap();
    ill(&env, DOCTOR, &["ckpt_strategy_rank_3.ckpt"]);
    std::fs::remove_file(env.path("ts/ckpt_strategy_rank_3.ckpt")).unwrap();
    // A file under the name of a rank of the other stage.
    std::fs::copy(env.path("ts/ckpt_strategy_rank_5.ckpt"), env.path("ts/ckpt_strategy_rank_3.ckpt")).unwrap();
    ill(&env, DOCTOR, &["ckpt_strategy_rank_3.ckpt is of stage 1, but rank 3 is of stage 0"]);
}

#[test]
fn a_padded_vocabulary_and_another_model() {
    let env = TestEnv::new();
    let run = training(&env);
    let yaml = run.yaml(false, false);
    env.write("padded.yaml", yaml.replace("vocab_size: 24", "vocab_size: 21"));
    ill(&env, "doctor src -ts ts -y padded.yaml", &["padded from 21 to 24", "vocab_size: 24"]);
    env.write("other.yaml", yaml.replace("intermediate_size: 48", "intermediate_size: 50"));
    ill(&env, "doctor src -ts ts -y other.yaml", &["not the model's", "feed_forward"]);
}

#[test]
fn entries_that_contradict_each_other_and_damaged_files() {
    let env = TestEnv::new();
    training(&env);
    let path = env.path("src/rank_1/llama_rank_1-1_70.ckpt");
    let good = std::fs::read(&path).unwrap();
    let mut tensors = read_tensors(&path);
    let mut twin = tensors.iter().find(|t| t.name.ends_with("attention.wq.weight")).cloned().expect("a weight");
    twin.name = "model.layers.0.attention.w_qkv.weight".to_owned();
    tensors.push(twin);
    std::fs::write(&path, write_ckpt(&tensors)).unwrap();
    ill(&env, DOCTOR, &["w_qkv"]);
    tensors.pop();
    let mut state = tensors.last().cloned().expect("a tensor");
    state.name = "odd".to_owned();
    (state.dims, state.bytes) = (vec![2], [state.bytes.clone(), state.bytes].concat());
    tensors.push(state);
    std::fs::write(&path, write_ckpt(&tensors)).unwrap();
    ill(&env, DOCTOR, &["`odd`", "--keep"]);
    std::fs::write(&path, &good[..good.len() - 1]).unwrap();
    ill(&env, DOCTOR, &["rank_1/llama_rank_1-1_70.ckpt", "cut short"]);
    env.line("doctor nowhere").failed(1, &["nowhere does not exist"]);
}

/// A mixture of experts is no dense model, wherever its yaml is read.
#[test]
fn a_yaml_of_experts_is_refused_by_every_command() {
    let env = TestEnv::new();
    let model = Llama::small();
    model.write(&env.path("src"), Sharding { ranks: 2, fusion: None, vocabulary_whole: false }, "ckpt");
    let dense = model.yaml(false, false);
    env.write("moe.yaml", format!("{dense}moe_config:\n  expert_num: 8\n  num_experts_chosen: 2\n"));
    env.write("dense.yaml", format!("{dense}moe_config:\n  expert_num: 1\n"));
    let commands = [
        "-f distributed_weight_transfer -p keep -w 4 -sc src -dc out -is st --no-sync -y",
        "-f quant_weight -p w8a16 -w 2 -sc src -dc q -is qs --no-sync -y",
        "-f ms_to_pt -p keep -sc src -dc hf --no-sync -y",
        "doctor src -y",
        "verify src src -y",
        "inspect src -y",
        "strategy from-yaml -w 2 s.ckpt",
    ];
    let with = |command: &str, yaml: &str| match command.strip_suffix(" s.ckpt") {
        Some(begin) => format!("{begin} {yaml} s.ckpt"),
        None => format!("{command} {yaml}"),
    };
    let before = env.tree();
    for command in commands {
        let run = env.line(&with(command, "moe.yaml"));
        // verify keeps 1 for checkpoints that differ.
        let status = if command.starts_with("verify") { 2 } else { 1 };
        run.failed(status, &["moe.yaml", "a mixture of experts (`moe_config.expert_num`)", "only dense models"]);
    }
    assert_eq!(env.tree(), before);
    // Any bits are no numbers that can be quantised.
    for command in commands.iter().filter(|command| !command.contains("quant_weight")) {
        env.line(&with(command, "dense.yaml")).ok();
    }
}

/// One rank has everything whole: what its strategy did not know was copied from the source's first rank, as much as that had of it.
#[test]
fn a_strategy_of_one_rank_need_not_know_what_that_holds() {
    for fusion in [None, Some(Fusion::RankConcat)] {
        let (env, model) = (TestEnv::new(), Llama::small());
        let full = model.full();
        model.write(&env.path("src"), Sharding { ranks: 2, fusion, vocabulary_whole: false }, "ckpt");
        let one = TrainingRun { model: model.clone(), tied: false, stages: 1, matrix: vec![1], seed: 3 };
        let is_known = |name: &str| !name.contains("attention.w") && !name.contains("w2");
        let known: Vec<Tensor> = full.iter().filter(|tensor| is_known(&tensor.name)).cloned().collect();
        one.write_strategies(&env.path("ds"), &known, true);
        let yaml = env.write("model.yaml", model.yaml(false, false));
        let mut command = env.command(&["-f", "distributed_weight_transfer", "-p", "fp16", "-w", "1", "-sc", "src"]);
        command.args(["-ds", "ds", "-dc", "out", "--no-sync", "--format", "ckpt", "-y"]).arg(yaml);
        Run::of(&mut command).ok();
        let found = read_tensors(&env.path("out/fp16_1p/rank_0/checkpoint_0.ckpt"));
        let named = |tensors: Vec<Tensor>| tensors.into_iter().map(|t| (t.name.clone(), t)).collect::<BTreeMap<_, _>>();
        assert_eq!(named(found), named(full));
    }
}
