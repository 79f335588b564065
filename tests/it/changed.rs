//! Sources that somebody changes while the program reads them.

use std::fs::{File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{Float, Llama, Run, Sharding, TestEnv, read_ranks};

const SOURCE: &str = "src/rank_0/checkpoint_0.ckpt";

/// A checkpoint that takes a while, 20 MiB of fp32.
fn slow() -> TestEnv {
    let model = Llama { kv_heads: 8, rep: 1, head_dim: 128, ffn: 512, vocab: 64, float: Float::Fp32, ..Llama::small() };
    let env = TestEnv::new();
    model.write(&env.path("src"), Sharding { ranks: 1, fusion: None, vocabulary_whole: false }, "ckpt");
    env.write("model.yaml", model.yaml(false, false));
    env
}

fn signal(child: &Child, signal: &str) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill runs");
    assert!(status.success());
}

/// Converts, and in the middle of it does something to the source.
fn converted(env: &TestEnv, options: &str, change: impl FnOnce(&Path)) -> Run {
    let line = format!("-f distributed_weight_transfer -y model.yaml -sc src -dc out -is st -p fp16 -w 4 {options}");
    let mut command = env.command(&line.split_whitespace().collect::<Vec<_>>());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    while !env.path("out/.fp16_4p.partial").exists() && !env.path("out/.fp16_4p.cluster").exists() {
        assert!(child.try_wait().expect("a child").is_none(), "it ended before it was seen to begin");
        std::thread::yield_now();
    }
    signal(&child, "-STOP");
    assert!(!env.path("out/fp16_4p").exists(), "it was over before anything could be done to its source");
    change(&env.path(SOURCE));
    signal(&child, "-CONT");
    Run::from_output(child.wait_with_output().expect("it ends"))
}

/// Bytes in the middle of the file.
fn write_to(path: &Path) {
    let file = File::options().write(true).open(path).expect("it can be written to");
    file.write_all_at(&[0; 4096], 2 << 20).expect("it is long enough");
}

fn refused(run: &Run, env: &TestEnv, said: &[&str]) {
    run.failed(1, said);
    run.failed(1, &[SOURCE, "was changed while it was read", "hint: ", "nothing was published"]);
    for left in ["out", "st"] {
        let names: Vec<_> = std::fs::read_dir(env.path(left)).into_iter().flatten().flatten().collect();
        assert!(names.is_empty(), "{names:?}");
    }
}

#[test]
fn a_source_that_is_written_to_during_the_run_is_an_error() {
    let env = slow();
    let run = converted(&env, "--workers 1", write_to);
    refused(&run, &env, &["it was written to"]);
}

#[test]
fn a_source_that_grows_during_the_run_is_an_error() {
    let env = slow();
    let len = std::fs::metadata(env.path(SOURCE)).unwrap().len();
    let run = converted(&env, "--workers 1", |path| {
        File::options().write(true).open(path).unwrap().write_all_at(b"more", len).unwrap();
    });
    refused(&run, &env, &[&format!("it had {len} bytes, and has {} now", len + 4)]);
}

/// The kernel announces a read of what is gone by a signal that ends a program.
#[test]
fn a_source_that_is_truncated_during_the_run_is_an_error_whichever_way_it_is_read() {
    for reader in ["auto", "mapped", "direct", "sequential"] {
        let env = slow();
        let run = converted(&env, &format!("--workers 1 --reader {reader}"), |path| {
            File::options().write(true).open(path).unwrap().set_len(5000).unwrap();
        });
        let gone = "it was truncated while it was read: it has 5000 bytes now, and byte ";
        run.failed(2, &["error: cannot read ", SOURCE, gone, "hint: ", "nothing was published"]);
        for left in ["out", "st"] {
            assert_eq!(std::fs::read_dir(env.path(left)).into_iter().flatten().count(), 0, "{reader}");
        }
    }
}

#[test]
fn a_source_whose_time_was_set_back_is_an_error() {
    let env = slow();
    let run = converted(&env, "--workers 1", |path| {
        let before = std::fs::metadata(path).unwrap().modified().unwrap();
        write_to(path);
        File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
    });
    refused(&run, &env, &["its change time (ctime) differs", "set back", "mode"]);
}

#[test]
fn a_source_whose_mode_was_changed_is_an_error_for_the_same_reason() {
    let env = slow();
    let run = converted(&env, "--workers 1", |path| {
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    });
    refused(&run, &env, &["its change time (ctime) differs"]);
}

#[test]
fn a_source_that_is_replaced_is_read_to_the_end_as_it_was() {
    let env = slow();
    converted(&env, "--workers 1", |_| ()).ok();
    let expected = read_ranks(&env.path("out/fp16_4p"), 4, "ckpt");
    for change in [
        |path: &Path| {
            let other = path.with_extension("new");
            std::fs::write(&other, vec![0; 100]).unwrap();
            assert!(Command::new("mv").arg(other).arg(path).status().unwrap().success());
        },
        |path: &Path| std::fs::remove_file(path).unwrap(),
    ] {
        let env = slow();
        let run = converted(&env, "--workers 1", change).ok();
        assert!(run.stderr.contains("removed or replaced") && run.stderr.contains(SOURCE), "{run:#?}");
        assert_eq!(read_ranks(&env.path("out/fp16_4p"), 4, "ckpt"), expected);
    }
}

#[test]
fn reading_and_linking_a_source_is_no_change() {
    let env = slow();
    let run = converted(&env, "--workers 1", |path| {
        std::fs::read(path).unwrap();
        std::fs::hard_link(path, path.with_file_name("../../link")).unwrap();
    });
    assert!(!run.ok().stderr.contains("note: "));
}

#[test]
fn a_host_whose_source_is_written_to_keeps_nothing_of_it() {
    let env = slow();
    let hosts = "--workers 1 --nodes 1 --node-rank 0";
    // One of two: the other never begins.
    let run = converted(&env, &hosts.replace("--nodes 1", "--nodes 2"), write_to);
    run.failed(1, &[SOURCE, "was changed while it was read", "it was written to"]);
    let tree = env.tree();
    assert!(tree.keys().all(|path| path.extension().is_none_or(|e| e != "kept" && e != "done")), "{tree:#?}");
    assert!(!env.path("out/fp16_4p").exists());
}
