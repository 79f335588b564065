//! `pt_to_ms` and `ms_to_pt`: every checkpoint that PyTorch and transformers wrote, against what they read from it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::{Run, Tensor, TestEnv, data, fused_of, read_ranks, read_safetensors};

/// The parameters of `expected.json`: dtype, dims and SHA-256 of the contiguous bytes, as torch has them.
fn expected(case: &str) -> BTreeMap<String, Value> {
    let text = std::fs::read(data(&format!("torch/models/{case}/expected.json"))).expect("expected.json");
    serde_json::from_slice(&text).expect("JSON")
}

/// mindformers' name of a Hugging Face parameter, after the table of its own converter.
pub(crate) fn ours(name: &str) -> String {
    let table = [
        ("model.embed_tokens.weight", "model.tok_embeddings.embedding_weight"),
        ("model.norm.weight", "model.norm_out.weight"),
        (".self_attn.q_proj.", ".attention.wq."),
        (".self_attn.k_proj.", ".attention.wk."),
        (".self_attn.v_proj.", ".attention.wv."),
        (".self_attn.o_proj.", ".attention.wo."),
        (".mlp.gate_proj.", ".feed_forward.w1."),
        (".mlp.up_proj.", ".feed_forward.w3."),
        (".mlp.down_proj.", ".feed_forward.w2."),
        (".input_layernorm.", ".attention_norm."),
        (".post_attention_layernorm.", ".ffn_norm."),
    ];
    table.iter().fold(name.to_owned(), |name, (theirs, ours)| name.replace(theirs, ours))
}

/// The names that Hugging Face gives to the parameters of a llama of one layer.
const NAMES: [&str; 12] = [
    "model.embed_tokens.weight",
    "model.norm.weight",
    "model.layers.0.input_layernorm.weight",
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.0.self_attn.k_proj.weight",
    "model.layers.0.self_attn.v_proj.weight",
    "model.layers.0.self_attn.o_proj.weight",
    "model.layers.0.mlp.gate_proj.weight",
    "model.layers.0.mlp.up_proj.weight",
    "model.layers.0.mlp.down_proj.weight",
    "model.layers.0.post_attention_layernorm.weight",
    "lm_head.weight",
];

/// Hugging Face's name of a parameter of mindformers.
pub(crate) fn theirs(name: &str) -> &'static str {
    NAMES.into_iter().find(|theirs| ours(theirs) == name).expect("a llama of one layer without biases")
}

/// The configuration of [`Llama::small`](crate::support::Llama::small) as Hugging Face has it. `more`: further fields, each after
/// a comma.
pub(crate) fn small_config(more: &str) -> String {
    format!(
        "{{\"model_type\":\"llama\",\"hidden_size\":32,\"num_hidden_layers\":1,\"num_attention_heads\":16,\
         \"num_key_value_heads\":8,\"intermediate_size\":48,\"vocab_size\":24{more}}}"
    )
}

/// The axis over which ranks share a parameter.
fn axis(name: &str) -> Option<usize> {
    if name.contains("norm") { None } else { Some(usize::from(name.contains(".wo.") || name.contains(".w2."))) }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

fn size(dtype: &str) -> usize {
    if dtype.ends_with("32") { 4 } else { 2 }
}

/// One parameter put together from its ranks, row by row.
fn join(parts: &[&Tensor], axis: Option<usize>) -> Tensor {
    let first = parts[0];
    let Some(axis) = axis else {
        assert!(parts.iter().all(|part| *part == first), "{} differs between ranks", first.name);
        return first.clone();
    };
    let mut dims = first.dims.clone();
    dims[axis] *= parts.len() as u64;
    let bytes = if axis == 0 {
        parts.iter().flat_map(|part| part.bytes.clone()).collect()
    } else {
        let width = usize::try_from(first.dims[1]).expect("small") * size(&first.dtype);
        let row = |row: usize| parts.iter().flat_map(move |part| part.bytes[row * width..][..width].to_vec());
        (0..usize::try_from(first.dims[0]).expect("small")).flat_map(row).collect()
    };
    Tensor { dims, bytes, ..first.clone() }
}

/// A fused parameter's parts, by the rows that each has in one rank.
fn unfuse(tensor: &Tensor, rows: &[usize], names: &[String]) -> Vec<Tensor> {
    let row_bytes = tensor.bytes.len() / rows.iter().sum::<usize>();
    let mut at = 0;
    let part = |(rows, name): (&usize, &String)| {
        let bytes = tensor.bytes[at..at + rows * row_bytes].to_vec();
        at += rows * row_bytes;
        let mut dims = tensor.dims.clone();
        dims[0] = *rows as u64;
        Tensor { name: name.clone(), dims, bytes, ..tensor.clone() }
    };
    rows.iter().zip(names).map(part).collect()
}

/// All parameters of a target, unfused and whole.
fn logical(dir: &Path, ranks: u64, shapes: &BTreeMap<String, Vec<u64>>) -> BTreeMap<String, Tensor> {
    let mut by_name: BTreeMap<String, Vec<Tensor>> = BTreeMap::new();
    for rank in read_ranks(dir, ranks, "ckpt") {
        for (name, tensor) in rank {
            let parts = if name.contains("w_qkv") || name.contains("w_gate_hidden") {
                let first = name.replace("w_qkv", "wq").replace("w_gate_hidden", "w1");
                let (_, names) = fused_of(&first).expect("a fused name");
                let rows = |name: &String| usize::try_from(shapes[name][0] / ranks).expect("small");
                unfuse(&tensor, &names.iter().map(rows).collect::<Vec<_>>(), &names)
            } else {
                vec![tensor]
            };
            for part in parts {
                by_name.entry(part.name.clone()).or_default().push(part);
            }
        }
    }
    by_name
        .into_iter()
        .map(|(name, parts)| (name.clone(), join(&parts.iter().collect::<Vec<_>>(), axis(&name))))
        .collect()
}

fn source(case: &str) -> PathBuf {
    data(&format!("torch/models/{case}"))
}

/// Converts a case. Returns the target.
fn convert(env: &TestEnv, source: &Path, out: &str, more: &[&str]) -> PathBuf {
    let mut command = env.command(&["-f", "pt_to_ms", "--no-sync", "-dc", out, "-is", &format!("{out}.st")]);
    command.arg("-sc").arg(source).args(more);
    Run::of(&mut command).ok();
    let made: Vec<PathBuf> =
        std::fs::read_dir(env.path(out)).expect("a target").map(|entry| entry.expect("an entry").path()).collect();
    assert_eq!(made.len(), 1, "{made:?}");
    made[0].clone()
}

/// The parameters of a target are those that torch read, names, dims and bytes.
fn check(dir: &Path, ranks: u64, expected: &BTreeMap<String, Value>, left_out: &[&str]) {
    let wanted: BTreeMap<String, &Value> =
        expected.iter().filter(|(name, _)| !left_out.contains(&name.as_str())).map(|(n, v)| (ours(n), v)).collect();
    let dims = |value: &Value| serde_json::from_value::<Vec<u64>>(value["shape"].clone()).expect("dims");
    let shapes = wanted.iter().map(|(name, value)| (name.clone(), dims(value))).collect();
    let found = logical(dir, ranks, &shapes);
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (name, value) in wanted {
        assert_eq!(found[&name].dims, dims(value), "{name}");
        assert_eq!(hex(&found[&name].bytes), value["sha256"].as_str().expect("a hash"), "{name}");
    }
}

const HUGGING_FACE: [&str; 8] = [
    "hf_llama_fp16_bin_2shards",
    "hf_llama_fp16_safetensors_2shards",
    "hf_llama_fp32_bin",
    "hf_llama_fp32_legacy_bin",
    "hf_llama_gqa_bf16_bin",
    "hf_llama_gqa_bf16_safetensors",
    "hf_qwen2_bf16_safetensors",
    "meta_llama_bf16_as_hf",
];

#[test]
fn every_hugging_face_checkpoint_fused_and_unfused_over_ranks() {
    for case in HUGGING_FACE {
        for (ranks, fused) in [(1, "false"), (2, "false"), (2, "true")] {
            let env = TestEnv::new();
            let count = ranks.to_string();
            let dir = convert(&env, &source(case), "out", &["-p", "keep", "-w", &count, "--qkv_concat", fused]);
            check(&dir, ranks, &expected(case), &[]);
        }
    }
}

/// Meta's q and k rows are in another order; its release in two shards is the same model as in one, and as its twin that
/// transformers' own converter wrote.
#[test]
fn meta_shards_equal_their_hugging_face_twin() {
    for (case, order) in [
        ("meta_llama_bf16_1shard", "rank-concat"),
        ("meta_llama_bf16_2shards", "rank-concat"),
        ("meta_llama_bf16_2shards", "grouped"),
    ] {
        for fused in ["false", "true"] {
            let env = TestEnv::new();
            let options = ["-p", "keep", "-w", "2", "--qkv_concat", fused, "--dst-fusion", order];
            let meta = convert(&env, &source(case), "meta", &options);
            let twin = convert(&env, &source("meta_llama_bf16_as_hf"), "twin", &options);
            let (meta, twin) = (read_ranks(&meta, 2, "ckpt"), read_ranks(&twin, 2, "ckpt"));
            assert_eq!(meta, twin, "{case} {order} fused {fused}");
            let sources = [source(case), source("meta_llama_bf16_as_hf"), env.path("meta/keep_2p")];
            for (a, b) in [(0, 1), (1, 0), (0, 2), (2, 0)] {
                if fused == "false" {
                    let mut command = env.command(&["verify"]);
                    Run::of(command.arg(&sources[a]).arg(&sources[b])).ok();
                }
            }
        }
    }
}

/// mindformers' network shares a tied `lm_head` as transformers' does, unless its yaml says not; transformers leaves it out of
/// the files that it writes itself.
#[test]
fn a_tied_head_follows_the_target() {
    let case = "hf_llama_tied_fp16_bin";
    let env = TestEnv::new();
    let tied = convert(&env, &source(case), "tied", &["-p", "keep", "-w", "2", "--qkv_concat", "false"]);
    check(&tied, 2, &expected(case), &["lm_head.weight"]);
    let yaml = env.write(
        "untied.yaml",
        "model:\n  arch:\n    type: LlamaForCausalLM\n  model_config:\n    hidden_size: 64\n    num_layers: 2\n    \
         num_heads: 4\n    intermediate_size: 160\n    vocab_size: 96\n    tie_word_embeddings: False\nparallel_config:\n  vocab_emb_dp: False\n",
    );
    let yaml = yaml.to_str().expect("UTF-8");
    // torch.save wrote it, so it is there.
    let untied = convert(&env, &source(case), "untied", &["-p", "keep", "-w", "2", "-y", yaml]);
    check(&untied, 2, &expected(case), &[]);
    // A file of transformers' has none.
    let mut command = env.command(&["-f", "ms_to_pt", "-p", "keep", "--no-sync", "-dc", "hf"]);
    Run::of(command.arg("-sc").arg(&tied)).ok();
    let said =
        env.line(&format!("-f pt_to_ms -p keep -w 2 -y {yaml} -sc hf/keep_hf -dc again -is again.st --no-sync")).ok();
    assert!(said.stderr.contains("lm_head.weight is written from the embedding"), "{said:#?}");
    check(&env.path("again/keep_2p"), 2, &expected(case), &[]);
}

/// There and back: what transformers wrote, tensor by tensor.
#[test]
fn back_to_hugging_face() {
    for case in HUGGING_FACE.into_iter().chain(["hf_llama_tied_fp16_bin"]) {
        let env = TestEnv::new();
        let ranks = convert(&env, &source(case), "ranks", &["-p", "keep", "-w", "2", "--qkv_concat", "true"]);
        let mut command = env.command(&["-f", "ms_to_pt", "-p", "keep", "--no-sync", "-dc", "back"]);
        Run::of(command.arg("-sc").arg(&ranks)).ok();
        let dir = env.path("back/keep_hf");
        assert!(dir.join("config.json").is_file(), "config.json is carried along");
        let found = read_safetensors(&std::fs::read(dir.join("model.safetensors")).expect("one file"));
        let mut wanted = expected(case);
        if case.contains("tied") {
            wanted.remove("lm_head.weight");
        }
        assert_eq!(found.len(), wanted.len(), "{case}");
        for tensor in found {
            assert_eq!(hex(&tensor.bytes), wanted[&tensor.name]["sha256"].as_str().expect("a hash"), "{}", tensor.name);
        }
    }
}

/// What the one function reads the other names.
#[test]
fn the_other_functions_source_is_named() {
    let env = TestEnv::new();
    for case in ["hf_llama_fp16_safetensors_2shards", "hf_llama_fp16_bin_2shards", "meta_llama_bf16_2shards"] {
        let mut command = env.command(&["-f", "distributed_weight_transfer", "-p", "fp16", "-w", "2", "-dc", "out"]);
        Run::of(command.arg("-sc").arg(source(case))).failed(1, &["PyTorch", "hint: use -f pt_to_ms"]);
    }
    let mut command = env.command(&["-f", "pt_to_ms", "-p", "fp16", "-w", "2", "-dc", "out"]);
    Run::of(command.arg("-sc").arg(data("reference/4p_qkv_to_8p/src"))).failed(1, &["mindformers", "hint: use -f"]);
    assert!(env.tree().is_empty());
}

/// Nothing is made, and nothing of what the file would run is run.
#[test]
fn hostile_files_are_refused_by_name() {
    let cases = [
        ("os_system.bin", "system"),
        ("raw_pickle_os_system.bin", "system"),
        ("deflated.bin", "compress"),
        ("storage_missing.bin", "storage `0` of `model.embed_tokens.weight`"),
        ("truncated.bin", "cut"),
    ];
    for (file, said) in cases {
        let env = TestEnv::new();
        let bytes = std::fs::read(data(&format!("torch/models/hostile/{file}"))).expect("a fixture");
        env.write("model/pytorch_model.bin", bytes);
        let before = env.tree();
        let run = env.line("-f pt_to_ms -p fp16 -w 2 -sc model -dc out -is st");
        run.failed(1, &["pytorch_model.bin", said]);
        assert_eq!(env.tree(), before, "{file}");
    }
}
