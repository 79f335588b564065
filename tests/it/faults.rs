//! What goes wrong in the middle, what is left then, and that the way of writing does not change what is written.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use crate::staging::move_to;
use crate::support::{
    Float, Llama, Run, Sharding, TestEnv, crc64_nvme, read_ranks, read_safetensors, read_tensors, write_ckpt,
};

const ONE: Sharding = Sharding { ranks: 1, fusion: None, vocabulary_whole: false };
const LINE: &str = "-f distributed_weight_transfer -y model.yaml -sc src -dc out -is st";

fn env() -> TestEnv {
    let env = TestEnv::new();
    Llama::small().write(&env.path("src"), ONE, "ckpt");
    env.write("model.yaml", Llama::small().yaml(false, false));
    env
}

/// A checkpoint that takes a while: 40 MiB of fp32, made once.
pub(crate) fn slow() -> (TestEnv, Vec<String>) {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    let model =
        Llama { kv_heads: 8, rep: 1, head_dim: 128, ffn: 2048, vocab: 64, float: Float::Fp32, ..Llama::small() };
    let env = TestEnv::new();
    env.write("src/rank_0/checkpoint_0.ckpt", FILE.get_or_init(|| write_ckpt(&model.full())));
    env.write("model.yaml", model.yaml(false, false));
    // Gathered by columns and cast by one worker.
    let line = format!("{LINE} -p fp16 -w 4 --workers 1 --writer pwrite");
    (env, line.split(' ').map(str::to_owned).collect())
}

/// Starts a conversion and waits until it has begun to write.
pub(crate) fn begun(env: &TestEnv, line: &[String]) -> Child {
    let mut command = env.command(line);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    while !env.path("out/.fp16_4p.partial").exists() {
        assert!(child.try_wait().expect("a child").is_none(), "it ended before it was seen to begin");
        std::thread::yield_now();
    }
    child
}

pub(crate) fn signal(child: &Child, signal: &str) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill runs");
    assert!(status.success());
}

/// Names below a directory, hidden ones too; none if it is not there.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_killed_run_leaves_nothing_that_looks_finished_and_the_next_one_succeeds() {
    let (env, line) = slow();
    let mut child = begun(&env, &line);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert!(!env.path("out/fp16_4p").exists());
    assert!(env.path("out/.fp16_4p.partial").exists());
    assert!(!env.path("st/fp16_4p/strategy").exists());
    let run = env.run(&line).ok();
    assert!(run.stderr.contains("interrupted run"), "{run:#?}");
    assert_eq!(names(&env.path("out")), ["fp16_4p"]);
    assert_eq!(names(&env.path("st/fp16_4p")), ["strategy"]);
    env.line("verify src out/fp16_4p -y model.yaml -q").failed(1, &[]);
    let other = env.line(&format!("{LINE} -p fp16 -w 1 --no-sync"));
    other.ok();
    env.line("verify out/fp16_1p out/fp16_4p -y model.yaml -q").ok();
}

#[test]
fn junk_of_an_earlier_run_is_not_published() {
    let env = env();
    env.write("out/.fp16_4p.partial/rank_0/junk.ckpt", "junk");
    env.write("out/.fp16_4p.partial/rank_9/checkpoint_9.ckpt", "junk");
    env.write("out/.fp16_4p.lock", "");
    env.line(&format!("{LINE} -p fp16 -w 4")).ok();
    assert_eq!(names(&env.path("out")), ["fp16_4p"]);
    assert_eq!(names(&env.path("out/fp16_4p")), ["manifest.json", "rank_0", "rank_1", "rank_2", "rank_3"]);
    assert_eq!(names(&env.path("out/fp16_4p/rank_0")), ["checkpoint_0.ckpt"]);
}

#[test]
fn a_signal_ends_the_run_and_leaves_nothing() {
    for (which, more) in [("-INT", ""), ("-TERM", ""), ("-INT", "--reader direct --workers 2 --memory 32MiB")] {
        let (env, mut line) = slow();
        drop_from_cache(&env.path("src/rank_0/checkpoint_0.ckpt"));
        line.extend(more.split_whitespace().map(str::to_owned));
        let child = begun(&env, &line);
        signal(&child, which);
        let run = Run::from_output(child.wait_with_output().unwrap());
        run.failed(130, &["interrupted", "nothing was published"]);
        assert_eq!(names(&env.path("out")), [""; 0], "{which}");
        assert_eq!(names(&env.path("st/fp16_4p")), [""; 0], "{which}");
    }
}

#[test]
fn two_runs_at_once_do_not_share_a_target() {
    let (env, line) = slow();
    let mut child = begun(&env, &line);
    // Stopped, it is alive and holds its lock.
    signal(&child, "-STOP");
    let run = env.run(&line);
    signal(&child, "-CONT");
    run.failed(1, &["another conversion is writing out/fp16_4p", "hint: "]);
    assert!(child.wait().unwrap().success());
    assert_eq!(names(&env.path("out")), ["fp16_4p"]);
}

/// A file larger than the limit cannot be written, as on a full disk: by either writer.
#[test]
fn a_write_that_fails_is_reported_and_leaves_nothing() {
    for writer in ["pwrite", "auto", "auto --reader direct"] {
        let (env, line) = slow();
        let before = env.tree();
        drop_from_cache(&env.path("src/rank_0/checkpoint_0.ckpt"));
        // Shells count in blocks of 512 or 1024 bytes; 2000 of either is less than a rank file.
        let script =
            format!("trap '' XFSZ; ulimit -f 2000; exec \"$0\" {} --writer {writer}", line[..line.len() - 2].join(" "));
        let mut command = Command::new("sh");
        command.current_dir(env.root()).args(["-c", &script, env!("CARGO_BIN_EXE_ckpt-convert")]);
        let run = Run::of(&mut command);
        run.failed(2, &["error: ", "checkpoint_", "nothing was published"]);
        assert_eq!(env.tree(), before, "{writer}: something was left");
    }
}

/// A small memory file system, unmounted in the end.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// `None` where mounting is refused, which is said.
    #[expect(clippy::print_stderr, reason = "the reason for a skipped test")]
    pub(crate) fn new(env: &TestEnv, name: &str, options: &str) -> Option<Self> {
        let dir = env.path(name);
        std::fs::create_dir_all(&dir).expect("a directory");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&dir).output();
        match output {
            Ok(output) if output.status.success() => Some(Self(dir)),
            Ok(output) => {
                eprintln!("skipped: mount is refused: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(e) => {
                eprintln!("skipped: no mount: {e}");
                None
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // What stays mounted goes with the container.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_is_too_small_is_seen_before_writing() {
    let env = env();
    let Some(_disk) = Mounted::new(&env, "disk", "size=16k") else { return };
    let line = "-f distributed_weight_transfer -y model.yaml -sc src -p fp32 -w 4 -dc disk/out -is st";
    let run = env.line(line);
    run.failed(2, &["disk", "bytes", "free", "hint: "]);
    assert_eq!(names(&env.path("disk")), [""; 0]);
    assert!(!env.path("st").exists());
    let run = env.line(&format!("{line} --dry-run"));
    assert_eq!(run.status, Some(2), "{run:#?}");
    assert!(run.stdout.contains("NOT ENOUGH"), "{run:#?}");
}

/// Space by the byte, but not for the files: the disk is full in the middle.
#[test]
fn a_disk_that_fills_up_in_the_middle() {
    let env = env();
    for inodes in 3..18 {
        let Some(_disk) = Mounted::new(&env, "disk", &format!("size=8m,nr_inodes={inodes}")) else { return };
        let run =
            env.line(&format!("{} --no-sync -p fp16 -w 4", LINE.replace("-dc out -is st", "-dc disk/out -is disk/st")));
        run.failed(2, &["error: ", "disk/", "hint: ", "nothing was published"]);
        assert_eq!(names(&env.path("disk")), [""; 0], "{inodes} inodes");
    }
}

/// Memory file systems know no direct I/O.
#[test]
fn a_source_and_a_target_without_direct_io() {
    let env = env();
    let Some(disk) = Mounted::new(&env, "disk", "size=8m") else { return };
    Llama::small().write(&disk.0.join("src"), ONE, "ckpt");
    for writer in ["auto", "pwrite"] {
        let run = env.line(&format!(
            "-f distributed_weight_transfer -y model.yaml -sc disk/src -p fp16 -w 4 -dc disk/{writer} -is disk/{writer}_st \
             --writer {writer}"
        ));
        run.ok();
        env.line(&format!("verify src disk/{writer}/fp16_4p -y model.yaml")).ok();
    }
}

#[test]
fn overwriting_keeps_nothing_of_the_old() {
    let env = env();
    // More files of both kinds, of another conversion and in its name.
    env.line(&format!("{LINE} -p fp16 -w 4 --format safetensors")).ok();
    for dir in ["out", "st"] {
        move_to(&env.path(dir).join("fp16_4p"), &env.path(dir).join("fp16_2p"));
    }
    env.line(&format!("{LINE} -p fp16 -w 2 --overwrite")).ok();
    assert_eq!(names(&env.path("out")), ["fp16_2p"]);
    assert_eq!(names(&env.path("out/fp16_2p")), ["manifest.json", "rank_0", "rank_1"]);
    assert_eq!(names(&env.path("out/fp16_2p/rank_0")), ["checkpoint_0.ckpt"]);
    assert_eq!(names(&env.path("st/fp16_2p")), ["strategy"]);
    let strategies = ["ckpt_strategy_rank_0.ckpt", "ckpt_strategy_rank_1.ckpt"];
    assert_eq!(names(&env.path("st/fp16_2p/strategy")), strategies);
    env.line("verify src out/fp16_2p -y model.yaml").ok();
    // A run that fails keeps the old.
    let before = env.tree();
    env.write("src/rank_0/second.ckpt", "x");
    env.line(&format!("{LINE} -p fp16 -w 2 --overwrite")).failed(1, &["second.ckpt"]);
    std::fs::remove_file(env.path("src/rank_0/second.ckpt")).unwrap();
    assert_eq!(env.tree(), before);
}

/// A directory of the target's name with somebody's own files in it is not ours to delete.
#[test]
fn overwriting_replaces_nothing_that_no_conversion_made() {
    for (stray, place) in [("out/fp16_2p/notes.txt", "out/fp16_2p"), ("st/fp16_2p/strategy/notes.txt", "st/fp16_2p")] {
        let env = env();
        env.write(stray, "mine");
        let before = env.tree();
        env.line(&format!("{LINE} -p fp16 -w 2 --overwrite")).failed(1, &[place, "hint: "]);
        assert_eq!(env.tree(), before);
    }
}

#[test]
fn the_way_of_writing_changes_no_tensor_and_no_byte() {
    let env = env();
    // Large enough for direct I/O, and thus for padding.
    let model = Llama { head_dim: 16, ffn: 512, ..Llama::small() };
    model.write(&env.path("src"), ONE, "ckpt");
    env.write("model.yaml", model.yaml(false, false));
    let uring = env.line(&format!("{LINE} -p bf16 -w 4 --writer uring"));
    let refused = uring.status != Some(0);
    if refused {
        uring.failed(2, &["io_uring", "hint: "]);
    }
    let mut first = None;
    for (number, more) in [
        "--writer pwrite",
        "--writer auto",
        "--writer auto --no-sync",
        "--writer pwrite --workers 1",
        "--writer auto --workers 3",
        "--writer auto --memory 32MiB --workers 1",
        "--writer uring --workers 2",
        "--ckpt-records canonical",
    ]
    .into_iter()
    .enumerate()
    {
        if refused && more.contains("uring") {
            continue;
        }
        let line = LINE.replace("-dc out -is st", &format!("-dc out{number} -is st{number}"));
        env.line(&format!("{line} -p fp16 -w 4 {more}")).ok();
        let dir = env.path(&format!("out{number}/fp16_4p"));
        let tensors = read_ranks(&dir, 4, "ckpt");
        let files: BTreeMap<String, Vec<u8>> = (0..4)
            .map(|rank| format!("rank_{rank}/checkpoint_{rank}.ckpt"))
            .map(|name| (name.clone(), std::fs::read(dir.join(name)).unwrap()))
            .collect();
        let (first_tensors, first_files) = first.get_or_insert_with(|| (tensors.clone(), files.clone()));
        assert_eq!(&tensors, first_tensors, "{more}");
        if more == "--ckpt-records canonical" {
            let size = |files: &BTreeMap<String, Vec<u8>>| files.values().map(Vec::len).sum::<usize>();
            assert!(size(&files) < size(first_files), "no padding");
        } else {
            assert_eq!(&files, first_files, "{more}");
        }
    }
}

/// The manifest states of every file and tensor where it is and what its bytes sum up to.
#[track_caller]
fn check_manifest(env: &TestEnv, dir: &Path) {
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.join("manifest.json")).expect("a manifest")).expect("JSON");
    let text = |v: &serde_json::Value| v.as_str().expect("text").to_owned();
    let number = |v: &serde_json::Value| usize::try_from(v.as_u64().expect("a number")).expect("small");
    let mut files = BTreeMap::new();
    for file in manifest["files"].as_array().expect("files") {
        let bytes = std::fs::read(dir.join(text(&file["path"]))).expect("a listed file");
        assert_eq!(bytes.len(), number(&file["length"]), "{file}");
        files.insert(text(&file["path"]), bytes);
    }
    let below = dir.strip_prefix(env.root()).expect("below");
    let there: Vec<String> = env
        .tree()
        .into_iter()
        .filter(|(_, kind)| kind != "directory")
        .filter_map(|(path, _)| Some(path.strip_prefix(below).ok()?.to_str()?.to_owned()))
        .filter(|name| name != "manifest.json")
        .collect();
    assert_eq!(there, files.keys().cloned().collect::<Vec<_>>(), "every file is listed");
    let mut listed: BTreeMap<String, usize> = BTreeMap::new();
    for tensor in manifest["tensors"].as_array().expect("tensors") {
        let (from, length) = (number(&tensor["offset"]), number(&tensor["length"]));
        let path = text(&tensor["file"]);
        let bytes = &files[&path][from..from + length];
        assert_eq!(text(&tensor["hash"]), format!("crc64nvme:{:016x}", crc64_nvme(bytes)), "{tensor}");
        let held = read_tensors(&dir.join(&path)).into_iter().find(|t| t.name == text(&tensor["name"]));
        let held = held.expect("a tensor of that name");
        assert_eq!(held.bytes, bytes, "{tensor}");
        assert_eq!(
            held.dims,
            tensor["shape"].as_array().expect("dims").iter().map(|d| d.as_u64().expect("a dim")).collect::<Vec<_>>()
        );
        *listed.entry(path).or_default() += 1;
    }
    for path in files.keys().filter(|path| path.contains("checkpoint_") || path.starts_with("model-")) {
        assert_eq!(read_tensors(&dir.join(path)).len(), listed[path], "{path}: every tensor is listed");
    }
    let input = text(&manifest["inputs"][0]["path"]);
    assert!(input.ends_with("src/rank_0/checkpoint_0.ckpt"), "{input}");
    assert_eq!(text(&manifest["tool"]["name"]), "ckpt-convert");
    assert!(manifest["options"]["precision"].is_string());
}

#[test]
fn the_manifest_is_true() {
    let env = env();
    env.line(&format!("{LINE} -p fp16 -w 4")).ok();
    check_manifest(&env, &env.path("out/fp16_4p"));
    env.line(&format!("{LINE} -p fp32 -w 2 --ckpt-records canonical --crc")).ok();
    check_manifest(&env, &env.path("out/fp32_2p"));
    env.line(&format!("{LINE} -p bf16 -w 1 --format safetensors --max-shard-size 5KB")).ok();
    check_manifest(&env, &env.path("out/bf16_1p"));
}

#[test]
fn two_runs_write_the_same_bytes() {
    let env = env();
    for (format, ranks) in [("ckpt", 4), ("safetensors", 2)] {
        let line = |place: &str| {
            let line = LINE.replace("-dc out -is st", &format!("-dc {place} -is {place}_st"));
            env.line(&format!("{line} -p fp16 -w {ranks} --format {format}")).ok();
            let below: Vec<_> = env.tree().into_iter().filter(|(path, _)| path.starts_with(place)).collect();
            below.into_iter().map(|(path, hash)| (path.strip_prefix(place).unwrap().to_owned(), hash)).collect()
        };
        let (a, b): (Vec<_>, Vec<_>) = (line(&format!("{format}_a")), line(&format!("{format}_b")));
        assert!(a.len() > ranks);
        assert_eq!(a, b);
    }
}

#[test]
fn a_dry_run_says_what_would_be_written_and_writes_nothing() {
    let env = env();
    let before = env.tree();
    let text = env.line(&format!("{LINE} -p fp16 -w 4 --dry-run")).ok().stdout;
    for said in ["1 rank -> 4 ranks", "rank_3/checkpoint_3.ckpt", "out/fp16_4p", "free", "enough"] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let plan = env.line(&format!("{LINE} -p fp16 -w 4 --dry-run --json")).ok().json();
    assert_eq!(env.tree(), before);
    env.line(&format!("{LINE} -p fp16 -w 4")).ok();
    let mut total = 0;
    for (rank, output) in plan["outputs"].as_array().unwrap().iter().enumerate() {
        let path = env.path("out/fp16_4p").join(output["path"].as_str().unwrap());
        assert_eq!(path, env.path(&format!("out/fp16_4p/rank_{rank}/checkpoint_{rank}.ckpt")));
        let bytes = std::fs::metadata(path).unwrap().len();
        assert_eq!(output["bytes"], bytes);
        total += bytes;
    }
    assert_eq!(plan["bytes_written"], total);
    assert_eq!(plan["target_ranks"], 4);
}

#[test]
fn machine_readable_results_are_one_document() {
    let env = env();
    let run = env.line(&format!("{LINE} -p bf16 -w 4 --json")).ok();
    let summary = run.json();
    assert_eq!(summary["target"], "out/bf16_4p");
    assert_eq!(summary["files"], 4);
    let run = env.line("verify src out/bf16_4p --json -y model.yaml");
    assert_eq!(run.status, Some(1));
    assert_eq!(run.json()["same"], false);
    assert_eq!(env.line("verify src src --json -q").ok().json()["same"], true);
}

#[test]
fn paths_with_spaces_and_other_letters() {
    let env = TestEnv::new();
    let model = Llama::small();
    model.write(&env.path("the source, 模型 ü"), ONE, "ckpt");
    env.write("my model.yaml", model.yaml(false, false));
    let source = "the source, 模型 ü";
    let args = ["-f", "distributed_weight_transfer", "-p", "fp16", "-w", "2", "-y", "my model.yaml"];
    let places = ["-sc", source, "-dc=a target/=x", "-is", "ü/st"];
    env.run(&[&args[..], &places, &["--format", "safetensors"]].concat()).ok();
    let written = std::fs::read(env.path("a target/=x/fp16_2p/rank_1/checkpoint_1.safetensors")).unwrap();
    assert_eq!(read_safetensors(&written).len(), 12);
    // Rank directories are often links to other disks.
    std::fs::create_dir(env.path("links")).unwrap();
    std::os::unix::fs::symlink(env.path(source).join("rank_0"), env.path("links/rank_0")).unwrap();
    env.run(&["verify", "links", "a target/=x/fp16_2p"]).ok();
}

/// `dd` of nothing with nocache drops the file's pages, once they are on the disk.
fn drop_from_cache(path: &Path) {
    let name = format!("of={}", path.display());
    let mut drop = Command::new("dd");
    drop.args(["if=/dev/null", &name, "oflag=nocache", "conv=notrunc,fdatasync", "count=0"]);
    assert!(drop.stderr(Stdio::null()).status().expect("dd runs").success());
}

/// A source that is not in the page cache is read past it; one that is, is written from its mapping. The bytes are the same.
#[test]
fn a_cold_source_gives_the_same_bytes_as_a_warm_one() {
    let env = TestEnv::new();
    // Runs of several hundred KiB, so that whole blocks go straight through.
    let model = Llama { kv_heads: 8, rep: 2, head_dim: 16, ffn: 1024, vocab: 2048, layers: 1, ..Llama::small() };
    model.write(&env.path("src"), ONE, "ckpt");
    env.write("model.yaml", model.yaml(false, false));
    let source = env.path("src/rank_0/checkpoint_0.ckpt");
    env.line("-f distributed_weight_transfer -y model.yaml -sc src -dc warm -is st -p fp16 -w 2").ok();
    let ways =
        ["", "--reader direct", "--reader sequential", "--reader mapped", "--no-sync", "--reader sequential --no-sync"];
    for (writer, way) in ["auto", "uring", "pwrite"].into_iter().flat_map(|writer| ways.map(|way| (writer, way))) {
        drop_from_cache(&source);
        let line = "-f distributed_weight_transfer -y model.yaml -sc src -is st -p fp16 -w 2 --overwrite --json";
        let ways = env.line(&format!("{line} -dc cold --writer {writer} {way}")).ok().json()["ways"].clone();
        let bytes = |way: &str| ways[way].as_u64().expect("a number of bytes");
        let lens = [0, 1].map(|rank| {
            std::fs::metadata(env.path(&format!("cold/fp16_2p/rank_{rank}/checkpoint_{rank}.ckpt")))
                .expect("a file")
                .len()
        });
        assert_eq!(
            ["mapped", "past_cache", "gathered", "converted"].map(bytes).iter().sum::<u64>(),
            lens.iter().sum::<u64>()
        );
        for rank in 0..2 {
            let file = format!("fp16_2p/rank_{rank}/checkpoint_{rank}.ckpt");
            let (warm, cold) = (env.path("warm").join(&file), env.path("cold").join(&file));
            assert!(std::fs::read(warm).expect("read") == std::fs::read(cold).expect("read"), "{writer} {way}, {file}");
        }
    }
}
