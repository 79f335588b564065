//! Progress on a real terminal: widths, the background of a shell, terminals that can do little. The terminal is that of `script`,
//! which every Debian has (bsdutils).

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{Llama, Run, Sharding, TestEnv};

/// What a command may take, in seconds.
const LIMIT: &str = "120";

const CONVERT: &str = "-f distributed_weight_transfer -p keep -w 2 -sc src -y model.yaml -is st";

fn env() -> TestEnv {
    let env = TestEnv::new();
    Llama::small().write(&env.path("src"), Sharding { ranks: 4, fusion: None, vocabulary_whole: false }, "ckpt");
    env.write("model.yaml", Llama::small().yaml(false, false));
    env
}

/// Runs a command of the shell on a terminal of its own, and types `input`. Returns all that reached the terminal.
fn on_terminal(env: &TestEnv, command: &str, input: &str, variables: &[(&str, &str)]) -> String {
    let mut script = Command::new("timeout");
    script.args(["-k", "5", LIMIT, "script", "-q", "-e", "-c", command, "/dev/null"]).current_dir(env.root());
    script
        .env("SHELL", "/bin/bash")
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .env("PROGRAM", env!("CARGO_BIN_EXE_ckpt-convert"));
    script.envs(variables.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = script.spawn().expect("timeout starts");
    let mut to = child.stdin.take().expect("its standard input");
    to.write_all(input.as_bytes()).expect("typed");
    let run = Run::from_output(child.wait_with_output().expect("it ends")).ok();
    drop(to);
    run.stdout
}

/// Whether something moves the cursor, clears or colours: not the `\r\n` that a terminal makes of a line's end.
fn is_painted(text: &str) -> bool {
    text.contains('\x1b') || text.replace("\r\n", "\n").contains('\r')
}

/// What was drawn, line by line, without the sequences that clear a line.
fn drawn(text: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c == '\x1b' {
            rest.by_ref().skip(1).find(char::is_ascii_alphabetic);
        } else {
            plain.push(c);
        }
    }
    plain.split(['\r', '\n']).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn a_bar_fits_the_terminal_and_ends_at_its_total() {
    for columns in [12, 40, 80, 200] {
        let env = env();
        let text =
            on_terminal(&env, &format!("stty cols {columns}; $PROGRAM {CONVERT} -dc out 2>&1 >summary"), "", &[]);
        assert!(is_painted(&text), "{text:?}");
        let lines = drawn(&text);
        let bars: Vec<&String> = lines.iter().filter(|line| line.contains('%')).collect();
        assert!(bars.iter().any(|line| line.contains("100%")), "{lines:?}");
        assert!(bars.iter().all(|line| line.chars().count() <= columns), "{columns}: {lines:?}");
        assert_eq!(bars.iter().any(|line| line.contains('[')), columns > 12, "{lines:?}");
        assert_eq!(bars.iter().any(|line| line.contains("B/")), columns >= 80, "{lines:?}");
        // Nothing of it stays.
        assert!(text.trim_end().ends_with("\x1b[2K"), "{text:?}");
    }
}

#[test]
fn terminals_that_can_only_print_lines_get_no_bar() {
    for variables in [[("TERM", "dumb")], [("TERM", "")]] {
        let text = on_terminal(&env(), &format!("$PROGRAM {CONVERT} -dc out"), "", &variables);
        assert!(text.contains("wrote out") && !is_painted(&text), "{text:?}");
        let help = on_terminal(&env(), "$PROGRAM -h", "", &variables);
        assert!(help.contains("-sc, --src_ckpt_path") && !is_painted(&help), "{help:?}");
    }
    let text = on_terminal(&env(), &format!("$PROGRAM {CONVERT} -dc out; $PROGRAM -h"), "", &[("NO_COLOR", "1")]);
    assert!(text.contains("100%"), "{text:?}");
    let coloured =
        text.split('\x1b').skip(1).any(|rest| rest.find(char::is_alphabetic).is_some_and(|at| &rest[at..=at] == "m"));
    assert!(!coloured, "{text:?}");
    let quiet = on_terminal(&env(), &format!("$PROGRAM {CONVERT} -dc out -q"), "", &[]);
    assert!(quiet.contains("wrote out") && !is_painted(&quiet), "{quiet:?}");
}

const SHELL: &str = "bash --norc --noprofile --noediting -i";

#[test]
fn a_job_in_the_background_paints_nothing() {
    let env = env();
    let input = format!("$PROGRAM {CONVERT} -dc out &\nwait\nsetsid -w $PROGRAM {CONVERT} -dc other -is st2\nexit\n");
    let text = on_terminal(&env, SHELL, &input, &[("PS1", "$ ")]);
    for target in ["wrote out", "wrote other"] {
        assert!(text.contains(target), "{text:?}");
    }
    assert!(!is_painted(&text), "{text:?}");
}

#[test]
fn a_job_that_comes_to_the_foreground_has_a_bar() {
    let env = env();
    // It stops itself before it begins, however slow the machine is; `fg` finds a job that the shell knows to be stopped.
    let input = format!(
        "(kill -STOP $BASHPID; exec $PROGRAM {CONVERT} -dc out) &\nuntil [ -n \"$(jobs -s)\" ]; do sleep 0.1; done\nfg\nexit\n"
    );
    let text = on_terminal(&env, SHELL, &input, &[("PS1", "$ ")]);
    assert!(text.contains("wrote out"), "{text:?}");
    assert!(drawn(&text).iter().any(|line| line.contains("100%")), "{text:?}");
}
