//! `example DIR`: the model that the repository carries, and the command to try on it.

use std::path::Path;
use std::process::Command;

use crate::support::{Run, TestEnv};

/// Every file below a folder of the repository, with its content, but for the scripts that made them.
fn carried() -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tiny-llama");
    let mut found = Vec::new();
    let mut left = vec![root.clone()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_none_or(|e| e != "py") {
                let name = path.strip_prefix(&root).expect("below it").to_str().expect("UTF-8").to_owned();
                found.push((name, std::fs::read(path).expect("a readable file")));
            }
        }
    }
    found.retain(|(name, _)| !name.contains("__pycache__"));
    found.sort();
    found
}

/// The lines after `try:`, as a user types them.
fn advice(run: &Run) -> String {
    run.stdout.split_once("\ntry:\n").expect("something to try").1.to_owned()
}

/// Types lines into a shell that finds the program as `ckpt-convert` only.
fn typed(env: &TestEnv, lines: &str) -> Run {
    let program = Path::new(env!("CARGO_BIN_EXE_ckpt-convert"));
    let path = format!("{}:/usr/bin:/bin", program.parent().expect("a folder").display());
    Run::of(Command::new("bash").args(["-euc", lines]).env("PATH", path).current_dir(env.root()))
}

#[test]
fn the_example_is_the_repositorys_and_nothing_else() {
    let env = TestEnv::new();
    let run = env.line("example a/tiny").ok();
    let carried = carried();
    assert!(run.stdout.starts_with(&format!("wrote {} files below a/tiny", carried.len())), "{run:#?}");
    for (name, bytes) in &carried {
        assert!(std::fs::read(env.path("a/tiny").join(name)).is_ok_and(|found| found == *bytes), "{name}");
    }
    let laid_out = env.tree().into_iter().filter(|(_, hash)| hash != "directory").count();
    assert_eq!(laid_out, carried.len());
    // What it says of them: every name at the top of the tree.
    for entry in std::fs::read_dir(env.path("a/tiny")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(run.stdout.contains(&format!("\n  {name}")), "{name}: {run:#?}");
    }
}

#[test]
fn the_command_that_the_example_proposes_works_as_printed() {
    // By its path, which need not be one that is valid elsewhere; by its name; in a directory whose name needs quotes; here.
    for (line, quoted) in [
        ("ckpt-convert example tiny", "cd tiny"),
        ("ckpt-convert example \"it's tiny\"", r"cd 'it'\''s tiny'"),
        ("ckpt-convert example -- -tiny", "cd ./-tiny"),
        ("ckpt-convert example .", ""),
        ("mkdir bin; ln -s \"$(command -v ckpt-convert)\" bin/it; bin/it example tiny", "cd tiny"),
    ] {
        let env = TestEnv::new();
        let said = typed(&env, line).ok();
        let lines = advice(&said);
        assert!(lines.contains(quoted), "{lines}");
        assert_eq!(lines.contains("cd "), !quoted.is_empty(), "{lines}");
        let run = typed(&env, &lines).ok();
        assert!(run.stdout.starts_with("wrote out/fp16_4p_qkv: "), "{line}: {run:#?}");
        let verified = typed(&env, &format!("{}\nckpt-convert verify hf out/fp16_4p_qkv", enter(&lines))).ok();
        assert!(verified.stdout.starts_with("the same model: "), "{line}: {verified:#?}");
    }
}

fn enter(lines: &str) -> &str {
    lines.lines().next().filter(|line| line.trim_start().starts_with("cd ")).unwrap_or_default()
}

#[test]
fn the_example_replaces_nothing_and_is_laid_out_whole_or_not_at_all() {
    let env = TestEnv::new();
    env.line("example a").ok();
    let before = env.tree();
    env.line("example a").failed(1, &["a has `llama_tiny_4p.yaml`", "already, and nothing was written"]);
    assert_eq!(env.tree(), before);
    env.write("b/hf/config.json", "mine");
    env.line("example b").failed(1, &["b has `hf/config.json` already"]);
    env.write("c/training", "a file");
    env.line("example c").failed(2, &["c/training"]);
    assert_eq!(std::fs::read(env.path("b/hf/config.json")).unwrap(), b"mine");
    for dir in ["b", "c"] {
        assert_eq!(std::fs::read_dir(env.path(dir)).unwrap().count(), 1, "{dir}");
    }
    // Beside what is there already.
    env.write("d/mine", "mine");
    env.line("example d").ok();
    assert_eq!(std::fs::read(env.path("d/mine")).unwrap(), b"mine");
}

#[test]
fn a_model_that_is_not_the_one_beside_the_files_is_named_with_the_difference() {
    let env = TestEnv::new();
    env.line("example tiny").ok();
    env.line("-f pt_to_ms -p fp16 -w 2 -y llama2_7b -sc tiny/hf -dc out -is st")
        .failed(1, &["-y names another model", "hidden size 4096, not 32", "hint: leave -y out"]);
    // As the hint says.
    env.line("-f pt_to_ms -p fp16 -w 2 -sc tiny/hf -dc out -is st --qkv_concat true").ok();
    assert!(env.path("out/fp16_2p_qkv").exists());
}
