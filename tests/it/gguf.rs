//! GGUF as a source: what transformers and gguf-py read from the files, and what becomes of files that nobody reads.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::{Run, TestEnv, data, read_ranks, read_safetensors};

/// The models, and how many ranks their heads can be shared by.
const MODELS: [(&str, u64); 7] =
    [("llama", 2), ("float", 2), ("llama_k", 1), ("qwen2", 2), ("qwen3", 2), ("qwen3moe", 2), ("mixtral", 2)];

/// The file of a model, or the first of its parts.
fn source(model: &str) -> PathBuf {
    let one = data(&format!("gguf/{model}.gguf"));
    if one.exists() { one } else { data(&format!("gguf/{model}-00001-of-00003.gguf")) }
}

fn expected() -> BTreeMap<String, BTreeMap<String, Value>> {
    let text = std::fs::read(data("gguf/expected.json")).expect("expected.json");
    serde_json::from_slice(&text).expect("JSON")
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

/// Every parameter of a Hugging Face directory is what transformers has.
fn check(dir: &Path, expected: &BTreeMap<String, Value>, precision: &str) {
    let bytes = std::fs::read(dir.join("model.safetensors")).expect("the model");
    let found = read_safetensors(&bytes);
    let names: HashSet<&str> = found.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, expected.keys().map(String::as_str).collect(), "{}", dir.display());
    for tensor in &found {
        let wanted = &expected[&tensor.name];
        assert_eq!(Value::from(tensor.dims.clone()), wanted["shape"], "{}", tensor.name);
        assert_eq!(hex(&tensor.bytes), wanted[precision], "{} of {}", tensor.name, dir.display());
    }
}

fn convert(env: &TestEnv, source: &Path, options: &str) -> Run {
    env.line(&format!("-sc {} {options}", source.display()))
}

#[test]
fn a_hugging_face_directory_holds_what_transformers_reads() {
    let expected = expected();
    for (model, _) in MODELS {
        let env = TestEnv::new();
        for precision in ["fp32", "fp16"] {
            convert(&env, &source(model), &format!("-f ms_to_pt -p {precision} -dc out")).ok();
            check(&env.path(&format!("out/{precision}_hf")), &expected[model], precision);
        }
    }
}

#[test]
fn ranks_of_mindspore_hold_the_same_and_go_on_to_hugging_face() {
    let expected = expected();
    for (model, ranks) in MODELS {
        let env = TestEnv::new();
        let gguf = source(model);
        convert(&env, &gguf, &format!("-f pt_to_ms -p fp32 -w {ranks} -dc out -is strategy")).ok();
        let dir = env.path(&format!("out/fp32_{ranks}p"));
        assert_eq!(read_ranks(&dir, ranks, "ckpt").len() as u64, ranks);
        convert(&env, &gguf, "-f ms_to_pt -p fp32 -dc hf").ok();
        let back = format!("-f ms_to_pt -p fp32 -dc back --hf-config {}", env.path("hf/fp32_hf").display());
        convert(&env, &dir, &back).ok();
        check(&env.path("back/fp32_hf"), &expected[model], "fp32");
    }
}

#[test]
fn verify_compares_a_gguf_on_either_side() {
    let env = TestEnv::new();
    let gguf = source("llama");
    convert(&env, &gguf, "-f pt_to_ms -p fp32 -w 2 --qkv_concat true -dc out -is strategy").ok();
    let ranks = env.path("out/fp32_2p_qkv");
    for (a, b) in [(&gguf, &ranks), (&ranks, &gguf)] {
        let run = env.line(&format!("verify {} {}", a.display(), b.display())).ok();
        assert!(run.stdout.contains("the same model: 21 parameters"), "{}", run.stdout);
    }
    let two = env.line(&format!("verify {0} {0}", gguf.display()));
    two.failed(2, &["both are GGUF files", "convert one of them first"]);
    // One element of one rank is another.
    let file = ranks.join("rank_1/checkpoint_1.ckpt");
    let mut bytes = std::fs::read(&file).expect("a rank");
    let last = bytes.len() - 40;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).expect("it is written");
    for (a, b) in [(&gguf, &ranks), (&ranks, &gguf)] {
        let run = env.line(&format!("verify {} {}", a.display(), b.display()));
        assert_eq!(run.status, Some(1), "{}", run.stderr);
        assert!(run.stdout.contains("differs first at element"), "{}", run.stdout);
    }
}

#[test]
fn the_configuration_is_made_of_the_metadata_unless_another_is_given() {
    let env = TestEnv::new();
    let run = convert(&env, &source("qwen3moe"), "-f ms_to_pt -p bf16 -dc out").ok();
    assert!(run.stderr.contains("config.json is written from the metadata"), "{}", run.stderr);
    assert!(run.stderr.contains("tokenizer in the GGUF file is not converted"), "{}", run.stderr);
    let config: Value =
        serde_json::from_slice(&std::fs::read(env.path("out/bf16_hf/config.json")).expect("a config.json"))
            .expect("JSON");
    for (field, value) in [
        ("model_type", Value::from("qwen3_moe")),
        ("hidden_size", 64.into()),
        ("num_hidden_layers", 1.into()),
        ("num_attention_heads", 4.into()),
        ("num_key_value_heads", 2.into()),
        ("head_dim", 16.into()),
        ("moe_intermediate_size", 32.into()),
        ("num_experts", 4.into()),
        ("num_experts_per_tok", 2.into()),
        ("vocab_size", 40.into()),
        ("rms_norm_eps", 1e-5.into()),
        ("rope_theta", 10000.0.into()),
        ("tie_word_embeddings", false.into()),
        ("dtype", "bfloat16".into()),
    ] {
        assert_eq!(config[field], value, "{field} of {config}");
    }
    // One that is given is taken, if it is of this model.
    let other = r#"{"model_type":"qwen3_moe","hidden_size":64,"num_hidden_layers":1,"num_attention_heads":4,
        "num_key_value_heads":2,"head_dim":16,"intermediate_size":96,"moe_intermediate_size":32,"num_experts":4,
        "vocab_size":40,"sliding_window":7}"#;
    env.write("good/config.json", other);
    convert(&env, &source("qwen3moe"), "-f ms_to_pt -p bf16 -dc with --hf-config good").ok();
    let text = std::fs::read_to_string(env.path("with/bf16_hf/config.json")).expect("a config.json");
    assert!(text.contains("\"sliding_window\":7"), "{text}");
    env.write("bad/config.json", other.replace("\"num_experts\":4", "\"num_experts\":8"));
    convert(&env, &source("qwen3moe"), "-f ms_to_pt -p bf16 -dc bad-out --hf-config bad")
        .failed(1, &["experts", "8", "4"]);
}

#[test]
fn inspect_and_doctor_say_what_is_there() {
    let env = TestEnv::new();
    let listed = env.line(&format!("inspect {}", source("llama").display())).ok();
    for word in ["GGUF", "blk.0.attn_q.weight", "Q4_0", "[40, 64]"] {
        assert!(listed.stdout.contains(word), "{word}: {}", listed.stdout);
    }
    env.line(&format!("doctor {}", source("qwen2").display())).ok();
    let wrong = env.line(&format!("doctor {}", data("gguf/q2_k.gguf").display()));
    assert_eq!(wrong.status, Some(1), "{}", wrong.stdout);
    assert!(wrong.stdout.contains("Q2_K") && wrong.stdout.contains("llama-quantize"), "{}", wrong.stdout);
}

#[test]
fn what_is_not_read_or_not_there_is_named() {
    let env = TestEnv::new();
    let unread = "-f pt_to_ms -p fp16 -w 2 -dc out -is strategy";
    convert(&env, &data("gguf/q2_k.gguf"), unread).failed(1, &["`output.weight` is Q2_K", "1 F32, 1 Q2_K", "Q8_0"]);
    // A directory with several models, and one that lacks a part.
    convert(&env, &data("gguf"), unread).failed(1, &["llama_k.gguf", "name one of the files"]);
    for part in [1, 3] {
        let name = format!("qwen2-{part:05}-of-00003.gguf");
        env.write(&format!("parts/{name}"), std::fs::read(data(&format!("gguf/{name}"))).expect("a part"));
    }
    convert(&env, &env.path("parts"), unread).failed(1, &["qwen2-00002-of-00003.gguf", "missing"]);
    // Functions that read rank files say which ones read it.
    let ranks = "-f distributed_weight_transfer -p fp16 -w 2 -dc out -is strategy";
    convert(&env, &source("llama"), ranks).failed(1, &["is a GGUF checkpoint", "-f pt_to_ms", "-f ms_to_pt"]);
    // Cut short, within the data and within the list.
    let whole = std::fs::read(source("llama")).expect("a file");
    for len in [whole.len() - 1, whole.len() / 2, 5000, 100, 20] {
        env.write("cut.gguf", &whole[..len]);
        convert(&env, &env.path("cut.gguf"), unread).failed(1, &["cut.gguf", "cut short", "copy or save it again"]);
    }
    env.write("other.gguf", "not one");
    convert(&env, &env.path("other.gguf"), unread).failed(1, &["other.gguf"]);
}

#[test]
fn all_parts_are_read_whichever_is_named() {
    let env = TestEnv::new();
    let expected = expected();
    let last = data("gguf/qwen2-00003-of-00003.gguf");
    convert(&env, &last, "-f ms_to_pt -p fp32 -dc out").ok();
    check(&env.path("out/fp32_hf"), &expected["qwen2"], "fp32");
}
