//! Limits of the machine, signals and what other users leave: an error that says what and where, in bounded time.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::faults::{begun, names, signal, slow};
use crate::quantise::source as quantisable;
use crate::support::{Llama, Run, Sharding, TestEnv};

const ONE: Sharding = Sharding { ranks: 1, fusion: None, vocabulary_whole: false };
const LINE: &str = "-f distributed_weight_transfer -p fp16 -w 2 -y model.yaml -sc src -dc out -is st --no-sync -q";

fn env() -> TestEnv {
    let env = TestEnv::new();
    Llama::small().write(&env.path("src"), ONE, "ckpt");
    env.write("model.yaml", Llama::small().yaml(false, false));
    env
}

/// A stack that no address space has: every thread is refused, as where a user or a container has as many as it may have.
pub(crate) fn without_threads(env: &TestEnv, line: &str) -> Run {
    let words: Vec<&str> = line.split_whitespace().collect();
    Run::of(env.command(&words).env("RUST_MIN_STACK", (1_u64 << 47).to_string()))
}

#[test]
fn no_thread_is_an_error_wherever_one_is_started() {
    let env = env();
    let hosts = format!("{LINE} --nodes 2 --node-rank 0");
    for line in [LINE, &format!("{LINE} --reader direct"), &hosts] {
        without_threads(&env, line).failed(2, &["error: cannot start another thread (`", "hint: use fewer"]);
        assert!(!env.path("out/fp16_2p").exists() && !env.path("st/fp16_2p/strategy").exists(), "{line}");
    }
    std::fs::remove_dir_all(env.path("out")).expect("what the host leaves for its next attempt");
    env.line(LINE).ok();
    let refused = without_threads(&env, "verify src out/fp16_2p -y model.yaml");
    refused.failed(2, &["another thread (`compare`)"]);
    assert_eq!(refused.stdout, "");
    let again =
        "-f distributed_weight_transfer -p fp16 -w 1 -y model.yaml -sc out/fp16_2p -dc back -is bst --no-sync -q";
    without_threads(&env, &format!("{again} --check-source")).failed(2, &["another thread (`sums`)"]);
    env.line(&LINE.replace("-dc out", "-dc sums --crc").replace("-is st", "-is sst")).ok();
    without_threads(&env, &again.replace("-sc out", "-sc sums")).failed(2, &["another thread (`crc`)"]);
}

#[test]
fn no_thread_for_quantising_is_an_error() {
    let env = TestEnv::new();
    quantisable(&env, |_| {});
    let line = "-f quant_weight -p w8a16 -w 1 -y model.yaml -sc src -dc q -is st --no-sync -q";
    without_threads(&env, line).failed(2, &["another thread (`quantise`)"]);
    assert_eq!(names(&env.path("q")), [""; 0]);
    env.line(line).ok();
    let line = "verify src q/w8a16_1p_qkv -y model.yaml --tolerance 1";
    without_threads(&env, line).failed(2, &["another thread (`tolerance`)"]);
}

#[test]
fn a_closed_terminal_ends_a_run_which_removes_what_is_unfinished() {
    let (env, line) = slow();
    let child = begun(&env, &line);
    // Its shell sends it as well.
    signal(&child, "-HUP");
    signal(&child, "-HUP");
    Run::from_output(child.wait_with_output().expect("a child")).failed(130, &["interrupted", "nothing was published"]);
    assert_eq!(names(&env.path("out")), [""; 0]);
}

/// A host of two that waits until somebody has written a claim, and can be sent signals.
fn waiting(env: &TestEnv, program: &[&str]) -> Child {
    env.write("out/.fp16_2p.cluster/claim-1", "");
    let program = [program, &[env!("CARGO_BIN_EXE_ckpt-convert")]].concat();
    let mut command = Command::new(program[0]);
    command.current_dir(env.root()).args(&program[1..]).args(LINE.split(' '));
    command.args(["--nodes", "2", "--node-rank", "0", "--stale-after", "600"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let status = format!("/proc/{}/status", child.id());
    // SIGXCPU is the last that is caught.
    let catches = |line: &str| {
        line.strip_prefix("SigCgt:")
            .map(|mask| u64::from_str_radix(mask.trim(), 16).expect("hexadecimal") & (1 << 23) != 0)
    };
    while !std::fs::read_to_string(&status).expect("a process").lines().any(|line| catches(line) == Some(true)) {
        assert!(child.try_wait().expect("a child").is_none(), "it waits");
        std::thread::yield_now();
    }
    child
}

#[test]
fn every_signal_that_ends_a_run_ends_a_wait_for_another_host() {
    for which in ["-INT", "-TERM", "-QUIT", "-HUP", "-XCPU"] {
        let env = env();
        let child = waiting(&env, &[]);
        signal(&child, which);
        Run::from_output(child.wait_with_output().expect("a child")).failed(130, &["interrupted"]);
    }
}

#[test]
fn a_run_under_nohup_outlives_its_terminal() {
    let env = env();
    let child = waiting(&env, &["nohup"]);
    signal(&child, "-HUP");
    std::fs::remove_file(env.path("out/.fp16_2p.cluster/claim-1")).expect("a claim");
    env.line(&format!("{LINE} --nodes 2 --node-rank 1")).ok();
    Run::from_output(child.wait_with_output().expect("a child")).ok();
    assert!(env.path("out/fp16_2p").exists());
}

#[test]
fn a_limit_of_file_sizes_is_an_error_that_leaves_nothing() {
    let env = env();
    let mut limited = Command::new("bash");
    let line = format!("ulimit -f 1; exec {} {LINE}", env!("CARGO_BIN_EXE_ckpt-convert"));
    let run = Run::of(limited.current_dir(env.root()).args(["-c", &line]));
    run.failed(2, &["fp16_2p", "File too large", "hint: raise the file size limit (ulimit -f)"]);
    assert_eq!(names(&env.path("out")), [""; 0]);
    env.line(LINE).ok();
}

/// Puts something in the place of a claim.
type Make<'a> = &'a dyn Fn(&Path);

/// What cannot be read is not taken for what is not there: that would be tried again for ever.
#[test]
fn a_claim_that_cannot_be_read_is_named() {
    let meeting = "out/.fp16_2p.cluster";
    let pipe = |path: &Path| assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
    let kinds: [(&str, Make<'_>); 3] = [
        ("a pipe", &pipe),
        ("a directory", &|path| std::fs::create_dir(path).expect("a directory")),
        ("a link", &|path| std::os::unix::fs::symlink("nowhere", path).expect("a link")),
    ];
    for (kind, make) in kinds {
        let env = env();
        std::fs::create_dir_all(env.path(meeting)).expect("directories");
        make(&env.path(&format!("{meeting}/claim-1")));
        let mut command = Command::new("timeout");
        command.args(["-s", "KILL", "20", env!("CARGO_BIN_EXE_ckpt-convert"), "--nodes", "2", "--node-rank", "0"]);
        let run = Run::of(command.args(LINE.split_whitespace()).args(["--stale-after", "1"]).current_dir(env.root()));
        assert_eq!(run.status, Some(2), "{kind}: {run:#?}");
        run.failed(
            2,
            &["cannot determine which conversion out/.fp16_2p.cluster belongs to", "claim-1", "hint: if another user"],
        );
        // As the hint says.
        std::fs::remove_dir_all(env.path(meeting)).expect("removed");
        env.line(LINE).ok();
    }
}
