//! What the tests share: a place to work in, the program, and readers, writers and a model that know nothing of `src/`.

mod bits;
mod cases;
mod ckpt;
mod golden;
mod llama;
mod quant;
mod safetensors;
mod training;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

pub(crate) use bits::{Float, cast, crc32, crc64_nvme};
pub(crate) use cases::cases;
pub(crate) use ckpt::{read_ckpt, record, write_ckpt};
pub(crate) use golden::{Index, compare, compare_dir, data, index};
pub(crate) use llama::{Fusion, Llama, Sharding, Values, fused_of};
pub(crate) use quant::{numbers, quantise, rank_of as quantised_rank, w8a16};
pub(crate) use safetensors::{read_safetensors, write_safetensors};
pub(crate) use training::{TrainingRun, message, number};

/// A parameter as a file holds it: MindSpore's dtype name, dims, raw bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) dims: Vec<u64>,
    pub(crate) bytes: Vec<u8>,
}

/// The first 16 hex digits of the SHA-256, as the indexes of `tests/data` have them.
pub(crate) fn sha16(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

/// Reads a file of either format by its extension.
pub(crate) fn read_tensors(path: &Path) -> Vec<Tensor> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    if path.extension() == Some(OsStr::new("safetensors")) { read_safetensors(&bytes) } else { read_ckpt(&bytes) }
}

/// The tensors of `rank_0`, `rank_1`, … of a directory, by name.
pub(crate) fn read_ranks(dir: &Path, ranks: u64, extension: &str) -> Vec<BTreeMap<String, Tensor>> {
    (0..ranks)
        .map(|rank| {
            let tensors = read_tensors(&dir.join(format!("rank_{rank}/checkpoint_{rank}.{extension}")));
            let count = tensors.len();
            let named: BTreeMap<_, _> = tensors.into_iter().map(|t| (t.name.clone(), t)).collect();
            assert_eq!(named.len(), count, "a name twice in rank {rank}");
            named
        })
        .collect()
}

/// A directory of its own for one test, and the program in it.
pub(crate) struct TestEnv {
    dir: TempDir,
}

impl TestEnv {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Writes a file and the directories above it.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        std::fs::write(&path, bytes).expect("a file");
        path
    }

    /// The program, to run in this directory.
    pub(crate) fn command(&self, args: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ckpt-convert"));
        command.current_dir(self.root()).args(args);
        command
    }

    pub(crate) fn run(&self, args: &[impl AsRef<OsStr>]) -> Run {
        Run::of(&mut self.command(args))
    }

    /// Runs a command line whose words hold no spaces.
    pub(crate) fn line(&self, line: &str) -> Run {
        self.run(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Everything below the directory (hidden or not) with the hash of its content.
    pub(crate) fn tree(&self) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        tree(self.root(), self.root(), &mut found);
        found
    }
}

fn tree(root: &Path, dir: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.strip_prefix(root).expect("below the root").to_owned();
        let meta = path.symlink_metadata().expect("metadata");
        if meta.is_dir() {
            found.insert(name, "directory".to_owned());
            tree(root, &path, found);
        } else if meta.is_file() {
            found.insert(name, sha16(&std::fs::read(&path).expect("a readable file")));
        } else {
            found.insert(name, "special".to_owned());
        }
    }
}

/// What a run of the program gave.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Self::from_output(output)
    }

    pub(crate) fn from_output(output: Output) -> Self {
        Self {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("UTF-8 on standard output"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8 on standard error"),
        }
    }

    /// The run must have gone well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.status, Some(0), "{self:#?}");
        self
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }

    /// The run must have failed in this way, saying all of this on standard error, in whole lines, without panic.
    #[track_caller]
    pub(crate) fn failed(&self, status: i32, said: &[&str]) {
        assert_eq!(self.status, Some(status), "{self:#?}");
        for words in said {
            assert!(self.stderr.contains(words), "{words:?} is not said: {self:#?}");
        }
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
    }
}
