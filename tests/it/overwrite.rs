//! `--overwrite` and its kin replace what a conversion made, and nothing of anybody's else, whatever it is called.

use std::path::Path;

use crate::cluster::{end, env, env_of, host};
use crate::faults::{begun, signal, slow};
use crate::foreign::small_config;
use crate::staging::{link, move_to};
use crate::support::{Llama, Run, TestEnv, data};

const LINE: &str = "-f distributed_weight_transfer -y model.yaml -sc src -p fp16 -w 2 -dc out -is st -q";

/// Refused with these words, and nothing changed.
fn refused(env: &TestEnv, line: &str, said: &[&str]) -> Run {
    let before = env.tree();
    let run = env.line(line);
    run.failed(1, said);
    assert_eq!(env.tree(), before, "{line}");
    run
}

#[test]
fn a_file_of_somebody_in_a_target_of_ours_is_kept_whatever_it_is_called() {
    for stray in [
        "rank_0/my_finetuned.ckpt",
        "rank_0/backup.ckpt",
        "rank_9/precious.safetensors",
        "rank_9/checkpoint_9.ckpt",
        "model.safetensors",
        "pytorch_model.bin",
        "config.json",
        "tokenizer.model",
    ] {
        let env = env();
        env.line(LINE).ok();
        env.write(&format!("out/fp16_2p/{stray}"), "mine");
        let named = stray.strip_suffix("/precious.safetensors").or(stray.strip_suffix("/checkpoint_9.ckpt"));
        let named = format!("`{}`", named.unwrap_or(stray));
        refused(&env, &format!("{LINE} --overwrite"), &["out/fp16_2p", &named, "hint: move them elsewhere"]);
        // Several hosts, of which the last would publish.
        for index in 0..2 {
            end(host(&env, &format!("{LINE} --overwrite --stale-after 0.5"), index, 2)).failed(1, &[&named, "hint: "]);
        }
        assert_eq!(std::fs::read(env.path("out/fp16_2p").join(stray)).unwrap(), b"mine");
        // As the hint says.
        move_to(&env.path("out/fp16_2p").join(stray), &env.path("moved"));
        let _ = std::fs::remove_dir(env.path("out/fp16_2p/rank_9"));
        env.line(&format!("{LINE} --overwrite")).ok();
    }
}

#[test]
fn a_file_that_was_changed_since_it_was_made_is_kept() {
    let env = env();
    env.write("hf/config.json", small_config(""));
    env.write("hf/tokenizer_config.json", "{}");
    let line = "-f ms_to_pt -p keep -sc src --hf-config hf -dc out --no-sync";
    env.line(line).ok();
    env.line(&format!("{line} --overwrite")).ok();
    env.write("out/keep_hf/tokenizer_config.json", "{\"chat_template\": \"mine\"}");
    refused(&env, &format!("{line} --overwrite"), &["out/keep_hf", "`tokenizer_config.json`", "changed", "hint: "]);
}

#[test]
fn a_checkpoint_that_no_conversion_made_is_kept() {
    // A training run, with its optimizer's state.
    let env = env();
    for rank in 0..2 {
        env.write(&format!("out/fp16_2p/rank_{rank}/llama_rank_{rank}-1_100.ckpt"), "state");
    }
    let line = format!("{LINE} --overwrite");
    refused(&env, &line, &["out/fp16_2p", "`rank_0/llama_rank_0-1_100.ckpt`", "hint: "]);
    // Other ranks' files, and a manifest of something else.
    let env = self::env();
    env.write("out/fp16_2p/rank_1/checkpoint_0.ckpt", "mine");
    env.write("out/fp16_2p/manifest.json", "{\"tool\": {\"name\": \"another\"}, \"manifest_version\": 1}");
    refused(&env, &line, &["`manifest.json`", "`rank_1/checkpoint_0.ckpt`"]);
    // Somebody's model of Hugging Face's format.
    let env = self::env();
    env.write("out/keep_hf/config.json", "{}");
    env.write("out/keep_hf/model.safetensors", "weights");
    let back = "-f ms_to_pt -p keep -sc src -dc out --heads 16 --kv-heads 8 --no-sync --overwrite";
    refused(&env, back, &["out/keep_hf", "`config.json`, `model.safetensors`", "hint: "]);
    // What the original scripts write is replaced.
    let env = self::env();
    env.write("out/fp16_2p/rank_0/checkpoint_0.ckpt", "theirs");
    env.write("out/fp16_2p/rank_1/checkpoint_1.ckpt", "theirs");
    env.line(&line).ok();
}

#[test]
fn strategies_that_no_conversion_made_are_kept() {
    let theirs = std::fs::read(data("mindspore/strategies/mp2.ckpt")).expect("a strategy of MindSpore's");
    let made = env();
    made.line(LINE).ok();
    let ours = std::fs::read(made.path("st/fp16_2p/strategy/ckpt_strategy_rank_0.ckpt")).unwrap();
    let dir = "st/fp16_2p/strategy";
    let line = format!("{LINE} --overwrite --vocab_emb_dp true");
    let cases: [(&str, &[u8]); 5] = [
        ("ckpt_strategy_rank_1.ckpt", &theirs),
        ("ckpt_strategy_rank_7.ckpt", b"of another kind"),
        ("ckpt_strategy_rank_7.ckpt.bak", &ours),
        ("ckpt_strategy_rank_mine.ckpt", &ours),
        ("src_strategy.ckpt", &ours),
    ];
    for (name, bytes) in cases {
        let env = env();
        env.write(&format!("{dir}/ckpt_strategy_rank_0.ckpt"), &ours);
        env.write(&format!("{dir}/{name}"), bytes);
        refused(&env, &line, &[dir, &format!("`{name}`"), "hint: choose another directory with -is"]);
        for index in 0..2 {
            end(host(&env, &format!("{line} --stale-after 0.5"), index, 2)).failed(1, &[dir, "hint: "]);
        }
        assert_eq!(std::fs::read(env.path(dir).join(name)).unwrap(), bytes);
        // As the hint says.
        env.line(&line.replace("-is st", "-is st2")).ok();
    }
    let env = env();
    for rank in 0..2 {
        env.write(&format!("{dir}/ckpt_strategy_rank_{rank}.ckpt"), &theirs);
    }
    refused(&env, &line, &["`ckpt_strategy_rank_0.ckpt`"]);
    // Those of another conversion are replaced, those of `strategy from-yaml` too; without --overwrite that is the last resort.
    let env = self::env();
    env.line(&format!("strategy from-yaml model.yaml -w 4 {dir}")).ok();
    let run = refused(
        &env,
        &line.replace("--overwrite", ""),
        &["other strategies", "hint: choose another directory with -is"],
    );
    assert!(run.stderr.contains("may belong to another target"), "{run:#?}");
    env.line(&line).ok();
}

#[test]
fn a_file_that_is_put_into_the_target_meanwhile_is_kept() {
    let (env, mut line) = slow();
    env.write("out/fp16_4p/rank_0/checkpoint_0.ckpt", "old");
    line.push("--overwrite".to_owned());
    let child = begun(&env, &line);
    signal(&child, "-STOP");
    env.write("out/fp16_4p/rank_0/mine.ckpt", "mine");
    signal(&child, "-CONT");
    Run::from_output(child.wait_with_output().unwrap()).failed(1, &["`rank_0/mine.ckpt`", "hint: "]);
    assert_eq!(std::fs::read(env.path("out/fp16_4p/rank_0/mine.ckpt")).unwrap(), b"mine");
}

#[test]
fn a_merged_manifest_replaces_only_a_manifest() {
    let env = env();
    for index in 0..2 {
        let line = LINE.replace("-dc out", &format!("-dc out{index}")).replace("-is st", &format!("-is st{index}"));
        end(host(&env, &format!("{line} --local-output"), index, 2)).ok();
    }
    let merge = "merge-manifest out0/fp16_2p out1/fp16_2p -o";
    env.line(&format!("{merge} merged.json")).ok();
    env.line(&format!("{merge} merged.json")).ok();
    env.write("notes.json", "{\"manifest_version\": 1, \"of\": \"ckpt-convert\"}");
    link(Path::new("merged.json"), &env.path("link.json"));
    link(Path::new("nowhere"), &env.path("dangling.json"));
    std::fs::create_dir(env.path("dir")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(env.path("pipe")).status().unwrap().success());
    for there in
        ["notes.json", "link.json", "dangling.json", "dir", "pipe", "model.yaml", "src/rank_0/checkpoint_0.ckpt"]
    {
        refused(&env, &format!("{merge} {there}"), &[there, "not a manifest", "hint: choose another name with -o"]);
    }
}

#[test]
fn a_target_that_is_a_link_is_called_one() {
    let env = env();
    env.line(LINE).ok();
    std::fs::create_dir(env.path("disk")).unwrap();
    move_to(&env.path("out/fp16_2p"), &env.path("disk/fp16_2p"));
    link(&env.path("disk/fp16_2p"), &env.path("out/fp16_2p"));
    for line in [LINE.to_owned(), format!("{LINE} --overwrite")] {
        let run =
            refused(&env, &line, &["out/fp16_2p", "is a symbolic link to", "disk/fp16_2p", "remove the link itself"]);
        assert!(
            run.stderr.contains(&format!("-dc {}", env.path("disk").canonicalize().unwrap().display())),
            "{run:#?}"
        );
        assert!(!run.stderr.contains("--overwrite"), "{run:#?}");
    }
    // As the hint says, either way.
    env.line(&format!("{} --overwrite", LINE.replace("-dc out", &format!("-dc {}", env.path("disk").display())))).ok();
    std::fs::remove_file(env.path("out/fp16_2p")).unwrap();
    env.line(LINE).ok();
    assert!(env.path("disk/fp16_2p/manifest.json").exists());
    // Strategies too.
    move_to(&env.path("st/fp16_2p/strategy"), &env.path("disk/strategy"));
    link(&env.path("disk/strategy"), &env.path("st/fp16_2p/strategy"));
    let line = format!("{LINE} --overwrite --vocab_emb_dp true");
    refused(&env, &line, &["st/fp16_2p/strategy", "is a symbolic link to", "hint: remove the link itself"]);
}

#[test]
fn strategy_commands_name_no_option_that_they_lack() {
    let env = env_of(&Llama::small());
    let strategy = data("mindspore/strategies/mp2.ckpt");
    std::fs::create_dir(env.path("stages")).unwrap();
    std::fs::copy(&strategy, env.path("stages/ckpt_strategy_rank_0.ckpt")).unwrap();
    for there in ["there.ckpt", "there.json", "there/file"] {
        env.write(there, "mine");
    }
    for line in [
        "strategy merge stages there.ckpt".to_owned(),
        format!("strategy convert {} there.json", strategy.display()),
        "strategy from-yaml model.yaml -w 2 there.ckpt".to_owned(),
        "strategy from-yaml model.yaml -w 2 there.json".to_owned(),
        "strategy from-yaml model.yaml -w 2 there".to_owned(),
    ] {
        let run = refused(&env, &line, &["exists already", "hint: choose another name"]);
        assert!(!run.stderr.contains("--overwrite") && !run.stderr.contains("-dc"), "{run:#?}");
    }
}
