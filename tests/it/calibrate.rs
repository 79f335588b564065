//! `-d` and `-dp`: the model run by the program, against transformers run on golden-stick's own samples
//! (`tests/data/calibrate`).

use std::path::Path;

use serde_json::Value;

use ckpt_convert::internals::calibrate::{DataSet, Special, Texts, Words};

use crate::limits::without_threads;
use crate::support::{TestEnv, data, numbers, read_tensors};

const SETS: [(&str, &str); 3] =
    [("boolq", "boolq.jsonl"), ("squad1.1", "squad1.1.json"), ("wikitext2", "wikitext2.txt")];

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(data("calibrate").join(name)).expect("a fixture")
}

fn samples() -> Value {
    serde_json::from_slice(&bytes("samples.json")).expect("JSON")
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().expect("a list").iter().map(|v| v.as_str().expect("a text").to_owned()).collect()
}

/// The wording, the cleaning, the marks and the cutting are golden-stick's.
#[test]
fn samples_are_those_of_golden_stick() {
    let words = Words::new(&bytes("tokenizer.json"), &Special::default()).expect("a tokenizer");
    for (name, file) in SETS {
        let expected = &samples()[name];
        let texts = DataSet::named(name).expect("a known name").read(&bytes(file), 200).expect("parses");
        let (Texts::Each(found) | Texts::Stream(found)) = &texts;
        assert_eq!(*found, strings(&expected["texts"]), "{name}");
        let length = if name == "wikitext2" { 32 } else { 4096 };
        let ids = words.samples(&texts, 200, length).expect("tokens");
        assert_eq!(serde_json::to_value(&ids).expect("JSON"), expected["ids"], "{name}");
        let ids = words.samples(&texts, 2, length).expect("tokens");
        assert_eq!(ids.len(), 2, "{name}");
    }
}

/// A yaml of one of the models in the fixtures.
fn yaml(kind: &str, arithmetic: bool) -> String {
    let (hidden, ffn, layers, bias) = if kind == "qwen2" { (32, 48, 1, "True") } else { (48, 64, 2, "False") };
    let numbers = if arithmetic { "    rms_norm_eps: 1.0e-5\n    theta: 10000.0\n" } else { "" };
    format!(
        "model:\n  arch:\n    type: LlamaForCausalLM\n  model_config:\n    hidden_size: {hidden}\n    num_layers: {layers}\n    \
         num_heads: 4\n    n_kv_heads: 2\n    intermediate_size: {ffn}\n    vocab_size: 280\n    qkv_has_bias: {bias}\n    \
         tie_word_embeddings: True\n{numbers}parallel_config:\n  vocab_emb_dp: False\n"
    )
}

/// An environment with the model as MindSpore's, in `src/fp16_<ranks>p[_qkv]`, and the tokenizer above it.
fn source(kind: &str, ranks: u32, fused: bool) -> TestEnv {
    let env = TestEnv::new();
    env.write("model.yaml", yaml(kind, true));
    let made = format!("-f pt_to_ms -p fp16 -w {ranks} -y model.yaml -dc src -is st --no-sync --qkv_concat {fused}");
    let mut words: Vec<_> = made.split_whitespace().map(str::to_owned).collect();
    words.extend(["-sc".to_owned(), data("calibrate").join(kind).display().to_string()]);
    env.run(&words).ok();
    env.write("src/tokenizer.json", bytes("tokenizer.json"));
    for (_, file) in SETS {
        env.write(file, bytes(file));
    }
    env
}

/// Every number is the peer's, but for the last bit of fp16 and what a sum's order makes of numbers near zero.
#[track_caller]
fn same_statistics(found: &Path, peer: &str) {
    let (found, peers) = (read_tensors(found), read_tensors(&data("calibrate").join(peer)));
    let names = |all: &[crate::support::Tensor]| {
        let mut names: Vec<_> = all.iter().map(|t| t.name.clone()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&found), names(&peers));
    for peer in &peers {
        let found = found.iter().find(|t| t.name == peer.name).expect("just compared");
        let (a, b) = (numbers(found), numbers(peer));
        assert_eq!(a.len(), b.len(), "{}", peer.name);
        let greatest = b.iter().fold(0f64, |m, v| m.max(v.abs()));
        for (channel, (a, b)) in a.iter().zip(&b).enumerate() {
            let allowed = b.abs() / 1024.0 + greatest * 1e-5;
            assert!((a - b).abs() <= allowed, "{} channel {channel}: {a} is not {b}", peer.name);
        }
    }
}

#[test]
fn statistics_are_those_that_transformers_gives() {
    let env = source("llama", 1, false);
    for (name, file) in SETS {
        let line = format!(
            "-f quant_weight -p w8a8c8 -w 2 -y model.yaml -sc src/fp16_1p -dc {name} -is {name}_st --no-sync -d {name} -dp {file}"
        );
        let line = if name == "wikitext2" { format!("{line} --seq-length 32") } else { line };
        env.line(&line).ok();
        same_statistics(
            &env.path(&format!("{name}/w8a8c8_2p.statistics.safetensors")),
            &format!("llama.{name}.safetensors"),
        );
    }
}

/// Biases, another width, and ranks that are fused: one model, one set of statistics, whatever it is read from.
#[test]
fn the_ranks_of_the_source_make_no_difference() {
    for kind in ["llama", "qwen2"] {
        let mut all = Vec::new();
        for (ranks, fused, more) in [(1, false, ""), (2, true, ""), (2, false, "--memory 1GiB")] {
            let env = source(kind, ranks, fused);
            let tail = if fused { "_qkv" } else { "" };
            env.line(&format!(
                "-f quant_weight -p w8a8c8 -w 1 -y model.yaml -sc src/fp16_{ranks}p{tail} -dc out -is st2 --no-sync --qkv_concat \
                 true -d boolq -dp boolq.jsonl {more}"
            ))
            .ok();
            let made = env.path("out/w8a8c8_1p_qkv.statistics.safetensors");
            same_statistics(&made, &format!("{kind}.boolq.safetensors"));
            all.push(std::fs::read(made).expect("statistics"));
        }
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{kind}");
    }
}

/// The kept statistics make the same checkpoint without the model being run.
#[test]
fn the_kept_statistics_serve_a_second_run() {
    let env = source("llama", 1, false);
    let line = "-f quant_weight -p w8a8 -w 2 -y model.yaml -sc src/fp16_1p --no-sync";
    let run = env.line(&format!("{line} -dc a -is a_st -d boolq -dp boolq.jsonl --samples 2")).ok();
    assert!(run.stderr.contains("a/w8a8_2p.statistics.safetensors"), "{}", run.stderr);
    env.line(&format!("{line} -dc b -is b_st --stats a/w8a8_2p.statistics.safetensors")).ok();
    for rank in 0..2 {
        let read = |dir: &str| {
            let name = format!("{dir}/w8a8_2p/rank_{rank}/checkpoint_{rank}.ckpt");
            read_tensors(&env.path(&name)).into_iter().map(|t| (t.name, t.bytes)).collect::<Vec<_>>()
        };
        assert_eq!(read("a"), read("b"));
    }
    // Two samples are not three.
    env.line(&format!("{line} -dc c -is c_st -d boolq -dp boolq.jsonl")).ok();
    let statistics =
        |dir: &str| std::fs::read(env.path(&format!("{dir}/w8a8_2p.statistics.safetensors"))).expect("kept");
    assert_ne!(statistics("a"), statistics("c"));
}

#[test]
fn no_thread_for_the_model_is_an_error() {
    let env = source("llama", 1, false);
    let line = "-f quant_weight -p w8a8 -w 2 -y model.yaml -sc src/fp16_1p -dc a -is s -q -d boolq -dp boolq.jsonl --samples 1";
    without_threads(&env, line).failed(2, &["another thread (`calibrate`)", "hint: "]);
    assert!(!env.path("a/w8a8_2p").exists());
}

#[test]
fn a_dry_run_runs_nothing() {
    let env = source("llama", 1, false);
    let before = env.tree();
    let run = env
        .line("-f quant_weight -p w8a8 -w 2 -y model.yaml -sc src/fp16_1p -dc out -is o -d boolq -dp boolq.jsonl --dry-run")
        .ok();
    assert!(run.stderr.contains("does not run the model"), "{}", run.stderr);
    assert_eq!(env.tree(), before);
}

#[test]
fn what_cannot_be_run_is_refused_before_anything_is_written() {
    let env = source("llama", 1, false);
    env.write("silent.yaml", yaml("llama", false));
    env.write("broken.jsonl", [&bytes("boolq.jsonl")[..], b"{\"question\": \"q\"}\n"].concat());
    env.write(
        "large.json",
        String::from_utf8(bytes("tokenizer.json")).expect("text").replace("\"</s>\":1", "\"</s>\":999"),
    );
    let scaled = yaml("llama", true).replace("    theta", "    extend_method: YARN\n    theta");
    env.write("scaled.yaml", scaled);
    let base = "-f quant_weight -p w8a8 -w 2 -sc src/fp16_1p -dc out -is o";
    let refused = |line: &str, said: &[&str]| {
        let before = env.tree();
        env.line(&format!("{base} {line}")).failed(1, said);
        assert_eq!(env.tree(), before, "something was left");
    };
    let y = "-y model.yaml";
    refused(&format!("{y} -d boolq -dp broken.jsonl"), &["broken.jsonl", "line 4", "missing field `title`"]);
    refused(&format!("{y} -d squad1.1 -dp boolq.jsonl"), &["boolq.jsonl", "line 1"]);
    refused(&format!("{y} -d boolq -dp absent.jsonl"), &["absent.jsonl", "does not exist"]);
    refused(&format!("{y} -d glue -dp boolq.jsonl"), &["glue", "boolq, squad1.1 or wikitext2"]);
    refused(&format!("{y} -d boolq"), &["-d", "-dp"]);
    refused(&format!("{y} --samples 3"), &["--samples", "-d"]);
    refused(&format!("{y} -d wikitext2 -dp wikitext2.txt"), &["fewer tokens", "512", "--seq-length"]);
    // The scores of 2048 tokens alone are more.
    env.write("long.txt", bytes("wikitext2.txt").repeat(20));
    refused(&format!("{y} -d wikitext2 -dp long.txt --seq-length 2048 --memory 32MiB"), &["memory", "--samples"]);
    refused(&format!("{y} -d boolq -dp boolq.jsonl --eos-token <end>"), &["eos_token", "<end>"]);
    refused(&format!("{y} -d boolq -dp boolq.jsonl --tokenizer large.json"), &["token", "280 rows"]);
    refused("-y silent.yaml -d boolq -dp boolq.jsonl", &["rms_norm_eps", "--norm-eps"]);
    refused("-y silent.yaml -d boolq -dp boolq.jsonl --norm-eps 1e-5", &["theta", "--rope-theta"]);
    refused("-y scaled.yaml -d boolq -dp boolq.jsonl", &["YARN", "--stats"]);
    env.write("src/config.json", r#"{"rms_norm_eps": 1e-6, "rope_theta": 10000.0}"#);
    refused(&format!("{y} -d boolq -dp boolq.jsonl"), &["0.00001", "0.000001", "--norm-eps"]);
    env.write("src/config.json", r#"{"rope_scaling": {"rope_type": "llama3"}}"#);
    refused(&format!("{y} -d boolq -dp boolq.jsonl"), &["rope_scaling", "llama3"]);

    std::fs::remove_file(env.path("src/tokenizer.json")).expect("removed");
    refused(&format!("{y} -d boolq -dp boolq.jsonl"), &["tokenizer.json", "--tokenizer"]);
    env.write("src/tokenizer.model", b"\n\x0e\n\x05<unk>");
    refused(&format!("{y} -d boolq -dp boolq.jsonl"), &["sentencepiece", "save_pretrained"]);
    refused(&format!("{y} -d boolq -dp boolq.jsonl --tokenizer src/tokenizer.model"), &["sentencepiece"]);
    // A target that is there is found before the model is run, which takes hours for a large one.
    env.write("src/tokenizer.json", bytes("tokenizer.json"));
    env.write("src/config.json", "{}");
    env.write("out/w8a8_2p/rank_0/x", "");
    refused(&format!("{y} -d boolq -dp boolq.jsonl"), &["exists already"]);
}

/// What the yaml does not say, options or the model's own config.json do.
#[test]
fn the_numbers_of_the_arithmetic_come_from_options_or_the_models_configuration() {
    let env = source("llama", 1, false);
    env.write("silent.yaml", yaml("llama", false));
    let line = "-f quant_weight -p w8a8c8 -w 1 -y silent.yaml -sc src/fp16_1p --no-sync -d boolq -dp boolq.jsonl";
    env.line(&format!("{line} -dc a -is sa --norm-eps 1e-5 --rope-theta 1e4")).ok();
    same_statistics(&env.path("a/w8a8c8_1p.statistics.safetensors"), "llama.boolq.safetensors");
    env.write("src/config.json", bytes("llama/config.json"));
    env.line(&format!("{line} -dc b -is sb")).ok();
    same_statistics(&env.path("b/w8a8c8_1p.statistics.safetensors"), "llama.boolq.safetensors");
    // transformers 5 takes the base in `rope_parameters`, whatever is left of an older file beside it.
    let mut stale: Value = serde_json::from_slice(&bytes("llama/config.json")).expect("JSON");
    stale["rope_parameters"] = serde_json::json!({"rope_theta": 1e4, "rope_type": "default"});
    stale["rope_theta"] = 100.0.into();
    env.write("src/config.json", stale.to_string());
    let said = env.line(&format!("{line} -dc d -is sd")).ok();
    assert!(said.stderr.contains("`rope_theta` is 100, that of `rope_parameters` is 10000"), "{said:#?}");
    same_statistics(&env.path("d/w8a8c8_1p.statistics.safetensors"), "llama.boolq.safetensors");
    // Another base turns the keys otherwise.
    env.line(&format!("{line} -dc c -is sc --rope-theta 100")).ok();
    let read = |dir: &str| std::fs::read(env.path(&format!("{dir}/w8a8c8_1p.statistics.safetensors"))).expect("kept");
    assert_eq!(read("a"), read("b"));
    assert_ne!(read("a"), read("c"));
}
