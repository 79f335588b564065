//! How the work is done: chosen by what can be seen, overridden by options, shown by `--dry-run`; the bytes are always the same.
//!
//! Other file systems than the one that the tests run on need root and loop devices: `tools/filesystems.sh` goes over them.

use std::collections::BTreeMap;

use crate::support::{Llama, Sharding, TestEnv};

const ONE: Sharding = Sharding { ranks: 1, fusion: None, vocabulary_whole: false };
const LINE: &str = "-f distributed_weight_transfer -p fp16 -w 2 -y model.yaml -sc src -dc out -is st";

/// A model with runs of several hundred KiB, so that whole blocks go straight through.
fn env() -> TestEnv {
    let env = TestEnv::new();
    let model = Llama { kv_heads: 8, rep: 2, head_dim: 16, ffn: 1024, vocab: 2048, layers: 1, ..Llama::small() };
    model.write(&env.path("src"), ONE, "ckpt");
    env.write("model.yaml", model.yaml(false, false));
    env
}

/// The settings of a dry run: name to (value, reason).
fn settings(env: &TestEnv, options: &str) -> BTreeMap<String, (String, String)> {
    let plan = env.line(&format!("{LINE} --dry-run --json {options}")).ok().json();
    let text = |setting: &serde_json::Value, field: &str| setting[field].as_str().expect("a text").to_owned();
    let list = plan["settings"].as_array().expect("a list");
    list.iter().map(|s| (text(s, "name"), (text(s, "value"), text(s, "why")))).collect()
}

#[test]
fn a_dry_run_says_what_was_chosen_and_why() {
    let env = env();
    let chosen = settings(&env, "");
    let names: Vec<_> = chosen.keys().map(String::as_str).collect();
    assert_eq!(names, ["chunk", "depth", "memory", "reader", "reflink", "workers", "writer", "writes"]);
    let text = env.line(&format!("{LINE} --dry-run")).ok().stdout;
    for (name, (value, why)) in &chosen {
        let line = text.lines().find(|line| line.trim_start().starts_with(&format!("{name} ")));
        let line = line.unwrap_or_else(|| panic!("no line for {name} in {text}"));
        // What is available changes while the test runs, but not what follows from it.
        assert!(line.contains(value.as_str()) && line.contains('(') && !why.is_empty(), "{line}: {value}, {why}");
    }
    assert!(!env.path("out").exists() && !env.path("st").exists());
}

#[test]
fn each_option_overrides_what_would_be_chosen() {
    let env = env();
    let options = "--workers 3 --memory 64MiB --chunk 128KiB --depth 5 --reader sequential --writes buffered \
                   --writer pwrite --reflink never";
    let chosen = settings(&env, options);
    let expected = [
        ("workers", "3"),
        ("memory", "64.0 MiB"),
        ("chunk", "128.0 KiB"),
        ("depth", "5"),
        ("reader", "sequential"),
        ("writes", "buffered"),
        ("writer", "pwrite"),
        ("reflink", "no"),
    ];
    assert_eq!(chosen.len(), expected.len());
    for (name, value) in expected {
        assert_eq!(chosen[name], (value.to_owned(), format!("set by --{name}")), "{name}");
    }
    assert_eq!(settings(&env, "--no-sync")["writes"].0, "buffered");
}

#[test]
fn a_value_that_is_none_is_refused_before_anything_is_made() {
    let env = env();
    let before = env.tree();
    for bad in [
        "--chunk 3MiB",
        "--chunk 1KiB",
        "--chunk 1GiB",
        "--chunk x",
        "--depth 0",
        "--depth 257",
        "--reader fast",
        "--writes maybe",
        "--reflink always",
        "--workers 0",
        "--workers 257",
        "--direct-reads",
    ] {
        let name = bad.split(' ').next().unwrap_or(bad);
        env.line(&format!("{LINE} {bad}")).failed(1, &[name]);
        env.line(&format!("n-to-m -w 2 -sc src -dc out -y model.yaml {bad}")).failed(1, &[name]);
        assert_eq!(env.tree(), before, "{bad}");
    }
    // `verify` keeps 1 for a difference.
    let status = env.line("verify src src --chunk 3MiB").status;
    assert_ne!(status, Some(0));
}

#[test]
fn no_way_of_working_changes_the_bytes() {
    let env = env();
    let plain = "--workers 1 --reader mapped --writes buffered --writer pwrite --reflink never";
    env.line(&format!("{} {plain}", LINE.replace("-dc out -is st", "-dc plain -is plain_st"))).ok();
    let bytes = |dir: &str, rank: usize| {
        std::fs::read(env.path(dir).join(format!("fp16_2p/rank_{rank}/checkpoint_{rank}.ckpt"))).expect("an output")
    };
    for way in [
        "",
        "--chunk 64KiB --depth 1",
        "--chunk 64KiB --depth 256 --workers 5",
        "--chunk 64MiB",
        "--memory 32MiB --workers 1 --chunk 64KiB",
        "--reader direct --writes direct",
        "--reader direct --writes buffered",
        "--reader sequential --writes direct",
        "--reader sequential --writes buffered --writer uring",
        "--reader sequential --writes buffered --chunk 64KiB --depth 1",
        "--writes direct --no-sync",
        "--reflink never",
    ] {
        env.line(&format!("{LINE} --overwrite {way}")).ok();
        for rank in 0..2 {
            assert!(bytes("out", rank) == bytes("plain", rank), "'{way}', rank {rank}");
        }
    }
}

#[test]
fn the_simplified_form_takes_all_options_and_the_comparison_those_of_reading() {
    let env = env();
    let how = "--chunk 128KiB --depth 2 --reader sequential --workers 2";
    env.line(&format!(
        "n-to-m -w 2 -sc src -dc out -y model.yaml --qkv_concat true -q {how} --writes buffered --reflink never"
    ))
    .ok();
    env.line(&format!("verify src out/fp16_2p_qkv -y model.yaml -q {how}")).ok();
}

/// A source and a target in memory, where the machine has such a place: there is nothing to be read or written past the cache.
#[test]
fn files_in_memory_are_mapped_and_written_through_the_cache() {
    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else { return };
    let env = env();
    env.line(LINE).ok();
    let copy = memory.path().join("rank_0");
    std::fs::create_dir(&copy).expect("a directory");
    std::fs::copy(env.path("src/rank_0/checkpoint_0.ckpt"), copy.join("checkpoint_0.ckpt")).expect("a copy");
    let place = memory.path().display();
    let line = format!(
        "-f distributed_weight_transfer -p fp16 -w 2 -y model.yaml -sc {place} -dc shm -is shm_st --dry-run --json"
    );
    let plan = env.line(&line).ok().json();
    let reader =
        plan["settings"].as_array().expect("a list").iter().find(|s| s["name"] == "reader").expect("it is told");
    assert_eq!(
        (reader["value"].as_str(), reader["why"].as_str()),
        (Some("mapped"), Some("tmpfs: it is in memory already"))
    );
    let target = tempfile::tempdir_in("/dev/shm").expect("as before");
    let into = target.path().display();
    let run = env.line(&format!(
        "-f distributed_weight_transfer -p fp16 -w 2 -y model.yaml -sc {place} -dc {into}/o -is {into}/s --json"
    ));
    let summary = run.ok().json();
    assert_eq!((summary["direct"].as_bool(), summary["bytes_shared"].as_u64()), (Some(false), Some(0)));
    for rank in 0..2 {
        let file = format!("fp16_2p/rank_{rank}/checkpoint_{rank}.ckpt");
        let read = |path: std::path::PathBuf| std::fs::read(path).expect("an output");
        assert!(read(target.path().join("o").join(&file)) == read(env.path("out").join(&file)), "{file}");
    }
}
