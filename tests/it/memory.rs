//! One rank of a target in memory: the same safetensors file as the conversion writes, in `/dev/shm` or in a caller's buffer.

use std::path::{Path, PathBuf};

use ckpt_convert::{CancelToken, InMemory, Job, Precision, Silent};

use crate::quantise::tame;
use crate::support::{Float, Llama, Run, Sharding, TestEnv, Values, write_ckpt};

const TWO: Sharding = Sharding { ranks: 2, fusion: None, vocabulary_whole: false };
const LINE: &str = "-f distributed_weight_transfer -p fp16 -w 4 -y model.yaml -sc src";

/// A name in shared memory that no other test has, gone with the test.
struct Name(String);

impl Name {
    fn new(of: &str) -> Self {
        let name = Self(format!("ckpt-convert-test-{of}-{}", std::process::id()));
        let _ = std::fs::remove_file(name.path());
        name
    }

    fn path(&self) -> PathBuf {
        Path::new("/dev/shm").join(&self.0)
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).expect("it is there")
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.path());
    }
}

/// A model of two ranks of fp32, some 3 MB.
fn env() -> TestEnv {
    let env = TestEnv::new();
    let (head_dim, ffn, vocab, float, values) = (8, 1024, 2048, Float::Fp32, Values::Numbers);
    let model = Llama { head_dim, ffn, vocab, float, values, ..Llama::small() };
    let mut full = model.full();
    tame(&mut full);
    for rank in 0..TWO.ranks {
        env.write(&format!("src/rank_{rank}/checkpoint_{rank}.ckpt"), write_ckpt(&model.rank(&full, rank, TWO)));
    }
    env.write("model.yaml", model.yaml(false, false));
    env
}

fn written(env: &TestEnv, target: &str, rank: u32) -> Vec<u8> {
    std::fs::read(env.path(&format!("out/{target}/rank_{rank}/checkpoint_{rank}.safetensors"))).expect("an output")
}

/// Whether the machine has shared memory, as all of Linux has but for some containers.
fn has_shared_memory() -> bool {
    Path::new("/dev/shm").is_dir()
}

#[test]
fn a_rank_in_shared_memory_is_the_file_that_is_written() {
    let env = env();
    for (line, target) in [
        (LINE.to_owned(), "fp16_4p"),
        (LINE.replace("distributed_weight_transfer -p fp16 -w 4", "quant_weight -p w8a16 -w 2"), "w8a16_2p"),
    ] {
        env.line(&format!("{line} --format safetensors -dc out -is st")).ok();
        let before = env.tree();
        if !has_shared_memory() {
            return;
        }
        let name = Name::new(target);
        let run = env.line(&format!("{line} -dc shm:{} --rank 1", name.0)).ok();
        assert!(run.stdout.starts_with(&format!("filled /dev/shm/{}: ", name.0)), "{run:#?}");
        assert!(name.bytes() == written(&env, target, 1), "{target}");
        assert_eq!(env.tree(), before, "nothing else was written");
        // Once more only where that is requested.
        env.line(&format!("{line} -dc shm:{} --rank 0", name.0)).failed(1, &["exists already", "--overwrite"]);
        let filled = env.line(&format!("{line} -dc shm:{} --rank 0 --overwrite --json", name.0)).ok().json();
        assert_eq!(filled["bytes"].as_u64(), Some(written(&env, target, 0).len() as u64));
        assert!(name.bytes() == written(&env, target, 0), "{target}");
        // It is a source like any other file of its format.
        env.line(&format!("inspect {}", name.path().display())).ok();
    }
}

#[test]
fn a_buffer_is_filled_with_the_file_that_is_written() {
    let env = env();
    env.line(&format!("{LINE} --format safetensors -dc out -is st")).ok();
    let yaml = env.path("model.yaml").display().to_string();
    let job = Job::transfer(env.path("src"), "").precision(Precision::Fp16).ranks(4).model(yaml);
    let cancel = CancelToken::default();
    for rank in 0..4 {
        let memory = InMemory::new(&job, Some(rank), &Silent, &cancel).unwrap();
        let expected = written(&env, "fp16_4p", rank);
        assert_eq!(memory.len(), expected.len() as u64);
        let mut buffer = vec![0xa5; expected.len()];
        let filled = memory.fill(&mut buffer, &Silent, &cancel).unwrap();
        assert!(buffer == expected, "rank {rank}");
        assert_eq!((filled.bytes, filled.target), (memory.len(), None));
        let error = memory.fill(&mut buffer[1..], &Silent, &cancel).unwrap_err();
        assert!(error.to_string().starts_with("the buffer has "), "{error}");
    }
    let memory = InMemory::new(&job, Some(0), &Silent, &cancel).unwrap();
    let mut buffer = vec![0; usize::try_from(memory.len()).unwrap()];
    // A source that changes is an error, whatever the buffer has then.
    std::fs::OpenOptions::new()
        .write(true)
        .open(env.path("src/rank_0/checkpoint_0.ckpt"))
        .unwrap()
        .set_len(5000)
        .unwrap();
    let error = memory.fill(&mut buffer, &Silent, &cancel).unwrap_err().to_string();
    assert!(error.contains("checkpoint_0.ckpt") && error.contains("5000"), "{error}");
    cancel.cancel();
    assert!(
        InMemory::new(&job, Some(1), &Silent, &cancel).and_then(|m| m.fill(&mut buffer, &Silent, &cancel)).is_err()
    );
}

#[test]
fn what_does_not_go_into_memory_is_refused_and_leaves_nothing() {
    let env = env();
    let name = Name::new("refused");
    let refused = |line: &str, said: &[&str]| -> Run {
        let run = env.line(line);
        run.failed(1, said);
        assert!(!name.path().exists(), "{line}");
        run
    };
    let to = format!("-dc shm:{}", name.0);
    refused(&format!("{LINE} {to}"), &["memory takes one rank", "--rank, from 0 to 3"]);
    refused(&format!("{LINE} {to} --rank 4"), &["--rank 4: the ranks of the target are 0 to 3"]);
    refused(&format!("{LINE} -dc out --rank 1"), &["--rank goes with -dc shm:NAME"]);
    refused(&format!("{LINE} {to} --rank 0 --format ckpt"), &["laid out as safetensors: leave --format out"]);
    for option in ["--crc", "--dry-run", "--nodes 2", "--writes direct", "--no-sync"] {
        let said = format!("{} goes with a target on a disk, not in memory", option.split(' ').next().unwrap());
        refused(&format!("{LINE} {to} --rank 0 {option}"), &[&said]);
    }
    for bad in ["", ".hidden", "a/b", "../x"] {
        let line = format!("{LINE} --rank 0 -dc=shm:{bad}");
        refused(&line, &[&format!("shm:{bad}: a name in /dev/shm")]);
    }
    if !has_shared_memory() {
        return;
    }
    // What is no safetensors file is somebody else's.
    std::fs::write(name.path(), "not ours").unwrap();
    env.line(&format!("{LINE} {to} --rank 0 --overwrite")).failed(1, &["is not the result of a conversion"]);
    assert_eq!(name.bytes(), b"not ours");
}
