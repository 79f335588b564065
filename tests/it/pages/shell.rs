//! The commands of a page, typed one block after the other into a directory that holds the example.

use std::fmt::Write;
use std::fs::OpenOptions;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use super::output::difference;
use super::page::{Block, Page, Steer};
use crate::support::TestEnv;

/// What a block may take, in seconds.
const LIMIT: &str = "120";

/// What is typed around a block: the place and the exported variables of the one before, as in one shell.
const BEFORE: &str = ". \"$STATE/variables\"; cd \"$(cat \"$STATE/place\")\"; trap 'pwd >\"$STATE/place\"; export -p >\"$STATE/variables\"' EXIT\n";

struct Shell {
    env: TestEnv,
}

impl Shell {
    fn new() -> Self {
        let env = TestEnv::new();
        for dir in ["bin", "home", "state", "page", "tmp"] {
            std::fs::create_dir(env.path(dir)).expect("a directory");
        }
        symlink(env!("CARGO_BIN_EXE_ckpt-convert"), env.path("bin/ckpt-convert")).expect("a link");
        env.write("state/place", env.path("page").as_os_str().as_encoded_bytes());
        env.write("state/variables", "");
        Self { env }
    }

    /// Types lines and returns the exit status with all that was printed.
    fn run(&self, lines: &str) -> (Option<i32>, String) {
        let printed = self.env.path("state/printed");
        std::fs::write(&printed, "").expect("a file");
        let out = OpenOptions::new().append(true).open(&printed).expect("a file");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = [self.env.path("bin")].into_iter().chain(std::env::split_paths(&path));
        let status = Command::new("timeout")
            .args(["-k", "5", LIMIT, "bash", "-euo", "pipefail", "-c", &format!("{BEFORE}{lines}")])
            .current_dir(self.env.path("page"))
            .env_clear()
            .env("PATH", std::env::join_paths(path).expect("a path"))
            .env("HOME", self.env.path("home"))
            .env("TMPDIR", self.env.path("tmp"))
            .env("STATE", self.env.path("state"))
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a file"))
            .stderr(out)
            .status()
            .expect("bash starts");
        let printed = std::fs::read(printed).expect("a readable file");
        (status.code(), String::from_utf8_lossy(&printed).into_owned())
    }
}

/// Runs a page and returns what is wrong with it.
pub(super) fn faults(page: &Page) -> Vec<String> {
    let shell = Shell::new();
    let (status, said) = shell.run("ckpt-convert example .");
    assert_eq!(status, Some(0), "{said}");
    let mut faults = Vec::new();
    // The last block that was run, while its output may follow.
    let mut last: Option<(&Block, String)> = None;
    let mut skipped = false;
    for block in &page.blocks {
        for steer in &block.steers {
            if let Steer::Setup(lines) = steer {
                let (status, said) = shell.run(lines);
                if status != Some(0) {
                    faults.push(fault(&page.path, block, &format!("its setup ends with {status:?}: {lines}\n{said}")));
                }
            }
        }
        match &*block.language {
            "sh" if block.is(&Steer::NotRun) => (last, skipped) = (None, true),
            "sh" => {
                let expected = block.steers.iter().find_map(|steer| match steer {
                    Steer::Exit(status) => Some(*status),
                    _ => None,
                });
                let expected = expected.unwrap_or(0);
                let (status, printed) = shell.run(&block.text);
                if status != Some(expected) {
                    let late = if status == Some(124) { " (it takes too long)" } else { "" };
                    let what = format!(
                        "exit status {status:?}{late}, not {expected}:\n{}\n--- printed\n{printed}",
                        block.text
                    );
                    faults.push(fault(&page.path, block, &what));
                    // What follows builds on it.
                    return faults;
                }
                (last, skipped) = (Some((block, printed)), false);
            }
            "text" if block.is(&Steer::Drawing) => (last, skipped) = (None, false),
            "text" => match last.take() {
                Some((command, printed)) => {
                    if let Some(difference) = difference(&block.text, &printed) {
                        let mut what = format!("{difference}\n--- command\n{}--- expected\n", command.text);
                        write!(what, "{}--- printed\n{printed}", block.text).expect("a string takes everything");
                        faults.push(fault(&page.path, block, &what));
                    }
                }
                None if skipped => skipped = false,
                None => faults.push(fault(
                    &page.path,
                    block,
                    "is neither the output of an sh block above it nor marked <!-- drawing -->",
                )),
            },
            _ => (last, skipped) = (None, false),
        }
    }
    faults
}

fn fault(path: &Path, block: &Block, what: &str) -> String {
    format!("{}:{}: {what}", path.display(), block.line)
}

#[test]
fn a_page_that_is_wrong_is_found_wrong() {
    let faults = |text: &str| faults(&Page::parse("p.md", text)).join("\n");
    let right = "```sh\ncd hf\nexport A=1\nx=$(ls | wc -l)\necho $x >../n\n```\n\n<!-- setup: touch \"$A\" -->\n<!-- exit: 3 -->\n\
                 ```sh\ncat ../n; ls; exit 3\n```\n\n```text\n3\n1\n...\nmodel.safetensors\n```\n\n<!-- drawing -->\n```text\nx\n```\n\
                 <!-- not run: no -->\n```sh\nfalse\n```\n```text\nx\n```\n```sh\nckpt-convert --version\n```\n```text\nckpt-convert …\n...\n```\n";
    assert_eq!(faults(right), "");
    for (wrong, said) in [
        ("```sh\nfalse\necho x\n```", "p.md:1: exit status Some(1), not 0"),
        ("```sh\necho $unset\n```", "p.md:1: exit status Some(1), not 0"),
        ("```sh\nfalse | true\n```", "exit status Some(1), not 0"),
        ("<!-- exit: 1 -->\n```sh\ntrue\n```", "p.md:2: exit status Some(0), not 1"),
        (
            "```sh\necho a; echo b >&2\n```\n\n```text\na\n```",
            "p.md:5: the block ends before this line of the output: b",
        ),
        ("```text\na\n```", "is neither the output of an sh block above it"),
        ("```sh\ntrue\n```\n```text\n```\n```text\nx\n```", "is neither the output of an sh block above it"),
        ("<!-- setup: false -->\n```sh\ntrue\n```", "its setup ends with Some(1)"),
    ] {
        let found = faults(wrong);
        assert!(found.contains(said), "{wrong}: {found}");
    }
}
