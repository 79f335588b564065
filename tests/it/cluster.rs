//! Several processes that do one conversion, as on several machines: the same bytes as one, whatever happens to them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{Llama, Run, Sharding, TestEnv};

const ONE: Sharding = Sharding { ranks: 1, fusion: None, vocabulary_whole: false };
const LINE: &str = "-f distributed_weight_transfer -y model.yaml -sc src -p fp16 -w 4 -dc out -is st -q";

pub(crate) fn env_of(model: &Llama) -> TestEnv {
    let env = TestEnv::new();
    model.write(&env.path("src"), ONE, "ckpt");
    env.write("model.yaml", model.yaml(false, false));
    env
}

pub(crate) fn env() -> TestEnv {
    env_of(&Llama::small())
}

/// Large enough to be cut into ranges, and to be killed in the middle.
fn larger() -> TestEnv {
    env_of(&Llama { head_dim: 32, ffn: 1024, vocab: 1024, layers: 2, ..Llama::small() })
}

/// A process of its own, with these variables and no other launcher's.
pub(crate) fn start(env: &TestEnv, line: &str, variables: &str) -> Child {
    let mut command = env.command(&line.split_whitespace().collect::<Vec<_>>());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs(variables.split_whitespace().filter_map(|pair| pair.split_once('=')));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

pub(crate) fn end(child: Child) -> Run {
    Run::from_output(child.wait_with_output().expect("a child"))
}

pub(crate) fn host(env: &TestEnv, line: &str, index: u32, count: u32) -> Child {
    start(env, &format!("{line} --node-rank {index} --nodes {count}"), "")
}

/// The variables of the process with a number.
type Variables<'a> = &'a dyn Fn(u32) -> String;

/// All files below two directories, hidden ones too, with their bytes.
pub(crate) fn made(env: &TestEnv, dirs: [&str; 2]) -> Vec<(PathBuf, String)> {
    let tree = env.tree();
    let below = |dir: &str, path: &Path| path.strip_prefix(dir).ok().map(Path::to_owned);
    let found = tree.iter().filter_map(|(path, hash)| Some((dirs.iter().find_map(|d| below(d, path))?, hash.clone())));
    let mut found: Vec<_> = found.collect();
    found.sort();
    found
}

/// What one host makes of the same command.
pub(crate) fn one_host(env: &TestEnv, line: &str) -> Vec<(PathBuf, String)> {
    let line = line.replace("-dc out", "-dc one").replace("-is st", "-is one_st");
    end(start(env, &line, "")).ok();
    let found = made(env, ["one", "one_st"]);
    assert!(found.len() > 4, "{found:?}");
    found
}

pub(crate) fn clear(env: &TestEnv) {
    for dir in ["out", "st"] {
        let _ = std::fs::remove_dir_all(env.path(dir));
    }
}

#[test]
fn every_launcher_gives_the_bytes_of_one_host() {
    let env = env();
    let expected = one_host(&env, LINE);
    let array = |i: u32| {
        format!(
            "SLURM_ARRAY_TASK_ID={} SLURM_ARRAY_TASK_COUNT=2 SLURM_ARRAY_TASK_MIN=3 SLURM_ARRAY_TASK_MAX=5 SLURM_ARRAY_TASK_STEP=2",
            3 + 2 * i
        )
    };
    let cases: [(&str, &str, Variables<'_>); 8] = [
        ("Slurm array", "", &array),
        ("srun", "", &|i| format!("SLURM_STEP_ID=0 SLURM_PROCID={i} SLURM_STEP_NUM_TASKS=2")),
        ("torchrun", "", &|i| format!("GROUP_RANK=0 GROUP_WORLD_SIZE=1 RANK={i} WORLD_SIZE=2 LOCAL_RANK={i}")),
        ("Open MPI", "", &|i| format!("OMPI_COMM_WORLD_RANK={i} OMPI_COMM_WORLD_SIZE=2")),
        ("PMI", "", &|i| format!("PMI_RANK={i} PMI_SIZE=2")),
        ("Volcano", "", &|i| format!("VC_TASK_INDEX={i} VC_WORKER_NUM=2")),
        ("Kubernetes", "--nodes 2", &|i| format!("JOB_COMPLETION_INDEX={i}")),
        ("msrun", "", &|i| format!("MS_ROLE=MS_WORKER MS_WORKER_NUM=2 RANK_ID={i} MS_NODE_ID={i}")),
    ];
    for (name, flags, variables) in cases {
        clear(&env);
        let children: Vec<Child> = (0..2).map(|i| start(&env, &format!("{LINE} {flags}"), &variables(i))).collect();
        let runs: Vec<Run> = children.into_iter().map(|child| end(child).ok()).collect();
        for (index, run) in runs.iter().enumerate() {
            assert!(run.stderr.contains(&format!("host {index} of 2")) && run.stderr.contains(name), "{run:#?}");
        }
        assert!(runs.iter().filter(|run| run.stdout.starts_with("wrote ")).count() <= 1, "two publishers: {runs:#?}");
        assert_eq!(made(&env, ["out", "st"]), expected, "{name}");
    }
    // msrun starts its scheduler with the same command.
    clear(&env);
    end(start(&env, LINE, "MS_ROLE=MS_SCHED MS_WORKER_NUM=2 RANK_ID=0")).ok();
    assert!(!env.path("out").exists());
}

#[test]
fn fewer_files_than_hosts_are_written_in_ranges() {
    let env = larger();
    for options in ["-w 1", "-w 1 --format safetensors", "-w 2 --ckpt-records canonical", "-w 1 --crc"] {
        let line = LINE.replace("-w 4", options);
        let expected = one_host(&env, &line);
        let children: Vec<Child> = (0..3).map(|index| host(&env, &line, index, 3)).collect();
        for child in children {
            end(child).ok();
        }
        assert_eq!(made(&env, ["out", "st"]), expected, "{options}");
        for dir in ["one", "one_st", "out", "st"] {
            std::fs::remove_dir_all(env.path(dir)).unwrap();
        }
    }
}

/// From rank files to PyTorch's own files, whose archives hold sums over the tensors.
#[test]
fn other_functions_are_shared_out_too() {
    let env = larger();
    for format in ["bin --max-shard-size 2MB", "safetensors --max-shard-size 2MB"] {
        let line = format!("-f ms_to_pt -y model.yaml -sc src -p fp16 -dc out -q --format {format}");
        end(start(&env, &line.replace("-dc out", "-dc one"), "")).ok();
        let expected = made(&env, ["one", "-"]);
        let children: Vec<Child> = (0..2).map(|index| host(&env, &line, index, 2)).collect();
        for child in children {
            end(child).ok();
        }
        assert_eq!(made(&env, ["out", "-"]), expected, "{format}");
        assert!(expected.len() > 5, "{expected:?}");
        clear(&env);
        std::fs::remove_dir_all(env.path("one")).unwrap();
    }
}

#[test]
fn hosts_that_are_started_one_after_the_other() {
    let env = env();
    let expected = one_host(&env, LINE);
    for index in [2, 0, 1] {
        let run = end(start(&env, &format!("{LINE} --nodes 3"), &format!("JOB_COMPLETION_INDEX={index}"))).ok();
        assert_eq!(env.path("out/fp16_4p").exists(), index == 1, "the last one publishes: {run:#?}");
    }
    assert_eq!(made(&env, ["out", "st"]), expected);
    // One that is started again afterwards finds that there is nothing left to do.
    let run = end(host(&env, LINE, 1, 3)).ok();
    assert!(run.stderr.contains("is published"), "{run:#?}");
    assert_eq!(made(&env, ["out", "st"]), expected);
    // The whole in the place of another.
    let line = format!("{LINE} --overwrite");
    let children: Vec<Child> = (0..2).map(|index| host(&env, &line, index, 2)).collect();
    for child in children {
        end(child).ok();
    }
    assert_eq!(made(&env, ["out", "st"]), expected);
}

/// One of two hosts is killed at different points and started again, while the other waits.
#[test]
fn a_host_that_is_killed_is_simply_started_again() {
    let env = larger();
    let line = format!("{LINE} --secure-every 1B --workers 1 --stale-after 30");
    let expected = one_host(&env, LINE);
    let mut kept = 0;
    // Seen from outside: the first marks of its life, its first finished file, its last, and after it.
    let marks = ["node-1.1.beat", "work-1.1", "node-1.1.kept", "node-1.1.done", "publish-1-1.1", "publish-1-0.1"];
    for mark in marks {
        clear(&env);
        let other = host(&env, &line, 0, 2);
        let mut doomed = host(&env, &line, 1, 2);
        while doomed.try_wait().unwrap().is_none() && !has_mark(&env, mark) {
            std::thread::yield_now();
        }
        doomed.kill().unwrap();
        doomed.wait().unwrap();
        if env.path("out/fp16_4p").exists() {
            let there: Vec<_> = made(&env, ["out/fp16_4p", "-"]).into_iter().map(|(_, hash)| hash).collect();
            let whole: Vec<_> = made(&env, ["one/fp16_4p", "-"]).into_iter().map(|(_, hash)| hash).collect();
            assert_eq!(there, whole, "published and not whole, after {mark}");
        }
        let again = end(host(&env, &line, 1, 2)).ok();
        kept += usize::from(again.stderr.contains("kept "));
        let other = end(other).ok();
        let publishers = [&again, &other].into_iter().filter(|run| run.stdout.starts_with("wrote ")).count();
        assert!(publishers <= 1, "{mark}: {again:#?} {other:#?}");
        assert_eq!(made(&env, ["out", "st"]), expected, "{mark}");
    }
    assert!(kept > 0, "no finished file was ever kept");
}

/// The directories of runs that go on, or died.
pub(crate) fn run_dirs(env: &TestEnv) -> Vec<PathBuf> {
    let below = |dir: PathBuf| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let meetings = below(env.path("out")).filter(|path| path.extension().is_some_and(|e| e == "cluster"));
    meetings.flat_map(below).filter(|path| path.is_dir()).collect()
}

pub(crate) fn has_mark(env: &TestEnv, mark: &str) -> bool {
    run_dirs(env).iter().any(|run| run.join(mark).exists())
}

/// Waits until a host has left a mark.
pub(crate) fn wait_for(env: &TestEnv, child: &mut Child, mark: &str) {
    while !has_mark(env, mark) {
        assert!(child.try_wait().expect("a child").is_none(), "it ended before {mark}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Damage anywhere is seen: in a header, in data, and in the sums that a file holds over itself.
#[test]
fn a_finished_file_that_was_damaged_is_made_again() {
    let env = larger();
    let archive = "-f ms_to_pt -y model.yaml -sc src -p fp16 -dc out -is st -q --format bin --max-shard-size 1MB";
    for (line, eighths) in [(LINE, [0, 8]), (&format!("{LINE} --crc"), [4, 8]), (archive, [7, 8])] {
        let line = &format!("{line} --nodes 2");
        let expected = {
            end(start(
                &env,
                &line.replace("-dc out", "-dc one").replace("-is st", "-is one_st").replace("--nodes 2", ""),
                "",
            ))
            .ok();
            made(&env, ["one", "one_st"])
        };
        for eighth in eighths {
            clear(&env);
            let mut waiting = start(&env, &format!("{line} --node-rank 0"), "");
            wait_for(&env, &mut waiting, "node-0.1.done");
            waiting.kill().unwrap();
            waiting.wait().unwrap();
            let mut files = Vec::new();
            let below = run_dirs(&env).pop().unwrap().join("files");
            files.extend(env.tree().into_keys().map(|path| env.path(path.to_str().unwrap())));
            files
                .retain(|path| path.starts_with(&below) && path.extension().is_some_and(|e| e == "ckpt" || e == "bin"));
            assert!(files.len() > 1, "{files:?}");
            let mut bytes = std::fs::read(&files[0]).unwrap();
            let at = (bytes.len() * eighth / 8).min(bytes.len() - 1);
            bytes[at] ^= 1;
            std::fs::write(&files[0], bytes).unwrap();
            let children = [0, 1].map(|index| start(&env, &format!("{line} --node-rank {index}"), ""));
            let runs = children.map(|child| end(child).ok());
            let kept =
                runs[0].stderr.split("kept ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok());
            let share =
                runs[0].stderr.split(" files\n").next().and_then(|said| said.rsplit(' ').next()?.parse::<usize>().ok());
            assert_eq!(kept.map(|kept| kept + 1), share, "{line}, {eighth}/8: {runs:#?}");
            assert_eq!(made(&env, ["out", "st"]), expected, "{line}, {eighth}/8");
        }
        for dir in ["one", "one_st"] {
            let _ = std::fs::remove_dir_all(env.path(dir));
        }
    }
}

#[test]
fn a_failure_stops_the_others_and_both_can_be_started_again() {
    let env = larger();
    let expected = one_host(&env, LINE);
    let mut waiting = host(&env, LINE, 0, 2);
    wait_for(&env, &mut waiting, "node-0.1.done");
    // Shells count in blocks of 512 or 1024 bytes; either is less than a rank file.
    let script = format!("trap '' XFSZ; ulimit -f 20; exec \"$0\" {LINE} --node-rank 1 --nodes 2");
    let mut command = Command::new("sh");
    command.current_dir(env.root()).args(["-c", &script, env!("CARGO_BIN_EXE_ckpt-convert")]);
    Run::of(&mut command).failed(2, &["error: ", "checkpoint_"]);
    end(waiting).failed(2, &["host 1 failed: ", "checkpoint_", "hint: "]);
    assert!(!env.path("out/fp16_4p").exists());
    let children = [host(&env, LINE, 0, 2), host(&env, LINE, 1, 2)];
    for child in children {
        end(child).ok();
    }
    assert_eq!(made(&env, ["out", "st"]), expected);
}

#[test]
fn hosts_that_died_or_never_began_are_not_waited_for_for_ever() {
    let env = env();
    let line = format!("{LINE} --stale-after 0.3");
    end(host(&env, &line, 0, 2)).failed(2, &["host 1 did not begin", "hint: "]);
    // A process that is stopped shows no life.
    let mut stopped = host(&env, &line, 1, 3);
    wait_for(&env, &mut stopped, "node-1.1.beat");
    let signal = |child: &Child, which: &str| {
        assert!(Command::new("kill").args([which, &child.id().to_string()]).status().unwrap().success());
    };
    signal(&stopped, "-STOP");
    let run = end(host(&env, &line, 0, 3));
    signal(&stopped, "-KILL");
    stopped.wait().unwrap();
    run.failed(2, &["no sign of life", "hint: "]);
    assert!(!env.path("out/fp16_4p").exists());
}

#[test]
fn two_plans_or_two_hosts_of_one_number_do_not_meet() {
    let env = env();
    let line = format!("{LINE} --stale-after 20");
    let mut waiting = host(&env, &line, 0, 2);
    wait_for(&env, &mut waiting, "node-0.1.done");
    for (more, index, count, said) in [
        ("", 0, 2, "host 0 is already running"),
        ("--ckpt-records canonical --crc", 1, 2, "another conversion is writing out/fp16_4p"),
        ("", 1, 3, "another conversion is writing out/fp16_4p"),
    ] {
        end(host(&env, &format!("{line} {more}"), index, count)).failed(1, &[said, "hint: "]);
    }
    end(host(&env, &line, 1, 2)).ok();
    end(waiting).ok();
}

#[test]
fn what_a_dead_run_of_another_plan_left_is_ignored() {
    let env = env();
    let expected = one_host(&env, LINE);
    let junk = r#"{"host":"gone","space":"elsewhere","pid":1,"began":1,"count":7}"#;
    env.write("out/.fp16_4p.cluster/claim-3", "abc");
    env.write("out/.fp16_4p.cluster/abc/node-0.1.beat", junk);
    for name in ["node-1.1.done", "files/rank_0/checkpoint_0.ckpt", "publish-1-0.1/rank_9/x"] {
        env.write(&format!("out/.fp16_4p.cluster/abc/{name}"), "junk");
    }
    env.write("out/.fp16_4p.cluster-over-host-1/x", "junk");
    let line = format!("{LINE} --stale-after 3");
    let children = [host(&env, &line, 0, 2), host(&env, &line, 1, 2)];
    for child in children {
        end(child).ok();
    }
    assert_eq!(made(&env, ["out", "st"]), expected);
}

#[test]
fn separate_outputs_and_the_proof_that_they_are_a_whole() {
    let env = env();
    let expected = one_host(&env, LINE);
    for index in 0..2 {
        let line = LINE.replace("-dc out -is st", &format!("-dc out{index} -is st{index}"));
        end(host(&env, &format!("{line} --local-output"), index, 2)).ok();
    }
    let dir = |index: u32| env.path(&format!("out{index}/fp16_4p"));
    let parts = made(&env, ["out0/fp16_4p", "out1/fp16_4p"]);
    let whole = made(&env, ["one/fp16_4p", "-"]);
    let files = |tree: &[(PathBuf, String)]| -> Vec<(PathBuf, String)> {
        let is_data = |path: &Path| path.extension().is_some_and(|e| e == "ckpt");
        tree.iter().filter(|(path, _)| is_data(path)).cloned().collect()
    };
    assert_eq!(files(&parts), files(&whole));
    assert!(expected.len() > whole.len());
    env.line("merge-manifest out1/fp16_4p out0/fp16_4p -o merged.json").ok();
    let merged = std::fs::read_to_string(env.path("merged.json")).unwrap();
    assert_eq!(merged, std::fs::read_to_string(env.path("one/fp16_4p/manifest.json")).unwrap());
    env.line("merge-manifest out0/fp16_4p").failed(1, &["part 1 of 2 is missing", "hint: "]);
    env.line("merge-manifest one/fp16_4p out1/fp16_4p").failed(1, &["manifest of a whole"]);
    let rank = dir(1).join("rank_1/checkpoint_1.ckpt");
    std::fs::remove_file(&rank).unwrap();
    env.line("merge-manifest out0/fp16_4p out1/fp16_4p").failed(1, &["rank_1/checkpoint_1.ckpt is not there"]);
    let more = LINE.replace("-dc out -is st", "-dc out5 -is st5");
    end(host(&env, &format!("{more} --local-output"), 0, 5)).failed(1, &["more hosts than files"]);
}

#[test]
fn a_rank_table_gives_each_host_the_ranks_of_its_cards() {
    let env = env();
    let expected = one_host(&env, LINE);
    let server = |name: &str, ranks: [u32; 2]| {
        let device =
            |rank: u32| format!(r#"{{"device_id":"{}","device_ip":"192.1.0.{rank}","rank_id":"{rank}"}}"#, rank % 2);
        format!(r#"{{"server_id":"{name}","device":[{},{}]}}"#, device(ranks[0]), device(ranks[1]))
    };
    // Names that no machine has; the ranks of a machine need not be neighbours.
    let table = |a: &str, b: &str| {
        let list = format!("{},{}", server(a, [0, 2]), server(b, [1, 3]));
        format!(r#"{{"version":"1.0","server_count":"2","server_list":[{list}],"status":"completed"}}"#)
    };
    env.write("table.json", table("a.invalid", "b.invalid"));
    let local = format!("{LINE} --local-output");
    for (index, rank) in [(0, 2), (1, 1)] {
        let line = local.replace("-dc out -is st", &format!("-dc out{index} -is st{index}"));
        end(start(&env, &format!("{line} --rank-table table.json"), &format!("RANK_ID={rank}"))).ok();
        let there: Vec<bool> = (0..4).map(|r| env.path(&format!("out{index}/fp16_4p/rank_{r}")).exists()).collect();
        assert_eq!(there, [index == 0, index == 1, index == 0, index == 1]);
    }
    let script = env!("CARGO_MANIFEST_DIR").to_owned() + "/tools/ckpt_convert_for_16p.sh";
    let children: Vec<Child> = [0, 1]
        .into_iter()
        .map(|rank| {
            let mut command = Command::new(&script);
            command.current_dir(env.root()).args(LINE.split_whitespace()).args(["--rank-table", "table.json"]);
            command.env("CKPT_CONVERT", env!("CARGO_BIN_EXE_ckpt-convert")).env("RANK_ID", rank.to_string());
            command.env("MS_SCHED_HOST", "a.invalid").env("MS_SCHED_PORT", "8334");
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the script starts")
        })
        .collect();
    for child in children {
        end(child).ok();
    }
    assert_eq!(made(&env, ["out", "st"]), expected);
    // Neither by address nor by rank.
    let run = end(start(&env, &format!("{LINE} --rank-table table.json"), ""));
    run.failed(1, &["not in the rank table", "a.invalid, b.invalid", "hint: "]);
    // A number that is typed and an address that is there must agree.
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    env.write("here.json", table("a.invalid", name.trim()));
    let run = end(start(&env, &format!("{LINE} --rank-table here.json --node-rank 0"), ""));
    run.failed(1, &["--node-rank says 0 of 2", "is this machine) says 1 of 2", "hint: "]);
    let nowhere = format!("{LINE} --rank-table nowhere.json");
    end(start(&env, &nowhere, "")).failed(1, &["nowhere.json", "--rank-table"]);
    clear(&env);
    end(start(&env, &format!("{nowhere} --nodes 1"), "")).ok();
    assert_eq!(made(&env, ["out", "st"]), expected);
}

#[test]
fn the_files_that_ship_are_what_they_should_be() {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/cluster");
    for name in
        ["slurm.sbatch", "mpirun.sh", "msrun.sh", "two-machines.sh", "set_2n_env.sh", "../ckpt_convert_for_16p.sh"]
    {
        assert!(Command::new("bash").arg("-n").arg(tools.join(name)).status().unwrap().success(), "{name}");
    }
    let table = std::fs::read(tools.join("hccl_2n_16p.json")).unwrap();
    let table = ckpt_convert::internals::cluster::RankTable::parse(&table).unwrap();
    assert_eq!(
        table.servers.iter().map(|s| s.ranks.clone()).collect::<Vec<_>>(),
        [(0..8).collect::<Vec<u32>>(), (8..16).collect()]
    );
    // The command of each job is one that the program takes, and its counts agree.
    for (name, containers, counts) in [
        (
            "k8s-indexed-job.yaml",
            "/spec/template/spec/containers/0/command",
            vec!["/spec/completions", "/spec/parallelism"],
        ),
        (
            "vcjob.yaml",
            "/spec/tasks/0/template/spec/containers/0/command",
            vec!["/spec/tasks/0/replicas", "/spec/minAvailable"],
        ),
    ] {
        let text = std::fs::read_to_string(tools.join(name)).unwrap();
        let job: serde_json::Value = serde_yaml::from_str(&text).unwrap();
        let command: Vec<&str> =
            job.pointer(containers).unwrap().as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
        for count in counts {
            assert!(command.contains(&format!("--nodes={}", job.pointer(count).unwrap()).as_str()), "{name}: {count}");
        }
        let env = TestEnv::new();
        let run = end(start(&env, &command[1..].join(" "), "JOB_COMPLETION_INDEX=0"));
        run.failed(1, &["/ckpt/source does not exist"]);
    }
}
