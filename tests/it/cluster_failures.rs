//! Hosts that fail before they have a plan: the others hear of it.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::cluster::{end, made, wait_for};
use crate::support::{Llama, Run, Sharding, TestEnv};

const ONE: Sharding = Sharding { ranks: 1, fusion: None, vocabulary_whole: false };

/// What is typed on all hosts; each looks for the source where it is. Below `here` it is there, below `away` it is not.
fn env() -> (TestEnv, String) {
    let env = TestEnv::new();
    let model = Llama::small();
    model.write(&env.path("here/src"), ONE, "ckpt");
    env.write("here/model.yaml", model.yaml(false, false));
    std::fs::create_dir(env.path("away")).expect("a directory");
    let place = |name: &str| env.path(name).display().to_string();
    let line = "-f distributed_weight_transfer -y model.yaml -sc src -p fp16 -w 4 -q";
    let line = format!("{line} -dc {} -is {}", place("out"), place("st"));
    (env, line)
}

fn host(env: &TestEnv, dir: &str, line: &str, index: u32) -> Child {
    let mut command = env.command(&line.split_whitespace().collect::<Vec<_>>());
    command.args(["--nodes", "2", "--node-rank", &index.to_string()]).current_dir(env.path(dir));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

/// What lies beside the target.
fn notices(env: &TestEnv) -> usize {
    let entries = std::fs::read_dir(env.path("out")).into_iter().flatten().flatten();
    entries.filter(|e| e.file_name().to_string_lossy().starts_with(".failed-")).count()
}

fn expected(env: &TestEnv, line: &str) -> Vec<(std::path::PathBuf, String)> {
    let out = env.path("one");
    let line = line.replace(&env.path("out").display().to_string(), &out.display().to_string());
    let line = line.replace(&env.path("st").display().to_string(), &env.path("one_st").display().to_string());
    let mut command = Command::new(env!("CARGO_BIN_EXE_ckpt-convert"));
    Run::of(command.current_dir(env.path("here")).args(line.split_whitespace()).args(["--nodes", "1"])).ok();
    made(env, ["one", "one_st"])
}

#[test]
fn a_host_that_fails_before_it_has_a_plan_stops_those_who_wait() {
    let (env, line) = env();
    let expected = expected(&env, &line);
    let mut waiting = host(&env, "here", &line, 0);
    wait_for(&env, &mut waiting, "node-0.1.done");
    end(host(&env, "away", &line, 1)).failed(1, &["src", "does not exist"]);
    end(waiting).failed(2, &["host 1 failed: ", "src does not exist", "hint: "]);
    assert_eq!(notices(&env), 1);
    // Both are started again, where all is there.
    for child in [host(&env, "here", &line, 1), host(&env, "here", &line, 0)] {
        end(child).ok();
    }
    assert_eq!(made(&env, ["out", "st"]), expected, "or a notice stayed");
}

#[test]
fn one_that_had_failed_is_waited_for_only_for_a_while() {
    let (env, line) = env();
    let line = format!("{line} --stale-after 0.5");
    end(host(&env, "away", &line, 1)).failed(1, &["does not exist"]);
    end(host(&env, "here", &line, 0)).failed(2, &["host 1 failed: ", "src does not exist", "hint: "]);
    // It begins again meanwhile: what it had left does not count any more.
    let line = line.replace("--stale-after 0.5", "--stale-after 20");
    let mut waiting = host(&env, "here", &line, 0);
    wait_for(&env, &mut waiting, "node-0.2.done");
    end(host(&env, "here", &line, 1)).ok();
    end(waiting).ok();
    assert_eq!(notices(&env), 0);
}

#[test]
fn failures_of_another_conversion_are_its_own() {
    let (env, line) = env();
    let mut waiting = host(&env, "here", &line, 0);
    wait_for(&env, &mut waiting, "node-0.1.done");
    // Other options; a look; a host of its own; and two that keep nobody waiting leave nothing.
    end(host(&env, "away", &line.replace("-w 4", "-w 2"), 1)).failed(1, &["does not exist"]);
    assert_eq!(notices(&env), 1);
    end(host(&env, "away", &format!("{line} --dry-run"), 1)).failed(1, &["does not exist"]);
    end(host(&env, "away", &format!("{line} --local-output"), 1)).failed(1, &["does not exist"]);
    assert_eq!(notices(&env), 1);
    end(host(&env, "here", &line, 1)).ok();
    end(waiting).ok();
    // A host that has come to the run and is refused there does not notify those that are at work.
    let line = format!("{line} --overwrite");
    let mut waiting = host(&env, "here", &line, 0);
    wait_for(&env, &mut waiting, "node-0.1.done");
    end(host(&env, "here", &line, 0)).failed(1, &["host 0 is already running"]);
    end(host(&env, "here", &line, 1)).ok();
    end(waiting).ok();
    assert!(Path::new(&env.path("out/fp16_4p/manifest.json")).exists());
}
