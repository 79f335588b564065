//! Quantising on several hosts: the bytes of one host, whose numbers are an oracle's (and in `quantise`, golden-stick's).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::cluster::{clear, end, host, made, one_host, run_dirs, start, wait_for};
use crate::quantise::{named, random_statistics, sharding, tame, write_ranks};
use crate::support::{Fusion, Llama, Run, Tensor, TestEnv, Values, quantised_rank, read_ranks, w8a16};

const LINE: &str = "-f quant_weight -y model.yaml -sc src -w 4 -dc out -is st -q --stats random_stats.safetensors -p";

/// A model that is large enough to be cut into ranges when it is int8, on two ranks, with statistics.
fn env() -> (TestEnv, Llama, Vec<Tensor>) {
    let env = TestEnv::new();
    let model = Llama { head_dim: 16, ffn: 512, vocab: 256, layers: 2, values: Values::Numbers, ..Llama::small() };
    let mut full = model.full();
    tame(&mut full);
    write_ranks(&env.path("src"), (0..2).map(|rank| model.rank(&full, rank, sharding(2, None))));
    env.write("model.yaml", model.yaml(true, false));
    random_statistics(&env, &model);
    (env, model, full)
}

fn hosts(env: &TestEnv, line: &str, count: u32) -> Vec<Run> {
    let children: Vec<Child> = (0..count).map(|index| host(env, line, index, count)).collect();
    children.into_iter().map(|child| end(child).ok()).collect()
}

fn forget_one_host(env: &TestEnv) {
    for dir in ["one", "one_st"] {
        std::fs::remove_dir_all(env.path(dir)).expect("removed");
    }
    clear(env);
}

#[test]
fn hosts_quantise_their_shares_and_tell_what_it_cost() {
    let (env, model, full) = env();
    // Weights, inputs (smoothed, so that scales follow from whole matrices), caches; other names and layers that are kept.
    for options in
        ["w8a16", "w8a8c8", "w8a8 --no-smooth", "fp16c8", "w8a16 --names rtn --keep-float w2 --crc --format ckpt"]
    {
        let line = format!("{LINE} {options}");
        let expected = one_host(&env, &line);
        for count in [2, 3] {
            clear(&env);
            let runs = hosts(&env, &line, count);
            let told = runs.iter().filter(|run| run.stdout.starts_with("wrote ")).count();
            assert!(told <= 1, "two publishers: {runs:#?}");
            // The manifest too, with the errors of every matrix.
            assert_eq!(made(&env, ["out", "st"]), expected, "{options}, {count} hosts");
        }
        if options == "w8a16" {
            let manifest = std::fs::read(env.path("out/w8a16_4p_qkv/manifest.json")).unwrap();
            let manifest: Value = serde_json::from_slice(&manifest).unwrap();
            assert_eq!(manifest["quantised"].as_array().unwrap().len(), 8, "4 fused matrices in each of 2 layers");
            let whole = w8a16(&full);
            for (rank, found) in (0..).zip(read_ranks(&env.path("out/w8a16_4p_qkv"), 4, "safetensors")) {
                let oracle = quantised_rank(&model, &whole, rank, 4, Some(Fusion::RankConcat));
                assert_eq!(found, named(oracle), "rank {rank}");
            }
        }
        forget_one_host(&env);
    }
}

#[test]
fn fewer_quantised_files_than_hosts_are_written_in_ranges() {
    let (env, ..) = env();
    for options in ["w8a8 -w 1", "w8a16c8 -w 1 --format ckpt", "w8a8c8 -w 2", "w8a16 -w 1 --format ckpt --crc"] {
        let line = format!("{LINE} {options}");
        let expected = one_host(&env, &line);
        let runs = hosts(&env, &line, 3);
        let shared = runs.iter().filter(|run| !run.stderr.contains("its share: 0 B")).count();
        assert_eq!(shared, if options.contains("--crc") { 1 } else { 3 }, "{runs:#?}");
        assert_eq!(made(&env, ["out", "st"]), expected, "{options}");
        forget_one_host(&env);
    }
}

/// A host dies when its share is written, and one of its files is damaged meanwhile: the others are kept, that one is made anew.
#[test]
fn finished_quantised_files_are_kept() {
    let (env, ..) = env();
    let line = format!("{LINE} w8a8 --secure-every 1B");
    let expected = one_host(&env, &line);
    let mut dying = host(&env, &line, 1, 2);
    wait_for(&env, &mut dying, "node-1.1.done");
    dying.kill().unwrap();
    dying.wait().unwrap();
    let files = run_dirs(&env).pop().unwrap().join("files");
    let mut there: Vec<PathBuf> = env.tree().into_keys().map(|path| env.path(path.to_str().unwrap())).collect();
    there.retain(|path| path.starts_with(&files) && path.extension().is_some_and(|e| e == "safetensors"));
    assert_eq!(there.len(), 2, "{there:?}");
    let mut bytes = std::fs::read(&there[0]).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&there[0], bytes).unwrap();
    let again = host(&env, &line, 1, 2);
    let other = host(&env, &line, 0, 2);
    let again = end(again).ok();
    end(other).ok();
    assert!(again.stderr.contains("kept 1 files"), "{again:#?}");
    assert_eq!(made(&env, ["out", "st"]), expected);

    // All of it is there: nothing is measured again, and the errors still come to the manifest.
    clear(&env);
    let mut dying = host(&env, &line, 0, 2);
    wait_for(&env, &mut dying, "node-0.1.done");
    dying.kill().unwrap();
    dying.wait().unwrap();
    let runs = hosts(&env, &line, 2);
    assert!(runs[0].stderr.contains("kept 2 files"), "{runs:#?}");
    assert_eq!(made(&env, ["out", "st"]), expected);
}

/// What decides the bytes is part of what hosts must agree on.
#[test]
fn hosts_that_quantise_otherwise_do_not_meet() {
    let (env, model, _) = env();
    let line = format!("{LINE} w8a8 --stale-after 20");
    let mut waiting = host(&env, &line, 0, 2);
    wait_for(&env, &mut waiting, "node-0.1.done");
    let refused = |line: &str| {
        end(host(&env, line, 1, 2)).failed(1, &["another conversion is writing out/w8a8_4p_qkv", "hint: "]);
    };
    for more in ["--alpha 0.7", "--no-smooth", "--keep-float w2", "--norm-dtype fp32"] {
        refused(&format!("{line} {more}"));
    }
    // The same name, one number changed.
    let path = env.path("random_stats.safetensors");
    let (before, mut bytes) = (std::fs::read(&path).unwrap(), std::fs::read(&path).unwrap());
    let at = bytes.len() - usize::try_from(model.kv_heads * model.head_dim).unwrap() * 8 - 2;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    refused(&line);
    std::fs::write(&path, before).unwrap();
    end(host(&env, &line, 1, 2)).ok();
    end(waiting).ok();
}

fn checkpoints(tree: Vec<(PathBuf, String)>) -> Vec<(PathBuf, String)> {
    tree.into_iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "safetensors")).collect()
}

#[test]
fn quantised_parts_make_a_whole() {
    let (env, ..) = env();
    let line = format!("{LINE} w8a8c8");
    one_host(&env, &line);
    for index in 0..2 {
        let line = line.replace("-dc out -is st", &format!("-dc out{index} -is st{index}"));
        end(host(&env, &format!("{line} --local-output"), index, 2)).ok();
    }
    let parts = made(&env, ["out0/w8a8c8_4p_qkv", "out1/w8a8c8_4p_qkv"]);
    assert_eq!(checkpoints(parts), checkpoints(made(&env, ["one/w8a8c8_4p_qkv", "-"])));
    env.line("merge-manifest out1/w8a8c8_4p_qkv out0/w8a8c8_4p_qkv -o merged.json").ok();
    let one = std::fs::read_to_string(env.path("one/w8a8c8_4p_qkv/manifest.json")).unwrap();
    assert_eq!(std::fs::read_to_string(env.path("merged.json")).unwrap(), one);
    assert!(one.contains("rms_error"));
    // One host's errors are other than the other's.
    let path = env.path("out1/w8a8c8_4p_qkv/manifest.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("\"rms_error\": 0.", "\"rms_error\": 1.", 1)).unwrap();
    env.line("merge-manifest out0/w8a8c8_4p_qkv out1/w8a8c8_4p_qkv").failed(1, &["different scales", "hint: "]);
}

/// The original's script and environment for two machines; each writes the ranks of its own cards.
#[test]
fn the_script_for_two_machines_quantises() {
    let (env, ..) = env();
    let line = LINE.replace("-w 4", "-w 16").replace("model.yaml", "sixteen.yaml").replace("src", "src16");
    let line = line.replace("random_stats.safetensors", "random_stats16.safetensors");
    let model =
        Llama { kv_heads: 16, rep: 1, head_dim: 4, ffn: 64, vocab: 64, values: Values::Numbers, ..Llama::small() };
    let mut full = model.full();
    tame(&mut full);
    write_ranks(&env.path("src16"), (0..16).map(|rank| model.rank(&full, rank, sharding(16, None))));
    env.write("sixteen.yaml", model.yaml(true, false));
    std::fs::copy(random_statistics(&env, &model), env.path("random_stats16.safetensors")).unwrap();
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools");
    std::fs::copy(tools.join("cluster/hccl_2n_16p.json"), env.path("hccl_2n_16p.json")).unwrap();
    for precision in ["w8a16", "w8a8"] {
        let line = format!("{line} {precision}");
        let expected = one_host(&env, &line);
        let both = |more: &str, place: &dyn Fn(u32) -> String| {
            let start = |host: u32| {
                let script = format!(
                    ". {0}/cluster/set_2n_env.sh && exec {0}/ckpt_convert_for_16p.sh {1} {more}",
                    tools.display(),
                    line.replace("-dc out -is st", &place(host)),
                );
                let mut command = Command::new("bash");
                command.current_dir(env.root()).args(["-c", &script]).env_remove("RANKTABLEFILE");
                // In place of the machine's address: one of its cards.
                command.env("CKPT_CONVERT", env!("CARGO_BIN_EXE_ckpt-convert")).env("RANK_ID", (host * 8).to_string());
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the script starts")
            };
            [0, 1].map(start).map(|child| end(child).ok())
        };
        let runs = both("", &|_| "-dc out -is st".to_owned());
        for (index, run) in runs.iter().enumerate() {
            assert!(
                run.stderr.contains(&format!("host {index} of 2")) && run.stderr.contains("in 8 files"),
                "{run:#?}"
            );
        }
        assert_eq!(made(&env, ["out", "st"]), expected, "{precision}");
        both("--local-output", &|host| format!("-dc local{host} -is local{host}_st"));
        let held = |host: u32, rank: u32| env.path(&format!("local{host}/{precision}_16p_qkv/rank_{rank}")).exists();
        let ranks = |host: u32| (0..16).filter(|&rank| held(host, rank)).collect::<Vec<u32>>();
        assert_eq!([ranks(0), ranks(1)], [(0..8).collect::<Vec<u32>>(), (8..16).collect()]);
        env.line(&format!("merge-manifest local0/{precision}_16p_qkv local1/{precision}_16p_qkv -o merged.json")).ok();
        assert_eq!(
            std::fs::read_to_string(env.path("merged.json")).unwrap(),
            std::fs::read_to_string(env.path(&format!("one/{precision}_16p_qkv/manifest.json"))).unwrap()
        );
        forget_one_host(&env);
    }
    // The variable alone makes no second machine.
    let alone = end(start(&env, &format!("{line} w8a16"), "RANKTABLEFILE=hccl_2n_16p.json")).ok();
    assert!(alone.stdout.starts_with("wrote "), "{alone:#?}");
}
