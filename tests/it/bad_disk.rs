//! Sources on a disk that cannot be read everywhere. Needs root and a loop device; where there is none that is said.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Float, Llama, Run, Sharding, TestEnv};

const ONE: Sharding = Sharding { ranks: 1, fusion: None, vocabulary_whole: false };

/// A disk of so many bytes of which only the first part is there.
struct BadDisk {
    dir: PathBuf,
}

impl BadDisk {
    /// A disk on which `fill` writes. `None` where none is available, which is printed.
    #[expect(clippy::print_stderr, reason = "the reason for a skipped test")]
    fn new(env: &TestEnv, bytes: u64, left: u64, fill: impl FnOnce(&Path)) -> Option<Self> {
        let (image, dir) = (env.path("image"), env.path("disk"));
        std::fs::create_dir_all(&dir).expect("a directory");
        let file = File::options().write(true).create_new(true).open(&image).expect("a file");
        file.set_len(bytes).expect("a length");
        let run = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            let said = match command.args(args).output() {
                Ok(output) if output.status.success() => return true,
                Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                Err(e) => e.to_string(),
            };
            eprintln!("skipped: {program}: {said}");
            false
        };
        let (image, at) = (image.to_str().expect("UTF-8"), dir.to_str().expect("UTF-8"));
        // Without a journal, what describes the files is at the beginning.
        if !run("mkfs.ext2", &["-q", "-F", "-b", "4096", image]) || !run("mount", &["-o", "loop", image, at]) {
            return None;
        }
        let disk = Self { dir: dir.clone() };
        fill(&dir);
        // Mounted anew, nothing of the files is in memory.
        if !run("umount", &[at]) || !run("mount", &["-o", "loop", image, at]) {
            return None;
        }
        file.set_len(left).expect("a length");
        Some(disk)
    }
}

impl Drop for BadDisk {
    fn drop(&mut self) {
        // What stays mounted goes with the container.
        let _ = Command::new("umount").arg(&self.dir).status();
    }
}

fn refused(run: &Run, file: &str) {
    run.failed(2, &[&format!("error: cannot read {file}: "), "Input/output error", " at byte ", "hint: ", "dmesg"]);
}

/// Of a safetensors file the header can be read, of MindSpore's not all of them.
#[test]
fn what_cannot_be_read_is_an_error_whoever_reads_it() {
    let env = TestEnv::new();
    let model = Llama { kv_heads: 8, rep: 1, head_dim: 64, ffn: 512, vocab: 64, float: Float::Fp32, ..Llama::small() };
    let good = env.path("good");
    model.write(&good, ONE, "safetensors");
    env.write("model.yaml", model.yaml(false, false));
    let disk = BadDisk::new(&env, 20 << 20, 3 << 20, |dir| {
        // The names before the bytes, on the part that is there.
        for extension in ["safetensors", "ckpt"] {
            std::fs::create_dir_all(dir.join(extension).join("rank_0")).expect("directories");
        }
        for extension in ["safetensors", "ckpt"] {
            model.write(&dir.join(extension), ONE, extension);
        }
    });
    let Some(_disk) = disk else { return };
    let (tensors, records) = ("disk/safetensors/rank_0/checkpoint_0.safetensors", "disk/ckpt/rank_0/checkpoint_0.ckpt");
    let line = "-f distributed_weight_transfer -y model.yaml -dc out -is st -p fp16 -w 4";
    for reader in ["auto", "mapped", "direct", "sequential"] {
        refused(&env.line(&format!("{line} -sc disk/safetensors --reader {reader}")), tensors);
    }
    refused(&env.line("verify good disk/safetensors -y model.yaml --reader direct"), tensors);
    refused(&env.line("verify disk/safetensors good -y model.yaml"), tensors);
    refused(&env.line("-f quant_weight -y model.yaml -sc disk/safetensors -dc out -is st -w 1 -p w8a16"), tensors);
    refused(&env.line(&format!("{line} -sc disk/ckpt")), records);
    refused(&env.line("inspect disk/ckpt"), records);
    // All that is wrong is listed, so that is one of the findings.
    env.line("doctor disk/ckpt").failed(1, &[]);
    let found = env.line("doctor disk/ckpt");
    assert!(found.stdout.contains("Input/output error") && found.stdout.contains(records), "{found:#?}");
    for left in ["out", "st"] {
        assert_eq!(std::fs::read_dir(env.path(left)).into_iter().flatten().count(), 0);
    }
}
