//! What is being written, held fast: nothing is published that is not whole, no run spoils another's, no input is lost, and a
//! run that died is in nobody's way.

use std::path::Path;
use std::process::Command;

use crate::cluster::{end, env, env_of, host, made, one_host, wait_for};
use crate::faults::{Mounted, begun, names, signal, slow};
use crate::support::{Llama, Run, TestEnv};

const LINE: &str = "-f distributed_weight_transfer -y model.yaml -sc src -dc out -is st";

pub(crate) fn link(to: &Path, from: &Path) {
    std::os::unix::fs::symlink(to, from).expect("a link");
}

pub(crate) fn move_to(from: &Path, to: &Path) {
    assert!(Command::new("mv").arg(from).arg(to).status().expect("mv runs").success());
}

/// Somebody clears up hidden files, or takes one away, while the program writes.
#[test]
fn what_is_removed_or_replaced_while_it_is_written_is_not_published() {
    type Change = fn(&Path);
    let cases: [(Change, &str); 4] = [
        (|dir| std::fs::remove_dir_all(dir).unwrap(), "out/.fp16_4p.partial was removed or replaced"),
        // Another directory of that name is not the one that was written to.
        (
            |dir| {
                std::fs::remove_dir_all(dir).unwrap();
                std::fs::create_dir(dir).unwrap();
            },
            "out/.fp16_4p.partial was removed or replaced",
        ),
        (|dir| std::fs::remove_file(dir.join("rank_2/checkpoint_2.ckpt")).unwrap(), "checkpoint_2.ckpt"),
        (
            |dir| {
                let file = dir.join("rank_2/checkpoint_2.ckpt");
                let len = file.metadata().unwrap().len();
                std::fs::remove_file(&file).unwrap();
                std::fs::write(&file, vec![0; usize::try_from(len).unwrap()]).unwrap();
            },
            "checkpoint_2.ckpt",
        ),
    ];
    for (change, said) in cases {
        let (env, line) = slow();
        let child = begun(&env, &line);
        while !env.path("out/.fp16_4p.partial/rank_3/checkpoint_3.ckpt").exists() {
            std::thread::yield_now();
        }
        signal(&child, "-STOP");
        change(&env.path("out/.fp16_4p.partial"));
        signal(&child, "-CONT");
        Run::from_output(child.wait_with_output().unwrap()).failed(2, &[said, "nothing was published", "hint: "]);
        assert!(!env.path("out/fp16_4p").exists() && !env.path("st/fp16_4p/strategy").exists());
        env.run(&line).ok();
    }
}

/// A lock that looks left over is removed by hand, though its run is alive.
#[test]
fn a_run_whose_lock_was_removed_keeps_its_files_to_itself() {
    let (env, line) = slow();
    let child = begun(&env, &line);
    while !env.path("out/.fp16_4p.partial/rank_3/checkpoint_3.ckpt").exists() {
        std::thread::yield_now();
    }
    signal(&child, "-STOP");
    std::fs::remove_file(env.path("out/.fp16_4p.lock")).unwrap();
    let second = env.run(&line);
    let look = env.line(&format!("{LINE} -p fp16 -w 4 --dry-run --json"));
    signal(&child, "-CONT");
    second.failed(1, &["another conversion is writing out/fp16_4p", "hint: "]);
    assert_eq!(look.ok().json()["leftovers"], serde_json::json!([]), "they are the living run's");
    Run::from_output(child.wait_with_output().unwrap()).ok();
    assert_eq!(names(&env.path("out")), ["fp16_4p"]);
    assert_eq!(names(&env.path("out/fp16_4p")), ["manifest.json", "rank_0", "rank_1", "rank_2", "rank_3"]);
}

/// Where the kernel has no locks, whether a process of another machine still runs cannot be seen.
#[test]
fn a_lock_of_another_machine_is_taken_over_only_by_hand() {
    let env = env();
    let lock = r#"{"host":"node7","space":"another boot","pid":77,"began":5,"kernel":false}"#;
    env.write("out/.fp16_4p.lock", lock);
    env.write("out/.fp16_4p.partial/rank_0/checkpoint_0.ckpt", "its");
    let before = env.tree();
    let line = format!("{LINE} -p fp16 -w 4");
    env.line(&line).failed(1, &["process 77 on node7", "out/fp16_4p", "hint: ", "remove out/.fp16_4p.lock"]);
    assert_eq!(env.tree(), before);
    // As the hint says.
    std::fs::remove_file(env.path("out/.fp16_4p.lock")).unwrap();
    env.line(&line).ok();
    assert_eq!(names(&env.path("out")), ["fp16_4p"]);
}

#[test]
fn a_lock_that_is_no_file_is_refused_at_once() {
    let env = env();
    let line = format!("{LINE} -p fp16 -w 1");
    std::fs::create_dir(env.path("out")).unwrap();
    assert!(Command::new("mkfifo").arg(env.path("out/.fp16_1p.lock")).status().unwrap().success());
    env.line(&line).failed(2, &["out/.fp16_1p.lock", "not a regular file"]);
    std::fs::remove_file(env.path("out/.fp16_1p.lock")).unwrap();
    link(&env.path("elsewhere"), &env.path("out/.fp16_1p.lock"));
    env.line(&line).failed(2, &["out/.fp16_1p.lock", "not a regular file"]);
    assert!(!env.path("elsewhere").exists() && !env.path("out/fp16_1p").exists());
}

/// Each input that leads into a target that would be replaced.
#[test]
fn an_input_that_lies_in_the_target_is_not_overwritten() {
    type Case = (&'static str, fn(&TestEnv), &'static str);
    let cases: [Case; 5] = [
        (
            "a rank directory",
            |env| {
                std::fs::create_dir(env.path("linked")).unwrap();
                link(&env.path("out/fp16_1p/rank_0"), &env.path("linked/rank_0"));
            },
            "-sc linked",
        ),
        (
            "a rank file",
            |env| {
                std::fs::create_dir_all(env.path("linked/rank_0")).unwrap();
                let file = "rank_0/checkpoint_0.ckpt";
                link(&env.path("out/fp16_1p").join(file), &env.path("linked").join(file));
            },
            "-sc linked",
        ),
        (
            "the yaml",
            |env| {
                std::fs::copy(env.path("model.yaml"), env.path("out/fp16_1p/model.yaml")).unwrap();
                link(&env.path("out/fp16_1p/model.yaml"), &env.path("linked.yaml"));
            },
            "-sc src -y linked.yaml",
        ),
        (
            "a strategy in the strategies' target",
            |env| {
                std::fs::create_dir(env.path("linked")).unwrap();
                let file = "ckpt_strategy_rank_0.ckpt";
                link(&env.path("st/fp16_1p/strategy").join(file), &env.path("linked").join(file));
            },
            "-sc src -ss linked",
        ),
        (
            "a directory above",
            |env| {
                std::fs::create_dir_all(env.path("out/fp16_1p/rank_0")).unwrap();
                link(&env.path("out"), &env.path("linked"));
            },
            "-sc linked/fp16_1p",
        ),
    ];
    for (what, prepare, options) in cases {
        let env = env();
        env.line(&format!("{LINE} -p fp16 -w 1")).ok();
        prepare(&env);
        let before = env.tree();
        let yaml = if options.contains("-y ") { "" } else { "-y model.yaml" };
        let line = format!("-f distributed_weight_transfer -dc out -is st -p fp16 -w 1 {yaml} {options} --overwrite");
        let run = env.line(&line);
        run.failed(1, &["fp16_1p", "hint: "]);
        assert!(run.stderr.contains("would be lost") || run.stderr.contains(" overlaps "), "{what}: {run:#?}");
        assert_eq!(env.tree(), before, "{what}");
        // As the hint says.
        let line = line.replace("-dc out -is st", "-dc elsewhere -is elsewhere_st");
        env.line(&line).ok();
    }
}

/// A hard link is a name of its own: replacing the target takes the other one away only.
#[test]
fn a_hard_link_to_a_file_of_the_target_survives_its_replacement() {
    let env = env();
    env.line(&format!("{LINE} -p fp16 -w 1")).ok();
    std::fs::create_dir_all(env.path("linked/rank_0")).unwrap();
    let file = "rank_0/checkpoint_0.ckpt";
    std::fs::hard_link(env.path("out/fp16_1p").join(file), env.path("linked").join(file)).unwrap();
    let before = std::fs::read(env.path("linked").join(file)).unwrap();
    env.line(&format!("{} -p fp32 -w 1", LINE.replace("-sc src", "-sc linked"))).ok();
    env.line(&format!("{} -p fp16 -w 1 --overwrite", LINE.replace("-sc src", "-sc linked"))).ok();
    assert!(std::fs::read(env.path("linked").join(file)).unwrap() == before);
    env.line("verify linked out/fp16_1p -y model.yaml -q").ok();
}

#[test]
fn files_of_somebody_else_deep_in_a_target_are_named_and_kept() {
    let env = env();
    let line = format!("{LINE} -p fp16 -w 2 --overwrite");
    env.line(&line).ok();
    let strays = ["rank_0/notes.txt", "rank_1/logs/run.ckpt", "rank_x/checkpoint_0.ckpt"];
    for stray in strays {
        env.write(&format!("out/fp16_2p/{stray}"), "mine");
    }
    // No conversion makes links.
    link(&env.path("src"), &env.path("out/fp16_2p/rank_7"));
    let before = env.tree();
    env.line(&line)
        .failed(1, &["out/fp16_2p", "`rank_0/notes.txt`", "`rank_1/logs`", "`rank_x`", "`rank_7`", "hint: "]);
    assert_eq!(env.tree(), before);
    // As the hint says.
    std::fs::create_dir(env.path("mine")).unwrap();
    for stray in ["rank_0/notes.txt", "rank_1/logs", "rank_x", "rank_7"] {
        let to = env.path("mine").join(stray.replace('/', "_"));
        move_to(&env.path("out/fp16_2p").join(stray), &to);
    }
    env.line(&line).ok();
}

/// What a run leaves that is killed between the two publications: the checkpoint, the strategies unfinished, both locks.
fn killed_between(env: &TestEnv, ranks: u32) {
    let place = |name: &str| env.path(&format!("st/fp16_{ranks}p/{name}"));
    move_to(&place("strategy"), &place(".strategy.partial"));
    env.write(&format!("st/fp16_{ranks}p/.strategy.lock"), "");
    env.write(&format!("out/.fp16_{ranks}p.lock"), "");
}

#[test]
fn a_checkpoint_that_was_published_without_its_strategies_gets_them_from_the_same_command() {
    let env = env();
    let line = format!("{LINE} -p fp16 -w 2");
    env.line(&line).ok();
    let whole = env.tree();
    killed_between(&env, 2);
    let killed = env.tree();
    let look = env.line(&format!("{line} --dry-run")).ok();
    assert!(look.stderr.contains("only its strategies would be written, to st/fp16_2p/strategy"), "{look:#?}");
    // Another conversion into that place is still another's.
    env.line(&format!("{line} --vocab_emb_dp true")).failed(1, &["out/fp16_2p exists already", "hint: "]);
    assert_eq!(env.tree(), killed);
    let run = env.line(&line).ok();
    assert!(run.stderr.contains("are now in st/fp16_2p/strategy"), "{run:#?}");
    assert_eq!(env.tree(), whole);
    // Once both are there, the target is.
    env.line(&line).failed(1, &["out/fp16_2p exists already", "hint: "]);
    // A checkpoint that is not whole gets nothing.
    killed_between(&env, 2);
    std::fs::File::options()
        .write(true)
        .open(env.path("out/fp16_2p/rank_1/checkpoint_1.ckpt"))
        .unwrap()
        .set_len(9)
        .unwrap();
    env.line(&line).failed(1, &["out/fp16_2p exists already", "hint: "]);
    // What has another length than it was written with is not replaced either. As the hint says.
    env.line(&format!("{line} --overwrite")).failed(1, &["`rank_1/checkpoint_1.ckpt`", "hint: move them elsewhere"]);
    move_to(&env.path("out/fp16_2p/rank_1/checkpoint_1.ckpt"), &env.path("cut.ckpt"));
    env.line(&format!("{line} --overwrite")).ok();
    env.line("verify src out/fp16_2p -y model.yaml -q").ok();
}

/// The strategies' place is taken while the program runs, so that they cannot be published: nor is the checkpoint then.
#[test]
fn where_the_strategies_cannot_be_published_the_checkpoint_is_not() {
    let (env, line) = slow();
    let child = begun(&env, &line);
    signal(&child, "-STOP");
    std::fs::create_dir_all(env.path("st/fp16_4p/strategy/theirs")).unwrap();
    signal(&child, "-CONT");
    Run::from_output(child.wait_with_output().unwrap()).failed(1, &["st/fp16_4p/strategy exists already", "hint: "]);
    assert_eq!(names(&env.path("out")), [""; 0]);
    assert_eq!(names(&env.path("st/fp16_4p")), ["strategy"]);
}

/// The same where both replace what is there: a disk that is mounted meanwhile cannot be replaced.
#[test]
fn where_the_strategies_cannot_be_replaced_the_old_checkpoint_stays() {
    let (env, mut line) = slow();
    env.write("out/fp16_4p/rank_0/checkpoint_0.ckpt", "old");
    line.push("--overwrite".to_owned());
    let child = begun(&env, &line);
    signal(&child, "-STOP");
    let mounted = Mounted::new(&env, "st/fp16_4p/strategy", "size=64k");
    signal(&child, "-CONT");
    let run = Run::from_output(child.wait_with_output().unwrap());
    let Some(_mounted) = mounted else { return };
    run.failed(2, &["st/fp16_4p/strategy", "nothing was published"]);
    assert_eq!(std::fs::read(env.path("out/fp16_4p/rank_0/checkpoint_0.ckpt")).unwrap(), b"old");
    assert_eq!(names(&env.path("out")), ["fp16_4p"]);
    assert_eq!(names(&env.path("st/fp16_4p")), ["strategy"]);
}

#[test]
fn strategies_that_a_checkpoint_was_not_written_with_are_noticed() {
    let env = env();
    let line = format!("{LINE} -p fp16 -w 2");
    env.line(&line).ok();
    env.line(&format!("{} --vocab_emb_dp true", line.replace("-dc out -is st", "-dc out2 -is st2"))).ok();
    // As a run leaves them that is killed after it has replaced the checkpoint and before it replaces the strategies.
    let note = "st2/fp16_2p/strategy holds other strategies than those that were written with out/fp16_2p";
    let run = env.line("verify out/fp16_2p src -ss st2/fp16_2p/strategy -y model.yaml");
    assert!(run.stderr.contains(note), "{run:#?}");
    let other =
        "-f distributed_weight_transfer -y model.yaml -p fp16 -w 1 -sc out/fp16_2p -dc back -is back_st --dry-run";
    let run = env.line(&format!("{other} -ss st2/fp16_2p/strategy"));
    assert!(run.stderr.contains(note), "{run:#?}");
    let run = env.line("doctor out/fp16_2p -ts st2/fp16_2p/strategy -y model.yaml");
    assert!(run.stdout.contains(note), "{run:#?}");
    for run in [
        env.line("verify out/fp16_2p src -ss st/fp16_2p/strategy -y model.yaml").ok(),
        env.line(&format!("{other} -ss st/fp16_2p/strategy")).ok(),
    ] {
        assert!(!run.stderr.contains("other strategies"), "{run:#?}");
    }
}

/// Space for one target, which a run that was killed still holds.
#[test]
fn a_killed_run_does_not_keep_the_next_one_from_the_space_that_it_took() {
    let model = Llama { head_dim: 16, ffn: 512, ..Llama::small() };
    let env = env_of(&model);
    let line = format!("{LINE} -p fp16 -w 4").replace("-dc out", "-dc disk/out");
    let needed = env.line(&format!("{line} --dry-run --json")).ok().json()["bytes_written"].as_u64().expect("bytes");
    let Some(_disk) = Mounted::new(&env, "disk", &format!("size={}", needed + needed / 2)) else { return };
    let held = vec![1; usize::try_from(needed).unwrap()];
    env.write("disk/out/.fp16_4p.partial/rank_0/checkpoint_0.ckpt", held);
    env.write("disk/out/.fp16_4p.lock", "");
    let before = env.tree();
    let plan = env.line(&format!("{line} --dry-run --json")).ok().json();
    assert!(plan["free"].as_u64() >= Some(needed) && plan["reclaimable"].as_u64() >= Some(needed), "{plan}");
    let text = env.line(&format!("{line} --dry-run")).ok().stdout;
    for said in ["enough", "disk/out/.fp16_4p.partial", "which an interrupted run has left"] {
        assert!(text.contains(said), "{said}: {text}");
    }
    assert_eq!(env.tree(), before, "a dry run changes nothing");
    let run = env.line(&line).ok();
    assert!(run.stderr.contains("removed what an interrupted run had left: disk/out/.fp16_4p.partial"), "{run:#?}");
    assert_eq!(names(&env.path("disk/out")), ["fp16_4p"]);
}

/// What a host has written is gone before the others come: what it says of it must not be believed.
#[test]
fn a_host_does_not_make_again_what_others_have_written() {
    let model = Llama { head_dim: 32, ffn: 1024, vocab: 1024, layers: 2, ..Llama::small() };
    let env = env_of(&model);
    let line = "-f distributed_weight_transfer -y model.yaml -sc src -p fp16 -w 1 -dc out -is st -q --stale-after 0.5";
    let expected = one_host(&env, line);
    let mut first = host(&env, line, 0, 2);
    wait_for(&env, &mut first, "node-0.1.done");
    first.kill().unwrap();
    first.wait().unwrap();
    let meeting = env.path("out/.fp16_1p.cluster");
    let run = names(&meeting).into_iter().find(|name| !name.starts_with("claim-")).expect("a run");
    std::fs::remove_dir_all(meeting.join(run).join("files")).unwrap();
    end(host(&env, line, 1, 2)).failed(2, &["has disappeared", "nothing was published", "hint: "]);
    assert!(!env.path("out/fp16_1p").exists());
    // As the hint says.
    for child in [host(&env, line, 0, 2), host(&env, line, 1, 2)] {
        end(child).ok();
    }
    assert_eq!(made(&env, ["out", "st"]), expected);
}

/// The host that publishes dies between the two, and another comes.
#[test]
fn a_host_that_comes_to_a_published_checkpoint_sees_to_its_strategies() {
    let env = env();
    let line = "-f distributed_weight_transfer -y model.yaml -sc src -p fp16 -w 4 -dc out -is st -q";
    let expected = one_host(&env, line);
    for child in [host(&env, line, 0, 2), host(&env, line, 1, 2)] {
        end(child).ok();
    }
    assert_eq!(made(&env, ["out", "st"]), expected);
    killed_between(&env, 4);
    std::fs::remove_file(env.path("out/.fp16_4p.lock")).unwrap();
    end(host(&env, line, 1, 2)).ok();
    assert_eq!(made(&env, ["out", "st"]), expected);
}
