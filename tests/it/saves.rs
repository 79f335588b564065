//! Training runs as MindSpore leaves them: several saves side by side, whose ranks they are, and what else is saved with them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::support::{
    Llama, Run, Sharding, Tensor, TestEnv, TrainingRun, data, message, number, read_ranks, read_tensors, record,
    write_ckpt, write_safetensors,
};

const BASE: &str = "-f train_to_infer -p keep --strip-only -sc src -ts ts -dc out -is st --no-sync";

fn run_of(save: u64) -> TrainingRun {
    let model = Llama { layers: 2, seed: 40 + save, ..Llama::small() };
    TrainingRun { model, tied: false, stages: 1, matrix: vec![2], seed: 5 }
}

fn counter(name: &str, value: i32) -> Tensor {
    Tensor { name: name.to_owned(), dtype: "Int32".to_owned(), dims: Vec::new(), bytes: value.to_le_bytes().to_vec() }
}

/// A save of other values than the others: file names in which R is the rank, and counters.
fn save(env: &TestEnv, number: u64, file: &str, counters: &[(&str, i32)]) {
    let run = run_of(number);
    let full = run.full();
    for rank in 0..run.ranks() {
        let mut tensors = run.rank(&full, rank);
        tensors.retain(|tensor| tensor.name != "global_step");
        tensors.extend(counters.iter().map(|(name, value)| counter(name, *value)));
        let ckpt = Path::new(file).extension().is_some_and(|extension| extension == "ckpt");
        let bytes = if ckpt { write_ckpt(&tensors) } else { write_safetensors(&tensors) };
        env.write(&format!("src/rank_{rank}/{}", file.replace('R', &rank.to_string())), bytes);
    }
}

/// Saves of these names, without a stored step, and the strategy of all.
fn saves(files: &[&str]) -> TestEnv {
    let env = TestEnv::new();
    for (number, file) in (0..).zip(files) {
        save(&env, number, file, &[]);
    }
    run_of(0).write_strategies(&env.path("ts"), &run_of(0).full(), true);
    env
}

/// The save that all ranks of the target are of.
#[track_caller]
fn taken(env: &TestEnv, options: &str) -> (u64, Run) {
    let run = env.line(&format!("{BASE} {options}")).ok();
    let dir = env.path("out/keep_2p_stripped");
    let extension = if dir.join("rank_0/checkpoint_0.ckpt").exists() { "ckpt" } else { "safetensors" };
    let found = read_ranks(&dir, 2, extension);
    let is_of = |number: &u64| {
        let source = run_of(*number);
        let full = source.full();
        (0..).zip(&found).all(|(rank, tensors)| {
            let model = |t: &Tensor| t.name.starts_with("model.") || t.name == "lm_head.weight";
            let expected = source.rank(&full, rank).into_iter().filter(model).map(|t| (t.name.clone(), t));
            *tensors == expected.collect::<BTreeMap<_, _>>()
        })
    };
    let number = (0..9).find(is_of).expect("one of the saves, whole");
    std::fs::remove_dir_all(env.path("out")).expect("a target");
    (number, run)
}

#[track_caller]
fn refused(env: &TestEnv, options: &str, said: &[&str]) -> Run {
    let before = env.tree();
    let run = env.line(&format!("{BASE} {options}"));
    run.failed(1, said);
    assert_eq!(env.tree(), before, "something was written");
    run
}

fn rename(env: &TestEnv, from: &str, to: &str) {
    std::fs::copy(env.path(from), env.path(to)).expect("a copy");
    std::fs::remove_file(env.path(from)).expect("removed");
}

/// Takes one save for each choice that a message lists, each another one.
#[track_caller]
fn every_choice_can_be_typed(env: &TestEnv, listed: &str) {
    let mut found = BTreeSet::new();
    for choice in listed.split(", ") {
        let (number, _) = taken(env, &format!("--step {choice}"));
        assert!(found.insert(number), "{choice} is not the only one of its save");
    }
}

#[test]
fn every_save_of_a_run_in_sink_mode_can_be_chosen() {
    let env = saves(&["llama2_7b_rank_R-3_2.ckpt", "llama2_7b_rank_R-6_2.ckpt", "llama2_7b_rank_R-9_2.ckpt"]);
    let listed = "every rank has 3_2, 6_2, 9_2\n";
    refused(&env, "", &["rank_0 holds 3 checkpoints", listed, "--step 9_2", "--latest"]);
    refused(&env, "--step 9", &["no checkpoint of step 9 ", listed, "hint: "]);
    refused(&env, "--step 2", &["--step 2 may be any of 3_2, 6_2, 9_2", "hint: "]);
    every_choice_can_be_typed(&env, "3_2, 6_2, 9_2");
    assert_eq!(taken(&env, "--step llama2_7b_rank_1-6_2.ckpt").0, 1);
    let (number, run) = taken(&env, "--latest");
    assert_eq!(number, 2);
    assert!(run.stderr.contains("the latest save is 9_2"), "{run:#?}");
}

#[test]
fn with_one_step_in_each_epoch_the_epoch_is_the_step() {
    let env = saves(&["qwen3_rank_R-500_1.safetensors", "qwen3_rank_R-1000_1.safetensors"]);
    let (number, run) = taken(&env, "--step 1000");
    assert_eq!(number, 1);
    assert!(run.stderr.contains("--step 1000 is 1000_1, by the epoch"), "{run:#?}");
    // By number, not by letters.
    assert_eq!(taken(&env, "--latest").0, 1);
    refused(&env, "--step 1", &["--step 1 may be any of 500_1, 1000_1"]);
    every_choice_can_be_typed(&env, "500_1, 1000_1");
}

#[test]
fn the_step_that_is_stored_in_a_save_finds_it() {
    for (extension, name) in [("ckpt", "step_num"), ("safetensors", "global_step")] {
        let env = saves(&[]);
        for (number, epoch) in [(0, 1), (1, 2), (2, 3)] {
            let file = format!("llama_rank_R-{epoch}_100.{extension}");
            save(&env, number, &file, &[(name, 100 * epoch), ("epoch_num", epoch)]);
        }
        let (number, run) = taken(&env, "--step 200");
        assert_eq!(number, 1);
        assert!(run.stderr.contains("--step 200 is 2_100, by the step that is stored in it"), "{run:#?}");
        // It is stored in the first, but is also in the names of all.
        refused(&env, "--step 100", &["may be any of 1_100, 2_100, 3_100"]);
        refused(&env, "--step 400", &["no checkpoint of step 400", "every rank has 1_100, 2_100, 3_100"]);
    }
}

#[test]
fn a_run_that_was_started_again_is_newer_whatever_its_epoch() {
    let env = saves(&["llama_rank_R-9_2.ckpt", "llama_rank_R_1-3_2.ckpt", "llama_rank_R-3_2.ckpt"]);
    let listed = "every rank has llama_rank_0-3_2, 9_2, llama_rank_0_1-3_2\n";
    refused(&env, "", &["holds 3 checkpoints", listed]);
    refused(&env, "--step 3_2", &["may be any of llama_rank_0-3_2, llama_rank_0_1-3_2"]);
    every_choice_can_be_typed(&env, "llama_rank_0-3_2, 9_2, llama_rank_0_1-3_2");
    assert_eq!(taken(&env, "--latest").0, 1);
    // Without a rank in the prefix MindSpore numbers it alike; ten comes after two.
    let env = saves(&["CKP_2-1_1.ckpt", "CKP-7_1.ckpt", "CKP_10-1_1.ckpt"]);
    assert_eq!(taken(&env, "--latest").0, 2);
}

#[test]
fn prefixes_with_hyphens_and_numbers_are_prefixes() {
    let env = saves(&["qwen2.5-7b_rank_R-3_2.ckpt"]);
    assert_eq!(taken(&env, "").0, 0);
    save(&env, 1, "qwen2.5-7b_rank_R-4_2.ckpt", &[]);
    assert_eq!(taken(&env, "--step 4_2").0, 1);
    // Which of two prefixes is newer no name says.
    save(&env, 2, "other-14b_rank_R-4_2.ckpt", &[]);
    refused(&env, "--step 4_2", &["may be any of other-14b_rank_0-4_2, qwen2.5-7b_rank_0-4_2"]);
    refused(&env, "--latest", &["--latest may be any of other-14b_rank_0-4_2, qwen2.5-7b_rank_0-4_2"]);
    let run = refused(&env, "", &["holds 3 checkpoints", "hint: "]);
    assert!(!run.stderr.contains("--latest"), "a hint that does not work: {run:#?}");
    assert_eq!(taken(&env, "--step other-14b_rank_0-4_2").0, 2);
}

#[test]
fn both_formats_of_a_save_are_told_apart() {
    let env = saves(&["llama_rank_R-3_2.ckpt", "llama_rank_R-3_2.safetensors"]);
    refused(&env, "", &["every rank has llama_rank_0-3_2.ckpt, llama_rank_0-3_2.safetensors\n"]);
    every_choice_can_be_typed(&env, "llama_rank_0-3_2.ckpt, llama_rank_0-3_2.safetensors");
}

#[test]
fn what_an_exception_left_is_taken_by_name_only() {
    let env = saves(&["llama_rank_R-1_10.ckpt", "llama_rank_R-1_13_breakpoint.ckpt"]);
    refused(&env, "", &["every rank has 1_10, 1_13_breakpoint\n"]);
    every_choice_can_be_typed(&env, "1_10, 1_13_breakpoint");
    assert_eq!(taken(&env, "--latest").0, 0);
    refused(&env, "--step 13", &["no checkpoint of step 13"]);
}

#[test]
fn a_save_that_a_rank_lacks_is_not_offered_and_not_the_latest() {
    let env = saves(&["llama_rank_R-3_2.ckpt", "llama_rank_R-6_2.ckpt"]);
    std::fs::remove_file(env.path("src/rank_1/llama_rank_1-6_2.ckpt")).unwrap();
    refused(&env, "", &["every rank has 3_2\n"]);
    refused(&env, "--step 6_2", &["no checkpoint of step 6_2 in `rank_1`; every rank has 3_2\n", "--step 3_2"]);
    let (number, run) = taken(&env, "--latest");
    assert_eq!(number, 0);
    assert!(run.stderr.contains("the latest save is 3_2; not every rank has 6_2"), "{run:#?}");
    // One file in each directory, but of two saves, or of two runs.
    std::fs::remove_file(env.path("src/rank_0/llama_rank_0-3_2.ckpt")).unwrap();
    refused(&env, "", &["rank_0 holds llama_rank_0-6_2.ckpt, but", "rank_1 holds llama_rank_1-3_2.ckpt", "hint: "]);
    rename(&env, "src/rank_0/llama_rank_0-6_2.ckpt", "src/rank_0/llama_rank_0_1-3_2.ckpt");
    refused(&env, "", &["llama_rank_0_1-3_2.ckpt", "llama_rank_1-3_2.ckpt", "hint: "]);
    refused(&env, "--latest", &["no save is there in every rank", "copy the missing files"]);
    // Names that say nothing: the only save is the last, of two neither is.
    let env = saves(&["checkpoint_R.ckpt"]);
    assert_eq!(taken(&env, "--latest").0, 0);
    save(&env, 1, "model.ckpt", &[]);
    refused(&env, "--latest", &["which save is the last", "every rank has checkpoint_0, model\n", "--step model"]);
    every_choice_can_be_typed(&env, "checkpoint_0, model");
}

#[test]
fn the_directory_of_one_rank_has_saves_too() {
    let env = TestEnv::new();
    let one = |number: u64| TrainingRun { matrix: vec![1], ..run_of(number) };
    for (number, file) in [(0, "CKP-1_100.ckpt"), (1, "CKP-2_100.ckpt")] {
        env.write(&format!("src/{file}"), write_ckpt(&one(number).rank(&one(number).full(), 0)));
    }
    let line = "-f train_to_infer -p keep -w 1 -sc src -dc out -is st --no-sync --qkv_concat false";
    env.line(&format!("{line} --step 2_100")).ok();
    let found = &read_ranks(&env.path("out/keep_1p"), 1, "ckpt")[0];
    let expected = one(1).full();
    assert_eq!(found.len(), expected.len());
    assert!(expected.iter().all(|t| found[&t.name] == *t));
    env.line("-f train_to_infer -p keep -w 1 -sc src/CKP-1_100.ckpt --latest -dc o -is s").failed(1, &["one file"]);
}

#[test]
fn the_way_to_transformers_and_the_doctor_choose_alike() {
    let env = saves(&["llama_rank_R-3_2.ckpt", "llama_rank_R-6_2.ckpt"]);
    env.write("model.yaml", run_of(0).yaml(false, false));
    let hf = "-f ms_to_pt -p keep -sc src -ts ts -y model.yaml --no-sync";
    env.line(&format!("{hf} -dc none")).failed(1, &["every rank has 3_2, 6_2\n", "--step 6_2"]);
    for (option, number) in [("--step 3_2", 0), ("--latest", 1)] {
        let dir = format!("hf{number}");
        env.line(&format!("{hf} {option} -dc {dir}")).ok();
        let tensors = read_tensors(&env.path(&format!("{dir}/keep_hf/model.safetensors")));
        let norm = tensors.iter().find(|t| t.name == "model.norm.weight").expect("the norm");
        let full = run_of(number).full();
        let expected = full.iter().find(|t| t.name == "model.norm_out.weight").expect("the norm");
        assert_eq!(norm.bytes, expected.bytes, "{option}");
    }
    env.line(&format!("{hf} --latest --step 3_2 -dc none")).failed(1, &["--latest", "--step"]);
    let doctor = |options: &str| env.line(&format!("doctor src -ts ts -y model.yaml {options}"));
    let run = doctor("");
    assert_eq!(run.status, Some(1), "{run:#?}");
    assert!(
        run.stdout.contains("every rank has 3_2, 6_2\n") && run.stdout.contains("the latest save is 6_2"),
        "{run:#?}"
    );
    assert!(doctor("--step 3_2").ok().stdout.contains("nothing is wrong"));
    assert!(doctor("--latest").ok().stdout.contains("nothing is wrong"));
    assert!(doctor("--step 4_2").stdout.contains("no checkpoint of step 4_2"));
}

/// A file in another rank's directory is of the right shape: nothing but its name shows it.
#[test]
fn a_file_that_is_named_for_another_rank_is_not_taken_for_this_one() {
    let two = Sharding { ranks: 2, fusion: None, vocabulary_whole: false };
    let plain = "-f distributed_weight_transfer -p keep -w 1 -sc src -y model.yaml -dc out -is st --no-sync";
    for (file, wrong) in [("checkpoint_0", true), ("llama_rank_0-3_2", true), ("model", false), ("llama2_7b", false)] {
        let env = TestEnv::new();
        env.write("model.yaml", Llama::small().yaml(false, false));
        Llama::small().write(&env.path("src"), two, "ckpt");
        rename(&env, "src/rank_1/checkpoint_1.ckpt", &format!("src/rank_1/{file}.ckpt"));
        if wrong {
            let said = format!("src/rank_1/{file}.ckpt is named for rank 0, but lies in the directory of rank 1");
            let before = env.tree();
            env.line(plain).failed(1, &[&said, "hint: ", "rename it"]);
            assert_eq!(env.tree(), before);
            let doctor = env.line("doctor src");
            assert!(doctor.status == Some(1) && doctor.stdout.contains(&said), "{doctor:#?}");
            env.line("verify src src").failed(2, &[&said]);
            // The hint, to the letter.
            rename(&env, &format!("src/rank_1/{file}.ckpt"), "src/rank_1/checkpoint_1.ckpt");
        }
        env.line(plain).ok();
    }
    let env = saves(&["llama_rank_R-3_2.ckpt"]);
    rename(&env, "src/rank_1/llama_rank_1-3_2.ckpt", "src/rank_1/llama_rank_0-3_2.ckpt");
    refused(&env, "", &["rank_1/llama_rank_0-3_2.ckpt is named for rank 0"]);
}

/// File names that say nothing: the counters in them do.
#[test]
fn ranks_whose_counters_disagree_are_not_of_one_save() {
    for (name, extension) in [("global_step", "ckpt"), ("step_num", "safetensors"), ("epoch_num", "ckpt")] {
        let env = saves(&[]);
        let file = format!("llama_rank_R-3_2.{extension}");
        save(&env, 0, &file, &[(name, 60)]);
        assert_eq!(taken(&env, "").0, 0);
        let kept = std::fs::read(env.path(&format!("src/rank_0/{}", file.replace('R', "0")))).unwrap();
        save(&env, 0, &file, &[(name, 70)]);
        env.write(&format!("src/rank_0/{}", file.replace('R', "0")), kept);
        let said = format!("the ranks are not of one save: `{name}` is 60 in rank_0; 70 in rank_1");
        refused(&env, "", &[&said, "hint: "]);
        refused(&env, &format!("--drop {name}"), &[&said]);
        env.line("-f ms_to_pt -p keep -sc src -ts ts -dc out").failed(1, &[&said]);
        env.line("-f distributed_weight_transfer -p keep -w 1 -sc src -ss ts -dc out -is st --ignore adam_*")
            .failed(1, &[&said]);
        let doctor = env.line("doctor src -ts ts");
        assert!(doctor.status == Some(1) && doctor.stdout.contains(&said), "{doctor:#?}");
    }
    let env = saves(&["llama_rank_R-3_2.ckpt"]);
    let path = env.path("src/rank_1/llama_rank_1-3_2.ckpt");
    let mut tensors = read_tensors(&path);
    let rate = tensors.iter_mut().find(|t| t.name == "learning_rate").expect("a learning rate");
    rate.bytes = 0.5f32.to_le_bytes().to_vec();
    std::fs::write(&path, write_ckpt(&tensors)).unwrap();
    refused(&env, "", &["`learning_rate` is ", "0.5 in rank_1"]);
}

/// Everything that optimizers and callbacks of MindSpore and mindformers are known to save beside a weight.
#[test]
fn the_state_of_every_optimizer_is_left_out() {
    let env = saves(&["llama_rank_R-3_2.ckpt"]);
    let known = std::fs::read_to_string(data("training/state_names.txt")).unwrap();
    let names: Vec<&str> = known.lines().filter_map(|line| Some(line.split_once('\t')?.0)).collect();
    assert!(names.len() > 50);
    for rank in 0..2 {
        let path = env.path(&format!("src/rank_{rank}/llama_rank_{rank}-3_2.ckpt"));
        let mut tensors = read_tensors(&path);
        for name in names.iter().filter(|name| !matches!(**name, "global_step" | "learning_rate")) {
            let array = name.contains("model.") || name.contains("lm_head.");
            tensors.retain(|t| t.name != *name);
            let (dims, bytes) = if array { (vec![4, 3], vec![7; 48]) } else { (vec![1], vec![7; 4]) };
            tensors.push(Tensor { name: (*name).to_owned(), dtype: "Float32".to_owned(), dims, bytes });
        }
        std::fs::write(&path, write_ckpt(&tensors)).unwrap();
    }
    let (number, run) = taken(&env, "");
    assert_eq!(number, 0);
    assert!(run.stdout.contains("global_batch_size 1") && run.stdout.contains("muon_m. 2"), "{run:#?}");
    // Single values that are not in the table are named.
    assert!(run.stderr.contains("left out as counters: ") && run.stderr.contains("`momentum`"), "{run:#?}");
    let doctor = env.line("doctor src -ts ts").ok();
    assert!(doctor.stdout.contains("nothing is wrong"), "{doctor:#?}");
}

#[test]
fn an_unknown_array_is_never_taken_for_state() {
    let env = saves(&["llama_rank_R-3_2.ckpt"]);
    let path = env.path("src/rank_0/llama_rank_0-3_2.ckpt");
    let good = std::fs::read(&path).unwrap();
    let with = |name: &str, dims: &[u64]| {
        let bytes = vec![1; usize::try_from(dims.iter().product::<u64>()).unwrap() * 4];
        std::fs::write(&path, [good.clone(), record(name, "Float32", dims, &bytes)].concat()).unwrap();
    };
    // Neither an array without an owner, nor a number that a layer owns, nor what only resembles a state.
    for (name, dims) in [
        ("novel_state", &[2][..]),
        ("optimizer.layers.0.scale", &[1]),
        ("linear.weight", &[2, 2]),
        ("stat.weight", &[2]),
        ("my_adam_m.model.norm_out.weight", &[2]),
    ] {
        with(name, dims);
        refused(&env, "", &[&format!("`{name}`"), "--keep", "--drop"]);
    }
    with("novel_counter", &[]);
    assert!(taken(&env, "").1.stderr.contains("left out as counters: `novel_counter`"));
}

/// The complete weights of `unified_safetensors`, with what it puts beside them.
#[test]
fn hyper_parameters_beside_complete_weights_do_not_reach_transformers() {
    let env = TestEnv::new();
    let model = Llama::small();
    env.write("model.yaml", model.yaml(false, false));
    let full = model.full();
    env.write("src/model-00001-of-00001.safetensors", write_safetensors(&full));
    let state = Tensor { name: "accu_grads.model.norm_out.weight".to_owned(), ..full[0].clone() };
    let counters = ["global_step", "epoch_num", "global_batch_size", "not_in_any_table"].map(|name| counter(name, 3));
    env.write("src/hyper_param.safetensors", write_safetensors(&[&counters[..], &[state]].concat()));
    let map: BTreeMap<&str, &str> =
        full.iter().map(|t| (t.name.as_str(), "model-00001-of-00001.safetensors")).collect();
    env.write("src/param_name_map.json", serde_json::to_vec(&map).unwrap());
    let run = env.line("-f ms_to_pt -p keep -sc src -y model.yaml -dc out --no-sync --json").ok();
    let tensors = read_tensors(&env.path("out/keep_hf/model.safetensors"));
    assert_eq!(tensors.len(), full.len());
    assert!(tensors.iter().all(|t| t.name.starts_with("model.") || t.name == "lm_head.weight"));
    let state = &run.json()["training_state"];
    assert!(state["global_batch_size"] == 1 && state["accu_grads."] == 1 && state["other counters"] == 1, "{state}");
    assert_eq!(run.json()["ignored"], 0);
    assert!(run.stderr.contains("`not_in_any_table`"), "{run:#?}");
}

/// A layout over four devices of an array of four axes, the third cut, as a protobuf strategy file holds it.
fn cache_layout(name: &str) -> Vec<u8> {
    let map: Vec<u8> = [u64::MAX, u64::MAX, 0, u64::MAX].iter().flat_map(|m| number(1, *m)).collect();
    let layout = [message(1, &number(1, 4)), message(2, &map), number(5, 0), number(6, 0), number(7, 0)].concat();
    message(3, &[message(1, name.as_bytes()), message(2, &layout)].concat())
}

#[test]
fn the_caches_of_an_inference_network_are_left_out_of_its_strategy() {
    let env = TestEnv::new();
    let mut strategy = std::fs::read(data("mindspore/strategies/mp4.ckpt")).unwrap();
    for name in ["key_cache", "value_cache"] {
        let cell = "model.layers.0.attention.infer_attention.paged_attention_mgr";
        strategy.extend(cache_layout(&format!("{cell}.{name}")));
    }
    env.write("infer.ckpt", &strategy);
    let source = data("mindspore/src/fp16_1p");
    let line = |dir: &str, strategy: &Path, more: &str| {
        let (source, strategy) = (source.display(), strategy.display());
        let base = "-f distributed_weight_transfer -p keep --no-sync -is st";
        env.line(&format!("{base} -sc {source} -ds {strategy} -dc {dir} {more}"))
    };
    line("plain", &data("mindspore/strategies/mp4.ckpt"), "").ok();
    let run = line("caches", &env.path("infer.ckpt"), "--overwrite").ok();
    assert!(run.stderr.contains("buffers that no checkpoint holds") && run.stderr.contains("key_cache"), "{run:#?}");
    let read = |dir: &str| read_ranks(&env.path(&format!("{dir}/keep_4p")), 4, "ckpt");
    assert_eq!(read("caches"), read("plain"));
    let run = line("ignored", &env.path("infer.ckpt"), "--overwrite --ignore *_cache").ok();
    assert!(!run.stderr.contains("buffers"), "{run:#?}");
    assert_eq!(read("ignored"), read("plain"));
    // Anything else that the strategy names must be there, unless it is said that it need not.
    strategy.extend(cache_layout("model.layers.0.attention.bigger.weight"));
    env.write("infer.ckpt", &strategy);
    line("none", &env.path("infer.ckpt"), "").failed(1, &["lacks `model.layers.0.attention.bigger.weight`"]);
    line("asked", &env.path("infer.ckpt"), "--overwrite --ignore *.bigger.weight").ok();
    assert_eq!(read("asked"), read("plain"));
    // As the strategy of a source it says no more.
    let back =
        "-f distributed_weight_transfer -p keep -w 1 --no-sync -sc caches/keep_4p -ss infer.ckpt -dc back -is st1";
    env.line(&format!("{back} --ignore *.bigger.weight")).ok();
}

#[test]
fn a_merged_strategy_beside_the_files_it_was_merged_from() {
    let env = TestEnv::new();
    for entry in std::fs::read_dir(data("mindspore/strategies/stages/pp2dp2mp2_opt")).unwrap() {
        let path = entry.unwrap().path();
        env.write(&format!("ts/{}", path.file_name().unwrap().to_str().unwrap()), std::fs::read(&path).unwrap());
    }
    let alone = env.line("strategy show ts --json").ok().json();
    let merged = std::fs::read(data("mindspore/strategies/pp2dp2mp2_opt_merged.ckpt")).unwrap();
    env.write("ts/merged_ckpt_strategy.ckpt", merged);
    let both = env.line("strategy show ts --json").ok().json();
    assert_eq!(both["params"], alone["params"]);
    // Merged from the files of another run, or from fewer stages.
    let other = std::fs::read(data("mindspore/strategies/pp2mp2_merged.ckpt")).unwrap();
    env.write("ts/merged_ckpt_strategy.ckpt", other);
    env.line("strategy show ts").failed(1, &["merged_ckpt_strategy.ckpt", "different layouts", "hint: "]);
}

/// Names that are no rank's or no run's, with numbers at the end of what a computer counts.
#[test]
fn numbers_in_names_cannot_overflow() {
    let model = Llama::small();
    let env = TestEnv::new();
    let one = Sharding { ranks: 1, fusion: None, vocabulary_whole: false };
    model.write(&env.path("src"), one, "ckpt");
    env.write("model.yaml", model.yaml(false, false));
    let convert = "-f distributed_weight_transfer -p fp16 -w 1 -sc src -y model.yaml -dc out -is st -q --no-sync";
    for rank in ["4294967295", "65536", "18446744073709551616"] {
        let dir = format!("src/rank_{rank}/checkpoint_{rank}.ckpt");
        env.write(&dir, std::fs::read(env.path("src/rank_0/checkpoint_0.ckpt")).unwrap());
        let named = format!("rank_{rank}");
        let strategy = data("mindspore/strategies/mp2.ckpt");
        for line in [
            convert.to_owned(),
            format!("{convert} -ss {}", strategy.display()),
            "-f train_to_infer -p fp16 -w 1 -sc src -dc out -is st".to_owned(),
            "verify src src".to_owned(),
            "inspect src".to_owned(),
        ] {
            let run = env.line(&line);
            run.failed(if line.starts_with("verify") { 2 } else { 1 }, &[&named]);
        }
        let doctor = env.line("doctor src");
        assert!(doctor.status == Some(1) && doctor.stdout.contains(&named), "{doctor:#?}");
        assert!(!doctor.stderr.contains("panicked"), "{doctor:#?}");
        std::fs::remove_dir_all(env.path(&format!("src/rank_{rank}"))).unwrap();
    }
    for planted in ["18446744073709551615", "4294967295"] {
        let line = format!("{convert} --nodes 2 --node-rank 0 --stale-after 0.2 --overwrite");
        env.write(&format!("out/.fp16_1p.cluster/claim-{planted}"), "abcdef");
        let run = env.line(&line);
        let said = if planted == "4294967295" { "numbers that no conversion reaches" } else { "did not begin within" };
        run.failed(if planted == "4294967295" { 1 } else { 2 }, &[said, "hint: "]);
        std::fs::remove_dir_all(env.path("out/.fp16_1p.cluster")).unwrap();
    }
}
