//! The original's document typed word for word, in the tree that the program lays out; and what else its users type.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ckpt_convert::internals::model::{builtin, from_yaml};

use crate::cluster::end;
use crate::quantise::{named, tame};
use crate::support::{Fusion, Llama, Run, Sharding, Tensor, TestEnv, data, read_ranks, write_ckpt};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ckpt-convert");

fn fused(ranks: u64) -> Sharding {
    Sharding { ranks, fusion: Some(Fusion::RankConcat), vocabulary_whole: false }
}

fn unfused(ranks: u64) -> Sharding {
    Sharding { fusion: None, ..fused(ranks) }
}

/// A substitute for llama2-7b: as many kv heads as heads, 16 of them.
fn model() -> Llama {
    Llama { kv_heads: 16, rep: 1, head_dim: 2, ffn: 96, vocab: 32, layers: 2, ..Llama::small() }
}

/// Its parameters: any numbers that can be quantised.
fn whole() -> Vec<Tensor> {
    let mut full = model().full();
    tame(&mut full);
    full
}

/// Writes a checkpoint of it.
fn write(dir: &Path, sharding: Sharding) {
    let full = whole();
    for rank in 0..sharding.ranks {
        let folder = dir.join(format!("rank_{rank}"));
        std::fs::create_dir_all(&folder).expect("a directory");
        let bytes = write_ckpt(&model().rank(&full, rank, sharding));
        std::fs::write(folder.join(format!("checkpoint_{rank}.ckpt")), bytes).expect("a file");
    }
}

/// The tree as the program lays it out below `tree/`, its yamls with the small model's dimensions, and an empty PATH but for
/// `python`: the program must be found without one.
fn laid_out() -> TestEnv {
    let env = TestEnv::new();
    env.line("scripts tree").ok();
    for kind in ["qkv", "noqkv"] {
        for ranks in [1, 2, 4, 8, 16] {
            let name = format!("tree/model/llama2_7b/{kind}/llama2_7b_{ranks}p.yaml");
            let mut text = std::fs::read_to_string(env.path(&name)).expect("a yaml");
            for (theirs, ours) in [
                ("hidden_size: 4096", "hidden_size: 32"),
                ("num_layers: 32", "num_layers: 2"),
                ("num_heads: 32", "num_heads: 16"),
                ("vocab_size: 32000", "vocab_size: 32"),
                ("multiple_of: 256", "multiple_of: 48"),
            ] {
                assert_eq!(text.matches(theirs).count(), 1, "{name}: {theirs}");
                text = text.replace(theirs, ours);
            }
            env.write(&name, text);
        }
    }
    // Not every machine calls it so.
    let python = env.write("bin/python", "#!/bin/sh\nexec python3 \"$@\"\n");
    std::fs::set_permissions(python, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    env
}

/// Lines typed into a shell in a folder, with no launcher's variables but these. What runs in the background is waited for,
/// as one who types does, and its status counts.
fn shell(env: &TestEnv, place: &Path, lines: &str, variables: &str) -> Child {
    let path = std::env::join_paths(
        [env.path("bin")].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    let mut command = Command::new("bash");
    command.env_clear().env("PATH", path.expect("a path")).envs(std::env::var_os("HOME").map(|home| ("HOME", home)));
    command.envs(variables.split_whitespace().filter_map(|pair| pair.split_once('=')));
    command.current_dir(place).arg("-c").arg(lines);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("bash starts")
}

fn typed(env: &TestEnv, folder: &str, lines: &str) -> Run {
    end(shell(env, &env.path(&format!("tree/{folder}")), lines, ""))
}

/// The commands of the document, one text for each block, below another root than `/workspace`.
fn blocks(env: &TestEnv) -> Vec<String> {
    let text = std::fs::read_to_string(data("document/convert_ckpt_qkv.md")).expect("the document");
    let workspace = env.path("workspace").display().to_string();
    let blocks = text.split("```shell\n").skip(1).map(|rest| rest.split_once("```").expect("an end").0);
    let ended = |block: &str| {
        let background = block.trim_end().ends_with('&');
        let status = if background { "wait $! || exit 9\n" } else { "[ $? = 0 ] || exit 9\n" };
        format!("{}{status}", block.replace("/workspace", &workspace))
    };
    blocks.map(ended).collect()
}

/// What the naive slicing of the model gives, and every rank's strategy.
#[track_caller]
fn is_right(target: &Path, sharding: Sharding) {
    let full = whole();
    let found = read_ranks(target, sharding.ranks, "ckpt");
    for (rank, found) in (0..).zip(found) {
        assert!(found == named(model().rank(&full, rank, sharding)), "{}, rank {rank}", target.display());
    }
}

#[track_caller]
fn has_strategies(dir: &Path, ranks: u64) {
    for rank in 0..ranks {
        let path = dir.join(format!("fp16_{ranks}p/strategy/ckpt_strategy_rank_{rank}.ckpt"));
        assert!(path.is_file(), "{} is not there", path.display());
    }
}

#[test]
fn every_command_of_the_original_document_word_for_word() {
    let env = laid_out();
    write(&env.path("workspace/ckpt/1_llama-2-7b_qkv"), fused(1));
    let blocks = blocks(&env);
    assert_eq!(blocks.len(), 7, "1 to 4, 4 to 8, the environment, 8 to 16, and three in short");

    // One machine: 1 to 4, in short, 4 to 8, in short.
    typed(&env, "convert_ckpt_qkv", &blocks[..4].concat()).ok();
    // Two machines, identified by the card that RANK_ID names: no address of the table is here.
    let both = [0, 8]
        .map(|card| shell(&env, &env.path("tree/convert_ckpt_qkv"), &blocks[4..].concat(), &format!("RANK_ID={card}")));
    for (index, child) in both.into_iter().enumerate() {
        let run = end(child).ok();
        let said = format!("host {index} of 2 (counted from 0), says the rank table");
        assert_eq!(run.stderr.matches(&said).count(), 2, "{run:#?}");
        assert_eq!(run.stderr.matches("in 8 files").count(), 2, "{run:#?}");
    }
    for ranks in [4, 8, 16] {
        for place in ["workspace", "tree"] {
            let below = if place == "tree" { "llama2_7b/qkv/" } else { "" };
            let name = format!("{below}{ranks}_llama-2-7b");
            let target = env.path(&format!("{place}/ckpt/{name}"));
            is_right(&target.join(format!("fp16_{ranks}p_qkv")), fused(ranks));
            has_strategies(&env.path(&format!("{place}/strategy/{name}")), ranks);
        }
    }
}

/// Everything below a directory that the program lays out, with whether it can be run.
fn tree_of(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, bool)> {
    let mut found = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(next).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(dir).expect("below it").to_owned();
            if path.is_dir() {
                left.push(path);
            } else if name != Path::new("ckpt-convert") {
                let runs = path.metadata().expect("metadata").permissions().mode() & 0o100 != 0;
                found.insert(name, (std::fs::read(&path).expect("a readable file"), runs));
            }
        }
    }
    found
}

#[test]
fn the_checkout_has_the_tree_that_the_program_lays_out() {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools");
    let env = TestEnv::new();
    let said = env.line("scripts a/tree").ok().stdout;
    assert!(said.contains("type the original's commands in a/tree/convert_ckpt_qkv"), "{said}");
    let tree = tree_of(&env.path("a/tree"));
    for folder in ["convert_ckpt_qkv", "convert_ckpt_noqkv", "env", "model"] {
        for (name, (bytes, runs)) in tree_of(&tools.join(folder)) {
            let laid_out = tree.get(&Path::new(folder).join(&name)).map(|(bytes, _)| bytes);
            assert_eq!(laid_out, Some(&bytes), "{folder}/{}", name.display());
            assert!(runs || !folder.starts_with("convert"), "{folder}/{}", name.display());
        }
    }
    for (name, (bytes, runs)) in &tree {
        assert_eq!(&std::fs::read(tools.join(name)).unwrap(), bytes, "{}", name.display());
        assert_eq!(
            *runs,
            name.extension().is_some_and(|e| e == "sh") && !name.starts_with("env"),
            "{}",
            name.display()
        );
        // The one that is Python too is no shell script to its end.
        if name.extension().is_some_and(|e| e == "sh") && !name.ends_with("ckpt_convert_n_to_m.sh") {
            assert!(Command::new("bash").arg("-n").arg(tools.join(name)).status().unwrap().success());
        }
    }
    // Nothing is replaced, and of what would be nothing is written.
    env.line("scripts a/tree").failed(1, &["a/tree has `ckpt_convert.sh`", "already, and nothing was written"]);
    env.write("b/model/llama2_7b/qkv/llama2_7b_8p.yaml", "mine");
    env.line("scripts b").failed(1, &["b has `model/llama2_7b/qkv/llama2_7b_8p.yaml` already"]);
    assert_eq!(tree_of(&env.path("b")).len(), 1);
    // Nor is a part of it left where the rest cannot be made.
    env.write("d/env", "a file");
    env.line("scripts d").failed(2, &["d/env"]);
    assert_eq!(std::fs::read_dir(env.path("d")).unwrap().count(), 1);
    // Beside what is there already.
    env.write("c/ckpt/mine", "mine");
    env.line("scripts c").ok();
    assert_eq!(tree_of(&env.path("c")).len(), tree.len() + 1);
}

/// The dimensions that the original's own yamls have, which lie in `tests/data/models` as far as tests need them.
#[test]
fn the_yamls_are_llama2_7b_as_the_original_has_it() {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools");
    let read = |path: PathBuf| std::fs::read_to_string(path).ok();
    for (kind, is_fused) in [("qkv", true), ("noqkv", false)] {
        for ranks in [1, 2, 4, 8, 16] {
            let name = format!("llama2_7b/{kind}/llama2_7b_{ranks}p.yaml");
            let text = read(tools.join("model").join(&name)).unwrap();
            let model = from_yaml(&text).unwrap();
            let mut known = builtin("llama2_7b").unwrap();
            known.fused = Some(is_fused);
            assert_eq!(model, known, "{name}");
            assert!(text.contains(&format!("  model_parallel: {ranks}\n")), "{name}");
            if let Some(original) = read(data(&format!("models/{name}"))) {
                assert_eq!(model, from_yaml(&original).unwrap(), "{name}");
            }
        }
    }
}

#[test]
fn a_rank_table_in_the_environment_keeps_no_machine_waiting() {
    let env = laid_out();
    write(&env.path("src"), fused(1));
    let yaml = "../model/llama2_7b/qkv/llama2_7b_4p.yaml";
    let line = format!("-f distributed_weight_transfer -p fp16 -w 4 -sc ../../src -y {yaml}");
    let lines = format!(
        "source ../env/set_2n_env.sh\nbash ckpt_convert.sh {line} -dc ../../out -is ../../st &\nwait $! || exit 9\n\
         python ckpt_convert_n_to_m.sh -w 4 -sc ../../src"
    );
    let run = typed(&env, "convert_ckpt_qkv", &lines).ok();
    let note = "note: RANKTABLEFILE names the rank table ./hccl_2n_16p.json, which this run does not use";
    assert_eq!(run.stderr.matches(note).count(), 2, "{run:#?}");
    is_right(&env.path("out/fp16_4p_qkv"), fused(4));
    is_right(&env.path("tree/ckpt/llama2_7b/qkv/4_llama-2-7b/fp16_4p_qkv"), fused(4));
    // One that is not there any more.
    for variable in ["RANK_TABLE_FILE", "RANKTABLEFILE"] {
        let line =
            format!("{variable}=/nowhere.json ../ckpt-convert {line} -dc ../../{variable} -is ../../{variable}_st");
        let run = typed(&env, "convert_ckpt_qkv", &line).ok();
        assert!(run.stderr.contains(&format!("note: {variable} names the rank table /nowhere.json")), "{run:#?}");
        let run = typed(&env, "convert_ckpt_qkv", &format!("{line} --overwrite --nodes 1")).ok();
        assert!(!run.stderr.contains("/nowhere.json"), "{run:#?}");
    }
}

#[test]
fn the_rank_table_is_found_beside_the_script_and_in_env() {
    let env = laid_out();
    write(&env.path("src"), fused(8));
    let scripts = env.path("tree/convert_ckpt_qkv").display().to_string();
    std::fs::create_dir(env.path("elsewhere")).unwrap();
    let options = "-w 16 -sc ../src -dc ../out -is ../st --dry-run";
    let yaml = "-y ../tree/model/llama2_7b/qkv/llama2_7b_16p.yaml";
    let lines = [
        format!("bash {scripts}/ckpt_convert_for_16p.sh -f distributed_weight_transfer -p fp16 {yaml} {options}"),
        format!("python {scripts}/ckpt_convert_n_to_m.sh {options}"),
        format!("{scripts}/ckpt_convert_n_to_m.sh {}", options.replace("-w 16", "--world_size_a=16")),
    ];
    let run = |line: &str, variable: &str| {
        let variables = format!("RANK_ID=8 RANKTABLEFILE={variable}");
        end(shell(&env, &env.path("elsewhere"), line, &variables))
    };
    // From the farthest to the nearest; the nearer is taken.
    let name = "hccl_2n_16p.json";
    for place in ["tree/env", "tree/convert_ckpt_qkv", "elsewhere"] {
        let table = env.path(place).join(name);
        if place != "tree/env" {
            std::fs::copy(env.path("tree/env").join(name), &table).unwrap();
        }
        for line in &lines {
            let run = run(line, "./hccl_2n_16p.json").ok();
            let said = format!("host 1 of 2 (counted from 0), says the rank table {}", table.display());
            assert!(run.stderr.contains(&said), "{said}: {run:#?}");
        }
    }
    for line in &lines {
        let run = run(line, "none.json");
        let said = format!("note: none.json is neither in {}", env.path("elsewhere").display());
        run.failed(1, &[&said, &scripts, "tree/env", "none.json: ", "--nodes 1 does without it"]);
    }
    // The other variable is MindSpore's; the script for two machines takes it where the original's is not set.
    let named = format!("RANK_ID=0 RANK_TABLE_FILE={}", env.path("tree/env").join(name).display());
    let run = end(shell(&env, &env.path("elsewhere"), &lines[0], &named)).ok();
    assert!(run.stderr.contains("host 0 of 2"), "{run:#?}");
    let run = end(shell(&env, &env.path("elsewhere"), &lines[1], &named)).ok();
    assert!(run.stderr.contains("which this run does not use"), "{run:#?}");
}

#[test]
fn the_simplified_form_does_what_the_yaml_says() {
    let env = laid_out();
    write(&env.path("tree/src"), fused(2));
    let of_yaml = "-y ../model/llama2_7b/noqkv/llama2_7b_4p.yaml";
    let line = format!("../ckpt-convert n-to-m -w 4 -sc ../src {of_yaml}");
    for (folder, line, target, strategies, sharding) in [
        // The yaml says unfused, and the places say so.
        (
            "convert_ckpt_qkv",
            line.clone(),
            "ckpt/llama2_7b/noqkv/4_llama-2-7b/fp16_4p",
            "strategy/llama2_7b/noqkv/4_llama-2-7b",
            unfused(4),
        ),
        ("env", format!("{line} -dc ../a"), "a/fp16_4p", "a/strategy/llama2_7b/noqkv/4_llama-2-7b", unfused(4)),
        // What is typed wins.
        (
            "convert_ckpt_qkv",
            format!("{line} --qkv_concat true"),
            "ckpt/llama2_7b/qkv/4_llama-2-7b/fp16_4p_qkv",
            "strategy/llama2_7b/qkv/4_llama-2-7b",
            fused(4),
        ),
        (
            "convert_ckpt_qkv",
            "python ckpt_convert_n_to_m.sh -w 8 -sc ../src -qkv false".to_owned(),
            "ckpt/llama2_7b/noqkv/8_llama-2-7b/fp16_8p",
            "strategy/llama2_7b/noqkv/8_llama-2-7b",
            unfused(8),
        ),
        // The folder of the unfused model, and the names that its options have there.
        (
            "convert_ckpt_noqkv",
            "bash ckpt_convert_n_to_m.sh --world_size_1 2 --src_ckpt_path_1 ../src --dst_ckpt_path_1 ../b".to_owned(),
            "b/fp16_2p",
            "b/strategy/llama2_7b/noqkv/2_llama-2-7b",
            unfused(2),
        ),
        (
            "convert_ckpt_noqkv",
            "python ckpt_convert_n_to_m.sh -w 1 -sc ../src".to_owned(),
            "ckpt/llama2_7b/noqkv/1_llama-2-7b/fp16_1p",
            "strategy/llama2_7b/noqkv/1_llama-2-7b",
            unfused(1),
        ),
    ] {
        typed(&env, folder, &line).ok();
        is_right(&env.path("tree").join(target), sharding);
        has_strategies(&env.path("tree").join(strategies), sharding.ranks);
    }
    // A number of ranks for which there is no yaml; the built-in model is another than this one.
    typed(&env, "convert_ckpt_noqkv", "bash ckpt_convert_n_to_m.sh -w 32 -sc ../src")
        .failed(1, &["hint: check that -y"]);
    // Every option of a conversion.
    let more = "--norm-dtype fp32 --format safetensors --check-replicas -is ../c_st -q";
    typed(&env, "convert_ckpt_qkv", &format!("bash ckpt_convert_n_to_m.sh -w 4 -sc ../src -dc ../c {more}")).ok();
    has_strategies(&env.path("tree/c_st"), 4);
    for rank in read_ranks(&env.path("tree/c/fp16_4p_qkv"), 4, "safetensors") {
        assert_eq!(rank["model.layers.0.ffn_norm.weight"].dtype, "Float32");
        assert_eq!(rank["lm_head.weight"].dtype, "Float16");
    }
    typed(&env, "env", "../ckpt-convert n-to-m -f quant_weight -w 4 -sc ../src")
        .failed(1, &["for -f quant_weight leave n-to-m out"]);
}

/// The command line that a run says it is short for.
#[track_caller]
fn noted(run: &Run) -> String {
    let line = run.stderr.lines().find_map(|line| Some(line.split_once(" of the original scripts is: ")?.1));
    line.unwrap_or_else(|| panic!("no note: {run:#?}")).to_owned()
}

#[test]
fn the_functions_of_the_originals_dispatcher() {
    let env = laid_out();
    write(&env.path("plain"), unfused(4));
    write(&env.path("fused"), fused(4));
    write(&env.path("one"), unfused(1));
    env.line("-f ms_to_pt -p keep -sc one -dc hf -q").ok();
    let small = "-y tree/model/llama2_7b/qkv/llama2_7b_4p.yaml";
    for (line, made) in [
        (format!("-f n2m_qkv -w 4 -sc plain -dc out {small}"), "fp16_4p_qkv"),
        (format!("-f n2m_noqkv -w 4 -sc fused -dc out {small}"), "fp16_4p"),
        ("-f add_qkv -w 4 -sc plain/rank_0/checkpoint_0.ckpt -dc out".to_owned(), "keep_4p_qkv"),
        ("-f quant -p w8a16 -w 4 -qkv true -sc fused -dc out".to_owned(), "w8a16_4p_qkv"),
        ("-f quant -p w8a16 -w 1 -qkv false -sc one/rank_0/checkpoint_0.ckpt -dc out".to_owned(), "w8a16_1p"),
        ("-f ckpt2sft -sc one/rank_0/checkpoint_0.ckpt -dc out".to_owned(), "keep_hf"),
        ("-f ckpt2pth -sc one/rank_0/checkpoint_0.ckpt -dc out".to_owned(), "keep_hf"),
        ("-f pt2ckpt -sc hf/keep_hf -dc out".to_owned(), "fp16_1p"),
    ] {
        let run = end(shell(&env, env.root(), &format!("tree/ckpt_convert.sh {line}"), "")).ok();
        let target = env.path("out").join(made);
        assert!(target.is_dir(), "{line}: {run:#?}");
        match made {
            "fp16_4p_qkv" | "keep_4p_qkv" => is_right(&target, fused(4)),
            "fp16_4p" => is_right(&target, unfused(4)),
            // The way back of what went there.
            "fp16_1p" => is_right(&target, unfused(1)),
            "keep_hf" => {
                env.line(&format!("verify one out/keep_hf {small}")).ok();
            }
            _ => {
                env.line(&format!("verify fused out/{made} {small} --tolerance 0.6")).ok();
            }
        }
        // The command that is named does the same.
        let first = env.tree();
        std::fs::remove_dir_all(env.path("out")).unwrap();
        let program = format!("PATH={}:$PATH\n", Path::new(PROGRAM).parent().unwrap().display());
        let again = end(shell(&env, env.root(), &format!("{program}{}", noted(&run)), "")).ok();
        assert!(!again.stderr.contains("of the original scripts"), "{again:#?}");
        assert_eq!(env.tree(), first, "{line}");
        std::fs::remove_dir_all(env.path("out")).unwrap();
    }
    // One that needs what the original brought along.
    let run = env.line("-f quant -p w8a8 -w 4 -qkv true -sc fused -dc out");
    run.failed(1, &["add -d boolq -dp FILE, or --stats FILE", "error: "]);
    assert!(!env.path("out").exists());
}
