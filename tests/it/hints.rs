//! Hints that lead on from what people type first.

use crate::errors::{BASE, env, refused_line};

/// The directory that -dc named instead of the target in it: the hint names that, and does when it is followed.
#[test]
fn the_directory_above_a_target_leads_to_it() {
    let env = env();
    env.line(&format!("{BASE} -w 2 -y model.yaml")).ok();
    let again =
        |src: &str| format!("-f distributed_weight_transfer -p fp16 -w 1 -y model.yaml -sc {src} -dc next -is next_st");
    refused_line(
        &env,
        &again("out"),
        1,
        &["out holds no checkpoint", "hint: the checkpoint is in it: name out/fp16_2p\n"],
    );
    env.line(&again("out/fp16_2p")).ok();
    env.line(&format!("{BASE} -w 1 -y model.yaml")).ok();
    refused_line(
        &env,
        &again("out"),
        1,
        &["hint: there are several checkpoints in it: name one of out/fp16_1p, out/fp16_2p\n"],
    );
}

/// A command that is typed twice: the target is there, and nothing need be done.
#[test]
fn a_target_that_is_there_and_whole_is_said_to_be() {
    let env = env();
    let line = format!("{BASE} -w 2 -y model.yaml");
    env.line(&line).ok();
    let whole = "out/fp16_2p is there already and whole";
    refused_line(&env, &line, 1, &[whole, "out/fp16_2p exists already", "--overwrite"]);
    // Of another conversion, or cut.
    let run = env.line(&format!("{line} --format safetensors"));
    run.failed(1, &["out/fp16_2p exists already"]);
    assert!(!run.stderr.contains(whole), "{run:#?}");
    let file = env.path("out/fp16_2p/rank_1/checkpoint_1.ckpt");
    std::fs::OpenOptions::new().write(true).open(&file).expect("it is there").set_len(100).expect("cut");
    let run = env.line(&line);
    run.failed(1, &["out/fp16_2p exists already"]);
    assert!(!run.stderr.contains(whole), "{run:#?}");
}

#[test]
fn a_name_of_the_hub_is_no_path() {
    let env = env();
    let line = |src: &str| format!("-f pt_to_ms -p fp16 -w 1 -sc {src} -dc out -is st");
    let hint = "hf download mistralai/Mistral-7B-v0.1 --local-dir Mistral-7B-v0.1";
    refused_line(&env, &line("mistralai/Mistral-7B-v0.1"), 1, &["mistralai/Mistral-7B-v0.1 does not exist", hint]);
    for path in ["src/none", "./mistralai/Mistral", "a/b/c", "none"] {
        refused_line(&env, &line(path), 1, &["does not exist\nhint: check the path\n"]);
    }
}

#[test]
fn a_precision_may_have_capitals() {
    let env = env();
    env.line(&format!("{} -w 2 -y model.yaml", BASE.replace("fp16", "FP16"))).ok();
    assert!(env.path("out/fp16_2p/rank_1").is_dir());
}
