//! Models of no known family: one rank to one rank copies every tensor whole, whatever it is called, and a strategy alone says
//! how the ranks of a training run are put together.

use std::fmt::Write;

use crate::support::{Llama, Sharding, Tensor, TestEnv, read_tensors, write_ckpt, write_safetensors};

const COPY: &str = "-f distributed_weight_transfer -sc src -dc out -is st --no-sync";

fn tensor(name: &str, dtype: &str, dims: &[u64]) -> Tensor {
    let size = match dtype {
        "Float32" | "Int32" => 4,
        _ => 2,
    };
    let count = dims.iter().product::<u64>();
    // Small whole numbers, which every dtype holds: the first bytes of the name make each tensor another.
    let seed = name.bytes().fold(7u64, |sum, c| (sum * 31 + u64::from(c)) % 97);
    let value = |at: u64| u16::try_from((at * 13 + seed) % 61).expect("small");
    let bytes = (0..count).flat_map(|at| match (dtype, size) {
        ("Float32", _) => f32::from(value(at)).to_le_bytes().to_vec(),
        ("Int32", _) => i32::from(value(at)).to_le_bytes().to_vec(),
        // fp16 of whole numbers from 1 to 2: the exponent of 1, and the number as the first bits of the fraction.
        _ => (0x3c00 | value(at) << 4).to_le_bytes().to_vec(),
    });
    Tensor { name: name.to_owned(), dtype: dtype.to_owned(), dims: dims.to_vec(), bytes: bytes.collect() }
}

/// An encoder: no head, no norm at the end, gamma and beta, other names for everything.
fn encoder(layers: u64) -> Vec<Tensor> {
    let mut tensors = vec![
        tensor("bert.embeddings.word_embeddings.embedding_table", "Float16", &[12, 8]),
        tensor("bert.embeddings.norm.gamma", "Float32", &[8]),
    ];
    for layer in 0..layers {
        let at = |name: &str| format!("bert.encoder.layer.{layer}.{name}");
        tensors.push(tensor(&at("attention.self.query.weight"), "Float16", &[8, 8]));
        tensors.push(tensor(&at("attention.self.query.bias"), "Float16", &[8]));
        tensors.push(tensor(&at("intermediate.dense.weight"), "Float16", &[20, 8]));
        tensors.push(tensor(&at("output.norm.beta"), "Float32", &[8]));
    }
    tensors.push(tensor("bert.pooler.dense.weight", "Float16", &[8, 8]));
    tensors.push(tensor("cls.seen", "Int32", &[1]));
    tensors
}

/// A decoder that shares names with llama, has others, and has not the same in each layer.
fn decoder() -> Vec<Tensor> {
    vec![
        tensor("model.tok_embeddings.embedding_weight", "Float16", &[12, 8]),
        tensor("model.layers.0.attention.wq.weight", "Float16", &[24, 8]),
        tensor("model.layers.0.attention.latent.weight", "Float16", &[4, 8]),
        tensor("model.layers.0.feed_forward.w1.weight", "Float16", &[20, 8]),
        tensor("model.layers.1.attention.wq.weight", "Float16", &[20, 8]),
        tensor("model.layers.1.attention.w_qkv.weight", "Float16", &[7, 8]),
        tensor("model.layers.1.router.weight", "Float16", &[5, 8]),
        tensor("model.layers.4.attention_norm.weight", "Float16", &[8]),
    ]
}

fn source(tensors: &[Tensor]) -> TestEnv {
    let env = TestEnv::new();
    env.write("src/rank_0/any.ckpt", write_ckpt(tensors));
    env
}

#[test]
fn every_tensor_of_an_unknown_model_is_copied_whole() {
    for tensors in [encoder(3), decoder()] {
        let env = source(&tensors);
        let run = env.line(&format!("{COPY} -p keep -w 1")).ok();
        assert!(!run.stderr.contains("order of fused rows"), "{run:#?}");
        assert_eq!(read_tensors(&env.path("out/keep_1p/rank_0/checkpoint_0.ckpt")), tensors);
        env.line("verify src out/keep_1p").ok();
        env.line("inspect out/keep_1p").ok();
        // And on: what was made is a source like any other, in another format.
        let line = "-f distributed_weight_transfer -sc out/keep_1p -dc again -is st2 --no-sync -p keep -w 1 --format safetensors";
        env.line(line).ok();
        env.line("verify src again/keep_1p").ok();
    }
}

#[test]
fn an_unknown_model_is_cast_and_what_is_no_parameter_is_not() {
    let env = source(&encoder(2));
    env.line(&format!("{COPY} -p fp32 -w 1 --ignore bert.pooler.*")).ok();
    let made = read_tensors(&env.path("out/fp32_1p/rank_0/checkpoint_0.ckpt"));
    assert_eq!(made.len(), encoder(2).len() - 1);
    for tensor in &made {
        let wanted = if tensor.name == "cls.seen" { "Int32" } else { "Float32" };
        assert_eq!(tensor.dtype, wanted, "{}", tensor.name);
        assert_ne!(tensor.name, "bert.pooler.dense.weight");
    }
}

#[test]
fn several_files_of_one_rank_are_one_model() {
    let tensors = encoder(2);
    let env = TestEnv::new();
    let mut map = String::new();
    for (number, part) in (1..).zip(tensors.chunks(5)) {
        let file = format!("model-{number:05}-of-00003.safetensors");
        env.write(&format!("src/{file}"), write_safetensors(part));
        for tensor in part {
            let _ = write!(map, "{}\"{}\": \"{file}\"", if map.is_empty() { "" } else { "," }, tensor.name);
        }
    }
    env.write("src/param_name_map.json", format!("{{{map}}}"));
    env.line(&format!("{COPY} -p keep -w 1")).ok();
    let mut made = read_tensors(&env.path("out/keep_1p/rank_0/checkpoint_0.safetensors"));
    let mut wanted = tensors;
    made.sort_by(|a, b| a.name.cmp(&b.name));
    wanted.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(made, wanted);
}

/// The rows, or the columns, or nothing of each tensor are cut over two ranks; nobody knows the names.
#[test]
fn a_strategy_alone_puts_the_ranks_of_an_unknown_model_together() {
    let full: Vec<Tensor> = encoder(2).into_iter().filter(|t| t.name != "cls.seen").collect();
    let axis = |t: &Tensor| match t.dims.as_slice() {
        [rows, _] if t.name.ends_with("query.weight") && rows % 2 == 0 => Some(0),
        [_, columns] if columns % 2 == 0 => Some(1),
        _ => None,
    };
    let env = TestEnv::new();
    for rank in 0..2u64 {
        let cut = |t: &Tensor| {
            let (mut dims, size) = (t.dims.clone(), t.bytes.len() as u64 / t.dims.iter().product::<u64>());
            let Some(axis) = axis(t) else { return t.clone() };
            dims[axis] /= 2;
            let columns = t.dims[1];
            let mut bytes = Vec::new();
            for row in 0..dims[0] {
                for column in 0..dims[1] {
                    let (row, column) =
                        if axis == 0 { (row + rank * dims[0], column) } else { (row, column + rank * dims[1]) };
                    let at = usize::try_from((row * columns + column) * size).expect("small");
                    bytes.extend(&t.bytes[at..at + usize::try_from(size).expect("small")]);
                }
            }
            Tensor { dims, bytes, ..t.clone() }
        };
        let tensors: Vec<Tensor> = full.iter().map(cut).collect();
        env.write(&format!("src/rank_{rank}/any.ckpt"), write_ckpt(&tensors));
    }
    let items = full.iter().map(|t| {
        let map: Vec<i64> = (0..t.dims.len()).map(|at| if axis(t) == Some(at) { 0 } else { -1 }).collect();
        let item = serde_json::json!({
            "dev_matrix": [2], "tensor_map": map, "opt_weight_shard_step": 0, "opt_weight_shard_size": 0, "field": 0
        });
        (t.name.clone(), item)
    });
    let items: serde_json::Map<String, serde_json::Value> = items.collect();
    env.write("ss.json", serde_json::json!({"parallel_layout_item": items}).to_string());
    env.line(&format!("{COPY} -p keep -w 1 -ss ss.json")).ok();
    assert_eq!(read_tensors(&env.path("out/keep_1p/rank_0/checkpoint_0.ckpt")), full);
    env.line("verify src out/keep_1p --src_strategy ss.json").ok();
}

/// What a family demands is asked of its own as before: a file that is cut, a head that is missing.
#[test]
fn a_file_of_a_known_family_that_is_cut_is_refused() {
    let whole = Sharding { ranks: 1, fusion: None, vocabulary_whole: false };
    let env = TestEnv::new();
    Llama::small().write(&env.path("src"), whole, "ckpt");
    let path = env.path("src/rank_0/checkpoint_0.ckpt");
    let tensors = read_tensors(&path);
    for kept in [tensors.len() - 1, tensors.len() / 2, 4] {
        std::fs::write(&path, write_ckpt(&tensors[..kept])).expect("written");
        let before = env.tree();
        let run = env.line(&format!("{COPY} -p keep -w 1"));
        run.failed(1, &["error: ", "hint: "]);
        assert_eq!(env.tree(), before, "{kept}: {run:#?}");
    }
}

/// An order of rows, or a model, can be requested only where there is something to lay out by it.
#[test]
fn an_unknown_model_is_not_fused() {
    let env = source(&decoder());
    env.line(&format!("{COPY} -p keep -w 1 -y llama2_7b")).failed(1, &["error: "]);
    env.line(&format!("{COPY} -p keep -w 2")).failed(1, &["error: ", "hint: "]);
    env.line(&format!("{COPY} -p w8a16 -w 1")).failed(1, &["the source is not quantised"]);
}
