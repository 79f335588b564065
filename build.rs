//! What `--version` prints: commit, target and features.
//!
//! The commit is looked up for release builds only, so that `cargo test` compiles nothing anew after each commit. It comes from
//! `CKPT_CONVERT_COMMIT` (packagers, container images without `.git`), else from git, where this directory is a checkout's
//! root, else from the file that `cargo package` writes.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the program is made from: a change below these makes the build a modified one.
const SOURCES: [&str; 6] = ["src", "tools", "examples", "Cargo.toml", "Cargo.lock", "build.rs"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Read whole, so that the compiler does not see a new file there.
    println!("cargo::rerun-if-changed=src/model/families");
    println!("cargo::rerun-if-env-changed=CKPT_CONVERT_COMMIT");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let commit = if let Some(given) = std::env::var("CKPT_CONVERT_COMMIT").ok().filter(|text| !text.is_empty()) {
        given
    } else if variable("PROFILE") == "release" {
        checkout(&root).or_else(|| packaged(&root)).unwrap_or_else(|| "unknown (built without git)".to_owned())
    } else {
        "not recorded in a debug build".to_owned()
    };
    let features: Vec<String> = variable("CARGO_CFG_FEATURE")
        .split(',')
        .filter(|name| !matches!(*name, "" | "default"))
        .map(str::to_owned)
        .collect();
    println!("cargo::rustc-env=CKPT_CONVERT_COMMIT={commit}");
    println!("cargo::rustc-env=CKPT_CONVERT_TARGET={}", variable("TARGET"));
    let features = if features.is_empty() { "none".to_owned() } else { features.join(", ") };
    println!("cargo::rustc-env=CKPT_CONVERT_FEATURES={features}");
}

/// The commit of the checkout whose root this is, its date, and whether the sources are as it has them.
fn checkout(root: &Path) -> Option<String> {
    // An unpacked archive may lie in somebody else's checkout.
    let top = git(root, &["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != root.canonicalize().ok()? {
        return None;
    }
    let commit = git(root, &["show", "-s", "--format=%h %cs", "--abbrev=12", "HEAD"])?;
    let status = git(root, &[&["status", "--porcelain", "--"], &SOURCES[..]].concat())?;
    // HEAD's log grows with each commit and switch.
    for name in ["HEAD", "logs/HEAD"] {
        let path = root.join(git(root, &["rev-parse", "--git-path", name])?);
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    for name in SOURCES {
        println!("cargo::rerun-if-changed={name}");
    }
    Some(if status.is_empty() { commit } else { format!("{commit}, modified") })
}

/// The commit in the file that `cargo package` adds.
fn packaged(root: &Path) -> Option<String> {
    let text = std::fs::read_to_string(root.join(".cargo_vcs_info.json")).ok()?;
    let (_, rest) = text.split_once("\"sha1\"")?;
    let hash: String =
        rest.chars().skip_while(|c| !c.is_ascii_hexdigit()).take_while(char::is_ascii_hexdigit).collect();
    (hash.len() >= 40).then(|| hash[..12].to_owned())
}

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
