//! How much of a checkpoint is memory of the process while it is read: a bounded part, whatever its size.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::support::TestEnv;

/// Of the large tensor.
const BYTES: u64 = 300 << 20;

/// The CRC-32 of both tensors with their names, in the order of the names.
fn crc() -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32IsoHdlc);
    let zeros = vec![0; 1 << 20];
    digest.update(b"model.norm_out.weight");
    digest.update(&zeros[..2048]);
    digest.update(b"model.tok_embeddings.embedding_weight");
    (0..BYTES >> 20).for_each(|_| digest.update(&zeros));
    u32::try_from(digest.finalize()).expect("32 bits")
}

/// A checkpoint whose data are zeros that take no space on the disk; all of it is in the page cache. `metadata`: what its header
/// begins with.
fn write(dir: &Path, metadata: &str) {
    let path = dir.join("rank_0/checkpoint_0.safetensors");
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    let header = format!(
        r#"{{{metadata}"model.norm_out.weight":{{"dtype":"F16","shape":[1024],"data_offsets":[0,2048]}},"model.tok_embeddings.embedding_weight":{{"dtype":"F16","shape":[{},1024],"data_offsets":[2048,{}]}}}}"#,
        BYTES / 2048,
        BYTES + 2048
    );
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).expect("a file");
    file.write_all(&(header.len() as u64).to_le_bytes()).expect("written");
    file.write_all(header.as_bytes()).expect("written");
    file.set_len(8 + header.len() as u64 + 2048 + BYTES).expect("a length");
    file.rewind().expect("the beginning");
    std::io::copy(&mut file, &mut std::io::sink()).expect("read");
}

/// The most memory that a command has had so far, with mapped pages, in KiB. `None`: it has ended.
fn peak(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// The most memory that a command line that succeeds has, in KiB.
fn highest(env: &TestEnv, line: &str) -> u64 {
    let words: Vec<&str> = line.split(' ').collect();
    let mut child = env.command(&words).stdout(Stdio::null()).spawn().expect("started");
    let mut highest = 0;
    while child.try_wait().expect("waited for").is_none() {
        highest = highest.max(peak(child.id()).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(child.wait().expect("waited for").success(), "{line}");
    highest
}

/// Two checkpoints of 300 MiB were 630 MB of memory while they were compared.
#[test]
fn verify_holds_a_bounded_part_of_what_is_in_the_page_cache() {
    let env = TestEnv::new();
    for side in ["a", "b"] {
        write(&env.path(side), "");
    }
    for more in ["--reader mapped --memory 32MiB", "--memory 64MiB"] {
        let highest = highest(&env, &format!("verify a b -q --workers 2 {more}"));
        assert!((1 << 10..192 << 10).contains(&highest), "{more}: {highest} KiB");
    }
}

/// A file of 300 MiB that states its CRC was 300 MiB of memory while that was checked.
#[test]
fn the_check_of_a_crc_holds_a_bounded_part_of_the_file() {
    let env = TestEnv::new();
    write(&env.path("a"), &format!(r#""__metadata__":{{"crc_num":"{}","format":"ms"}},"#, crc()));
    let line = "-f distributed_weight_transfer -p keep -w 1 -sc a -dc out -is st -q --no-sync --workers 2";
    let highest = highest(&env, &format!("{line} --memory 64MiB"));
    assert!((1 << 10..192 << 10).contains(&highest), "{highest} KiB");
    // It was looked at.
    let path = env.path("a/rank_0/checkpoint_0.safetensors");
    let file = File::options().write(true).open(path).expect("a file");
    file.write_at(&[1], BYTES).expect("written");
    env.line(&format!("{line} --overwrite")).failed(1, &["the file is damaged", "`crc_num` in its metadata"]);
}
