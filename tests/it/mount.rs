//! Targets that are shown and not written, against the written files of the same conversion.
//!
//! Mounting needs `/dev/fuse`, and root or `fusermount3`. Where that is unavailable, each test says so and ends.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::quantise::tame;
use crate::support::{Float, Llama, Run, Sharding, TestEnv, Values, write_ckpt};

const FOUR: Sharding = Sharding { ranks: 4, fusion: None, vocabulary_whole: false };
const O_DIRECT: i32 = libc_o_direct();

/// As the kernel has it on this architecture.
const fn libc_o_direct() -> i32 {
    if cfg!(any(target_arch = "aarch64", target_arch = "arm", target_arch = "powerpc64")) {
        0o200_000
    } else {
        0o40_000
    }
}

/// A program that serves a mount.
struct Mounted {
    child: Child,
    at: PathBuf,
    stderr: Option<std::thread::JoinHandle<String>>,
}

impl Mounted {
    /// Mounts at `target`, with the options of a conversion. `None`: it cannot be done here, which was said.
    fn new(env: &TestEnv, options: &str) -> Option<Self> {
        let at = env.path("target");
        std::fs::create_dir_all(&at).expect("a directory");
        let words: Vec<&str> = ["mount"].into_iter().chain(options.split_whitespace()).chain(["target"]).collect();
        let mut child = env.command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut said = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut said).expect("a line");
        let mut errors = child.stderr.take().expect("piped");
        let read = move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).expect("UTF-8");
            text
        };
        let mut mounted = Self { child, at, stderr: Some(std::thread::spawn(read)) };
        if said.starts_with("mounted target: ") {
            return Some(mounted);
        }
        let run = mounted.ended();
        run.failed(2, &["error: cannot mount at target: ", "hint: mounting takes /dev/fuse"]);
        assert!(!may_mount(), "{run:#?}");
        // Past the harness, which shows what a test prints only where it fails.
        let _ = writeln!(std::io::stderr(), "skipped: no FUSE here: {}", run.stderr.trim_end());
        None
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill runs");
        assert!(status.success());
    }

    /// What it has said, after it has ended by itself.
    fn ended(&mut self) -> Run {
        let begun = Instant::now();
        while self.child.try_wait().expect("a child").is_none() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it goes on");
            std::thread::sleep(Duration::from_millis(5));
        }
        let status = self.child.wait().expect("a child").code();
        let stderr = self.stderr.take().map(|thread| thread.join().expect("read")).unwrap_or_default();
        Run { status, stdout: String::new(), stderr }
    }

    fn file(&self, name: &str) -> File {
        opened(&self.at.join(name))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A test that failed leaves nothing mounted.
        let _ = Command::new("umount").args(["-l", "-q"]).arg(&self.at).stderr(Stdio::null()).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether this machine has all that root needs to mount: then it must work.
fn may_mount() -> bool {
    let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    let administers = std::fs::read_to_string("/proc/self/status").unwrap_or_default().lines().any(|line| {
        let mask = line.strip_prefix("CapEff:").and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask & 1 << 21 != 0)
    });
    root && administers && OpenOptions::new().read(true).write(true).open("/dev/fuse").is_ok()
}

/// A model on four ranks, of 2.3 MB of fp32.
fn env() -> TestEnv {
    let env = TestEnv::new();
    let model = Llama {
        head_dim: 8,
        ffn: 512,
        vocab: 512,
        layers: 2,
        float: Float::Fp32,
        values: Values::Numbers,
        ..Llama::small()
    };
    let mut full = model.full();
    tame(&mut full);
    for rank in 0..FOUR.ranks {
        env.write(&format!("src/rank_{rank}/checkpoint_{rank}.ckpt"), write_ckpt(&model.rank(&full, rank, FOUR)));
    }
    env.write("model.yaml", model.yaml(false, false));
    env
}

/// A new number at each call.
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*state >> 33).expect("31 bits")
}

fn opened(path: &Path) -> File {
    OpenOptions::new().read(true).open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Bytes of a file from an offset on, as many as are there and wanted.
fn read_at(file: &File, at: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0xa5; size];
    let read = file.read_at(&mut bytes, at).expect("it can be read");
    bytes.truncate(read);
    bytes
}

/// Files below a directory, with their lengths.
fn files(root: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            let meta = path.metadata().expect("metadata");
            if meta.is_dir() {
                dirs.push(path);
            } else {
                found.push((path.strip_prefix(root).expect("below it").to_owned(), meta.len()));
            }
        }
    }
    found.sort();
    found
}

/// Every file of `written`, but for the manifest, is in `shown`, with its length and bytes at any offset.
fn same(written: &Path, shown: &Path) {
    let of_data = |root: &Path| {
        let mut all = files(root);
        all.retain(|(path, _)| path != Path::new("manifest.json") && !path.starts_with("strategy"));
        all
    };
    assert_eq!(of_data(written), of_data(shown));
    let mut state = 1;
    for (name, len) in of_data(written) {
        let (one, other) = (opened(&written.join(&name)), opened(&shown.join(&name)));
        // Before the page cache has any of it.
        for round in 0..30 {
            let size = 1 + random(&mut state) % [7, 5000, 300_000][round % 3];
            let at = random(&mut state) as u64 % (len + 3);
            let same = read_at(&one, at, size) == read_at(&other, at, size);
            assert!(same, "{} at {at}, {size} bytes", name.display());
        }
        let whole = |root: &Path| std::fs::read(root.join(&name)).expect("it can be read");
        assert!(whole(written) == whole(shown), "{}", name.display());
    }
}

/// `umount`, until it is done: a child that another test has just forked has this process's files, until it becomes a program.
fn unmount(at: &Path) {
    let begun = Instant::now();
    loop {
        let output = Command::new("umount").arg(at).output().expect("umount");
        if output.status.success() {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{}", String::from_utf8_lossy(&output.stderr));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_file_is_there_with_its_length_and_its_bytes_at_any_offset() {
    let env = env();
    std::fs::create_dir(env.path("target")).unwrap();
    for (line, target) in [
        ("-f distributed_weight_transfer -p fp16 -w 2 -y model.yaml -sc src --qkv_concat true", "fp16_2p_qkv"),
        ("-f distributed_weight_transfer -p keep -w 8 -y model.yaml -sc src --format safetensors", "keep_8p"),
        ("-f quant_weight -p w8a16 -w 2 -y model.yaml -sc src", "w8a16_2p"),
    ] {
        env.line(&format!("{line} -dc out -is st")).ok();
        let before = env.tree();
        let Some(mut mounted) = Mounted::new(&env, line) else { return };
        same(&env.path("out").join(target), &mounted.at);
        let strategies = |dir: PathBuf| files(&dir);
        let written = env.path("st").join(target.trim_end_matches("_qkv")).join("strategy");
        assert_eq!(strategies(written), strategies(mounted.at.join("strategy")), "{line}");
        // It says in which order rows are fused, so that it is a source like the written one.
        env.line(&format!("verify out/{target} target")).ok();
        mounted.signal("-TERM");
        assert_eq!(mounted.ended().ok().stderr.matches("error").count(), 0);
        assert_eq!(env.tree(), before, "nothing was written");
    }
}

#[test]
fn it_is_read_past_the_page_cache_and_by_mapping_and_by_several_at_once() {
    let env = env();
    let line = "-f distributed_weight_transfer -p fp16 -w 1 -y model.yaml -sc src";
    env.line(&format!("{line} -dc out -is st")).ok();
    let Some(mounted) = Mounted::new(&env, line) else { return };
    let name = "rank_0/checkpoint_0.ckpt";
    let expected = std::fs::read(env.path("out/fp16_1p").join(name)).unwrap();
    let mut direct = Vec::new();
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(O_DIRECT).open(mounted.at.join(name)).unwrap().read_to_end(&mut direct).unwrap();
    assert!(direct == expected);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(std::fs::read(mounted.at.join(name)).unwrap() == expected));
        }
    });
    // The program maps its sources.
    env.line("-f distributed_weight_transfer -p fp16 -w 1 -y model.yaml -sc target -dc again -is st2 --reader mapped")
        .ok();
    assert!(std::fs::read(env.path("again/fp16_1p").join(name)).unwrap() == expected);
}

#[test]
fn nobody_writes_to_it() {
    let env = env();
    let line = "-f distributed_weight_transfer -p fp16 -w 1 -y model.yaml -sc src";
    let Some(mounted) = Mounted::new(&env, line) else { return };
    assert!(std::fs::write(mounted.at.join("new"), "x").is_err());
    assert!(OpenOptions::new().write(true).open(mounted.at.join("rank_0/checkpoint_0.ckpt")).is_err());
    assert!(std::fs::remove_file(mounted.at.join("rank_0/checkpoint_0.ckpt")).is_err());
    assert!(mounted.at.join("nothing").metadata().is_err());
    let mode = |name: &str| mounted.at.join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("rank_0"), mode("manifest.json")), (0o555, 0o444));
    // One mount point, one mount.
    env.run(&["mount", "-f", "distributed_weight_transfer", "-p", "fp16", "-w", "1", "-sc", "src", "target"])
        .failed(1, &["target is not an empty directory", "mkdir -p target"]);
}

#[test]
fn a_signal_or_umount_ends_it_and_a_reader_keeps_his_file() {
    let env = env();
    let line = "-f distributed_weight_transfer -p fp16 -w 1 -y model.yaml -sc src";
    for end in ["-INT", "-TERM", "-HUP", "umount"] {
        let Some(mut mounted) = Mounted::new(&env, line) else { return };
        if end == "umount" {
            unmount(&mounted.at);
        } else {
            let open = mounted.file("rank_0/checkpoint_0.ckpt");
            mounted.signal(end);
            while mounted.at.join("rank_0").exists() {
                std::thread::yield_now();
            }
            // A process that has it open reads on.
            assert_eq!(open.read_at(&mut [0; 100], 4096).unwrap(), 100, "{end}");
            assert!(mounted.child.try_wait().unwrap().is_none(), "{end}");
        }
        assert_eq!(mounted.ended().ok().stderr.matches("error").count(), 0, "{end}");
        assert_eq!(files(&mounted.at), [], "{end}");
    }
}

#[test]
fn what_a_killed_process_leaves_is_named_with_the_command_that_removes_it() {
    let env = env();
    let line = "-f distributed_weight_transfer -p fp16 -w 1 -y model.yaml -sc src";
    let Some(mut mounted) = Mounted::new(&env, line) else { return };
    mounted.signal("-KILL");
    mounted.ended();
    let run = env.line(&format!("mount {line} target"));
    run.failed(
        1,
        &["target is still mounted, by a process that has ended", "fusermount -u target", "root: umount target"],
    );
    unmount(&mounted.at);
    let Some(mut mounted) = Mounted::new(&env, line) else { panic!("it is mounted again") };
    mounted.signal("-INT");
    mounted.ended().ok();
}

#[test]
fn a_source_that_changes_gives_errors_and_no_bytes() {
    let truncate: fn(&File) = |file| file.set_len(5000).unwrap();
    let overwrite: fn(&File) = |file| file.write_all_at(&[0; 100], 40_000).unwrap();
    for (change, said) in [(truncate, "and has 5000 now"), (overwrite, "it was written to")] {
        let env = env();
        let line = "-f distributed_weight_transfer -p fp16 -w 1 -y model.yaml -sc src";
        let Some(mut mounted) = Mounted::new(&env, line) else { return };
        let shown = mounted.file("rank_0/checkpoint_0.ckpt");
        let source = env.path("src/rank_2/checkpoint_2.ckpt");
        change(&OpenOptions::new().write(true).open(&source).unwrap());
        let error = std::fs::read(mounted.at.join("rank_0/checkpoint_0.ckpt")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5), "{error}");
        // What is made of other sources, and of none, is read as before.
        assert_eq!(shown.read_at(&mut [0; 20], 0).unwrap(), 20);
        assert!(mounted.file("manifest.json").read_at(&mut [0; 20], 0).unwrap() == 20);
        drop(shown);
        mounted.signal("-INT");
        let run = mounted.ended().ok();
        let lines: Vec<&str> = run.stderr.lines().filter(|line| line.contains("input/output error")).collect();
        assert_eq!(lines.len(), 1, "{run:#?}");
        for words in ["note: rank_0/checkpoint_0.ckpt at byte ", "src/rank_2/checkpoint_2.ckpt", said] {
            assert!(lines[0].contains(words), "{words:?}: {run:#?}");
        }
    }
}

/// The CRC trailer of a `.ckpt`, and the sums of a zip archive.
#[test]
fn checksums_of_a_file_in_it_are_those_of_the_file_that_is_written() {
    let env = env();
    std::fs::create_dir(env.path("target")).unwrap();
    for (number, line) in [
        "-f distributed_weight_transfer -p fp16 -w 2 -y model.yaml -sc src --crc",
        "-f ms_to_pt -p fp16 -y model.yaml -sc src --format bin --max-shard-size 1MB",
    ]
    .into_iter()
    .enumerate()
    {
        env.line(&format!("{line} -dc out.{number} -is st")).ok();
        let written = std::fs::read_dir(env.path(&format!("out.{number}"))).unwrap().next().unwrap().unwrap().path();
        let Some(mut mounted) = Mounted::new(&env, line) else { return };
        // Before anything else is read: the sums alone.
        for (name, len) in files(&written).into_iter().filter(|(path, _)| path != Path::new("manifest.json")) {
            let (one, other) = (opened(&written.join(&name)), opened(&mounted.at.join(&name)));
            assert_eq!(read_at(&one, len - 4, 4), read_at(&other, len - 4, 4), "{}", name.display());
        }
        same(&written, &mounted.at);
        mounted.signal("-TERM");
        mounted.ended().ok();
    }
}

/// Whatever little of a file is read, its checksum is of all sources.
#[test]
fn a_checksum_is_not_served_when_a_source_of_the_file_has_changed() {
    let env = env();
    let line = "-f distributed_weight_transfer -p fp16 -w 1 -y model.yaml -sc src --crc";
    let Some(mut mounted) = Mounted::new(&env, line) else { return };
    let file = mounted.file("rank_0/checkpoint_0.ckpt");
    let len = file.metadata().unwrap().len();
    // Of rank 1 nothing is near the checksum, so that what is near it can still be read.
    OpenOptions::new().append(true).open(env.path("src/rank_1/checkpoint_1.ckpt")).unwrap().write_all(b"x").unwrap();
    let error = file.read_at(&mut [0; 4], len - 4).unwrap_err();
    assert!(error.to_string().contains("Input/output error"), "{error}");
    drop(file);
    mounted.signal("-TERM");
    mounted.ended().ok();
}

#[test]
fn what_a_mount_cannot_do_is_refused() {
    let env = env();
    std::fs::create_dir(env.path("target")).unwrap();
    let line = "-f distributed_weight_transfer -p fp16 -w 1 -y model.yaml -sc src target";
    for (option, named) in
        [("-dc out", "-dc"), ("--overwrite", "--overwrite"), ("--dry-run", "--dry-run"), ("--nodes 2", "--nodes")]
    {
        env.line(&format!("mount {line} {option}")).failed(1, &[&format!("mount writes nothing: leave {named} out")]);
    }
    env.line("mount -f quant_weight -p w8a8 -w 1 -sc src -y model.yaml -d boolq -dp x target")
        .failed(1, &["only a target on a disk runs the model", "--stats"]);
    env.line("mount -p fp16 target").failed(1, &["missing: -f, -sc and -w (or -ds)"]);
    env.line(&format!("mount {line}").replace("src target", "src nowhere"))
        .failed(1, &["nowhere is not an empty directory"]);
    assert_eq!(files(&env.path("target")), []);
}
