//! Models of every family, made by transformers (`tests/data/families`), to rank files, to other counts of ranks and back, against
//! naive slices of what transformers wrote.

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::{Tensor, TestEnv, data, read_ranks, read_tensors, write_safetensors};

/// A model's tensors by name.
type Tensors = BTreeMap<String, Tensor>;

/// The models, and the tensor of rank files whose name no other family has.
const MODELS: [(&str, &str); 11] = [
    ("glm4", "decoder.layers.0.post_self_attn_layernorm.weight"),
    ("glm4-no-bias", "decoder.layers.0.post_mlp_layernorm.weight"),
    ("llama", "model.layers.0.attention.wq.weight"),
    ("mistral", "model.layers.0.attention.wq.weight"),
    ("mixtral", "model.layers.0.feed_forward.ffn.w1.weight"),
    ("mixtral-stacked", "model.layers.0.feed_forward.ffn.w1.weight"),
    ("qwen2", "model.layers.0.attention.wq.bias"),
    ("qwen3", "decoder.layers.0.self_attention.q_layernorm.weight"),
    ("qwen3-tied", "decoder.layers.0.self_attention.q_layernorm.weight"),
    ("qwen3_moe", "decoder.layers.0.mlp.experts.3.gating.weight"),
    ("qwen3_moe-stacked", "decoder.layers.0.mlp.experts.3.gating.weight"),
];

fn model(name: &str) -> Tensors {
    by_name(read_tensors(&data("families").join(name).join("model.safetensors")))
}

/// A name, a source, what is done to its tensors, and what the error says.
type Case<'a> = (&'a str, &'a str, &'a dyn Fn(&mut Tensors), &'a [&'a str]);

fn by_name(tensors: Vec<Tensor>) -> Tensors {
    tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect()
}

/// The names and bits that a directory of Hugging Face's is expected to have after the way back: the published ones, with each
/// expert by itself and without a head that is the embedding.
fn published(name: &str) -> Tensors {
    let mut all = model(name.strip_suffix("-stacked").unwrap_or(name));
    if name.ends_with("-stacked") {
        all = model(name);
        let stacked: Vec<String> = all.keys().filter(|name| name.contains(".experts.")).cloned().collect();
        for key in stacked {
            let tensor = all.remove(&key).expect("listed before");
            let (layer, last) = key.rsplit_once(".mlp.experts.").expect("of experts");
            let mixtral = name.starts_with("mixtral");
            let ends = match (last, mixtral) {
                ("gate_up_proj", true) => vec!["w1", "w3"],
                ("gate_up_proj", false) => vec!["gate_proj", "up_proj"],
                (_, true) => vec!["w2"],
                (_, false) => vec!["down_proj"],
            };
            let block = if mixtral { "block_sparse_moe" } else { "mlp" };
            let rows = tensor.dims[1] / ends.len() as u64;
            for expert in 0..tensor.dims[0] {
                for (at, end) in (0..).zip(&ends) {
                    let one = slice(&slice(&tensor, 0, expert, 1), 1, at * rows, rows);
                    let name = format!("{layer}.{block}.experts.{expert}.{end}.weight");
                    all.insert(name.clone(), Tensor { name, dims: one.dims[1..].to_vec(), ..one });
                }
            }
        }
        if name.starts_with("mixtral") {
            for layer in 0..2 {
                let mut gate = all.remove(&format!("model.layers.{layer}.mlp.gate.weight")).expect("a router");
                gate.name = format!("model.layers.{layer}.block_sparse_moe.gate.weight");
                all.insert(gate.name.clone(), gate);
            }
        }
    }
    all
}

/// Indices `first..first + len` of a dimension.
fn slice(tensor: &Tensor, dim: usize, first: u64, len: u64) -> Tensor {
    let size: u64 = tensor.dims.iter().product();
    let width = tensor.bytes.len() / usize::try_from(size).expect("small");
    let inner: u64 = tensor.dims[dim + 1..].iter().product();
    let of = |element: u64| element / inner % tensor.dims[dim];
    let kept = (0..size).filter(|&element| (first..first + len).contains(&of(element)));
    let bytes = kept.flat_map(|element| {
        let at = usize::try_from(element).expect("small") * width;
        tensor.bytes[at..at + width].iter().copied()
    });
    let mut dims = tensor.dims.clone();
    dims[dim] = len;
    Tensor { dims, bytes: bytes.collect(), ..tensor.clone() }
}

/// A rank's share of a dimension.
fn share(tensor: &Tensor, dim: usize, rank: u64, ranks: u64) -> Tensor {
    let len = tensor.dims[dim] / ranks;
    slice(tensor, dim, rank * len, len)
}

/// One below the other: dimension 0.
fn below(tensors: &[Tensor]) -> Tensor {
    let mut joined = tensors[0].clone();
    joined.dims[0] = tensors.iter().map(|tensor| tensor.dims[0]).sum();
    joined.bytes = tensors.iter().flat_map(|tensor| tensor.bytes.iter().copied()).collect();
    joined
}

/// Side by side: dimension 1 of matrices.
fn beside(tensors: &[Tensor]) -> Tensor {
    transposed(&below(&tensors.iter().map(transposed).collect::<Vec<_>>()))
}

fn transposed(tensor: &Tensor) -> Tensor {
    let columns: Vec<Tensor> = (0..tensor.dims[1]).map(|column| slice(tensor, 1, column, 1)).collect();
    let bytes = columns.iter().flat_map(|column| column.bytes.iter().copied()).collect();
    Tensor { dims: vec![tensor.dims[1], tensor.dims[0]], bytes, ..tensor.clone() }
}

#[track_caller]
fn same(what: &str, found: &Tensors, expected: &Tensors) {
    let names = |tensors: &Tensors| tensors.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{what}");
    for (name, tensor) in expected {
        assert!(found[name] == *tensor, "{what}: {name} differs ({:?}, {:?})", found[name].dims, tensor.dims);
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, to.join(path.file_name().expect("a file"))).expect("a copy");
    }
}

/// The name of the only directory in another.
fn only(dir: &Path) -> String {
    let names: Vec<_> =
        std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(names.len(), 1, "{names:?} in {}", dir.display());
    names[0].to_string_lossy().into_owned()
}

fn to_ranks(env: &TestEnv, source: &str, ranks: u64, format: &str, fused: bool, to: &str) -> String {
    env.line(&format!(
        "-f pt_to_ms -p keep -w {ranks} --qkv_concat {fused} --format {format} -sc {source} -dc {to} -is {to}-strategy --no-sync"
    ))
    .ok();
    format!("{to}/{}", only(&env.path(to)))
}

#[test]
fn every_family_goes_to_ranks_and_back_byte_for_byte() {
    for (name, telling) in MODELS {
        let env = TestEnv::new();
        copy(&data("families").join(name), &env.path("hf"));
        let expected = published(name);
        if name == "qwen3-tied" {
            assert!(!expected.contains_key("lm_head.weight"));
        }
        for (ranks, format, fused) in
            [(1, "ckpt", false), (2, "safetensors", false), (2, "ckpt", true), (1, "ckpt", true)]
        {
            let what = format!("{name}, {ranks} ranks, {format}, fused: {fused}");
            let to = format!("ms-{ranks}-{fused}-{format}");
            let made = to_ranks(&env, "hf", ranks, format, fused, &to);
            let held = read_ranks(&env.path(&made), ranks, format);
            if !fused {
                assert!(held.iter().all(|rank| rank.contains_key(telling)), "{what}: {:?}", held[0].keys());
            }
            let mcore = held[0].keys().filter(|name| name.starts_with("decoder.")).count();
            assert!(
                mcore == 0 || !held[0].keys().any(|name| name.starts_with("model.")),
                "{what}: the names of two dialects: {:?}",
                held[0].keys()
            );
            let back = format!("back-{to}");
            env.line(&format!("-f ms_to_pt -p keep -sc {made} -dc {back} --no-sync")).ok();
            let back = env.path(&back).join("keep_hf");
            let found = by_name(read_tensors(&back.join("model.safetensors")));
            same(&what, &found, &expected);
            let config = |dir: &Path| -> serde_json::Value {
                serde_json::from_slice(&std::fs::read(dir.join("config.json")).unwrap()).unwrap()
            };
            assert_eq!(config(&back), config(&env.path("hf")), "{what}");
        }
    }
}

#[test]
fn ranks_of_every_family_become_more_and_fewer() {
    for (name, _) in MODELS {
        for fused in [false, true] {
            let env = TestEnv::new();
            copy(&data("families").join(name), &env.path("hf"));
            let one = to_ranks(&env, "hf", 1, "ckpt", fused, "one");
            let two = to_ranks(&env, "hf", 2, "ckpt", fused, "two");
            let convert = |ranks: u64, from: &str, to: &str, more: &str| {
                env.line(&format!(
                    "-f distributed_weight_transfer -p keep -w {ranks} -sc {from} -dc {to} -is {to}-strategy --no-sync {more}"
                ))
                .ok();
                format!("{to}/{}", only(&env.path(to)))
            };
            let widened = convert(2, &one, "widened", "-y hf/config.json");
            let narrowed = convert(1, &two, "narrowed", "-y hf/config.json");
            // The config.json beside the ranks says the same.
            let beside = convert(1, &two, "beside", "");
            let what = format!("{name}, fused: {fused}");
            let read = |dir: &str, ranks| read_ranks(&env.path(dir), ranks, "ckpt");
            for (found, expected) in read(&widened, 2).iter().zip(&read(&two, 2)) {
                same(&format!("{what}, 1 -> 2"), found, expected);
            }
            same(&format!("{what}, 2 -> 1"), &read(&narrowed, 1)[0], &read(&one, 1)[0]);
            same(&format!("{what}, 2 -> 1 by the config.json beside"), &read(&beside, 1)[0], &read(&one, 1)[0]);
        }
    }
}

/// What each of two ranks holds, by the definitions.
#[test]
fn ranks_hold_the_slices_that_their_network_computes_with() {
    let env = TestEnv::new();
    let ranks = |name: &str, fused: bool| {
        copy(&data("families").join(name), &env.path(name));
        let made = to_ranks(&env, name, 2, "safetensors", fused, &format!("{name}-{fused}"));
        (0..).zip(read_ranks(&env.path(&made), 2, "safetensors")).collect::<Vec<(u64, Tensors)>>()
    };
    let check = |held: &Tensors, name: &str, expected: Tensor| {
        let found = held.get(name).unwrap_or_else(|| panic!("{name} of {:?}", held.keys()));
        assert!((&found.dims, &found.bytes) == (&expected.dims, &expected.bytes), "{name}: {:?}", found.dims);
    };
    let qwen3 = model("qwen3");
    let layer = |model: &Tensors, name: &str| model[&format!("model.layers.1.{name}.weight")].clone();
    for (rank, held) in ranks("qwen3", false) {
        let at = |name: &str| format!("decoder.layers.1.{name}.weight");
        for (to, from) in [("linear_q", "q_proj"), ("linear_k", "k_proj"), ("linear_v", "v_proj")] {
            let from = layer(&qwen3, &format!("self_attn.{from}"));
            check(&held, &at(&format!("self_attention.{to}")), share(&from, 0, rank, 2));
        }
        check(&held, &at("self_attention.linear_proj"), share(&layer(&qwen3, "self_attn.o_proj"), 1, rank, 2));
        check(&held, &at("self_attention.q_layernorm"), layer(&qwen3, "self_attn.q_norm"));
        check(&held, &at("mlp.gating"), share(&layer(&qwen3, "mlp.gate_proj"), 0, rank, 2));
    }
    // Training's projection, by groups: here a rank holds one group, its two query heads before its key and its value head.
    for (rank, held) in ranks("qwen3", true) {
        let parts =
            ["q_proj", "k_proj", "v_proj"].map(|n| share(&layer(&qwen3, &format!("self_attn.{n}")), 0, rank, 2));
        check(&held, "decoder.layers.1.self_attention.linear_qkv.weight", below(&parts));
        // Rows of gate and up in turn.
        let parts = ["gate_proj", "up_proj"].map(|n| share(&layer(&qwen3, &format!("mlp.{n}")), 0, rank, 2));
        let rows: Vec<Tensor> = (0..24).flat_map(|row| parts.clone().map(|part| slice(&part, 0, row, 1))).collect();
        check(&held, "decoder.layers.1.mlp.linear_fc1.weight", below(&rows));
    }
    let glm4 = model("glm4");
    for (rank, held) in ranks("glm4", false) {
        let gate_up = layer(&glm4, "mlp.gate_up_proj");
        let half = |first| share(&slice(&gate_up, 0, first, 48), 0, rank, 2);
        check(&held, "decoder.layers.1.mlp.linear_fc1.weight", below(&[half(0), half(48)]));
        let bias = glm4["model.layers.1.self_attn.k_proj.bias"].clone();
        check(&held, "decoder.layers.1.self_attention.linear_k.bias", share(&bias, 0, rank, 2));
    }
    let experts = |model: &Tensors, middle: &str, end: &str| -> Vec<Tensor> {
        (0..4).map(|expert| layer(model, &format!("{middle}.experts.{expert}.{end}"))).collect()
    };
    let mixtral = model("mixtral");
    for (rank, held) in ranks("mixtral", false) {
        let at = |name: &str| format!("model.layers.1.feed_forward.{name}.weight");
        for (end, dim) in [("w1", 0), ("w2", 1), ("w3", 0)] {
            let parts: Vec<Tensor> =
                experts(&mixtral, "block_sparse_moe", end).iter().map(|expert| share(expert, dim, rank, 2)).collect();
            let mut stacked = below(&parts);
            stacked.dims = [&[4], &parts[0].dims[..]].concat();
            check(&held, &at(&format!("ffn.{end}")), stacked);
        }
        check(&held, &at("router.dense"), layer(&mixtral, "block_sparse_moe.gate"));
    }
    let qwen3_moe = model("qwen3_moe");
    let of = |end: &str, dim: usize, rank: u64| -> Vec<Tensor> {
        experts(&qwen3_moe, "mlp", end).iter().map(|expert| share(expert, dim, rank, 2)).collect()
    };
    for (rank, held) in ranks("qwen3_moe", false) {
        let at = |name: &str| format!("decoder.layers.1.mlp.experts.2.{name}.weight");
        check(&held, &at("gating"), of("gate_proj", 0, rank)[2].clone());
        check(&held, &at("hidden"), of("up_proj", 0, rank)[2].clone());
        check(&held, &at("linear_fc2"), of("down_proj", 1, rank)[2].clone());
    }
    // Training's: transposed, the experts one below the other, gate's columns before up's.
    for (rank, held) in ranks("qwen3_moe", true) {
        let (gate, up, down) = (of("gate_proj", 0, rank), of("up_proj", 0, rank), of("down_proj", 1, rank));
        let both = gate.iter().zip(&up).map(|(gate, up)| beside(&[transposed(gate), transposed(up)]));
        check(&held, "decoder.layers.1.mlp.experts.weight1", below(&both.collect::<Vec<_>>()));
        let down: Vec<Tensor> = down.iter().map(transposed).collect();
        check(&held, "decoder.layers.1.mlp.experts.weight2", below(&down));
    }
}

/// What is wrong with a source is said, and nothing is written.
#[test]
fn what_does_not_fit_the_family_is_refused() {
    let cases: [Case<'_>; 6] = [
        (
            "qwen3_moe",
            "-w 2",
            &|t| drop(t.remove("model.layers.1.mlp.experts.2.up_proj.weight")),
            &["lacks `model.layers.1.mlp.experts.2.up_proj.weight`\n"],
        ),
        ("mixtral", "-w 1", &|t| drop(t.remove("model.layers.0.block_sparse_moe.gate.weight")), &["lacks"]),
        ("qwen3", "-w 1", &|t| t.retain(|name, _| !name.contains(".layers.1.")), &["lacks", "layers.1."]),
        ("glm4", "-w 4", &|_| (), &["2 kv heads", "4 ranks"]),
        ("qwen3", "-w 3", &|_| (), &["3"]),
        (
            "glm4",
            "-w 2",
            &|t| {
                let odd = Tensor { name: "model.layers.0.mlp.odd.weight".into(), ..t["model.norm.weight"].clone() };
                drop(t.insert(odd.name.clone(), odd));
            },
            &["model.layers.0.mlp.odd.weight"],
        ),
    ];
    for (name, ranks, change, said) in cases {
        let env = TestEnv::new();
        let mut tensors = model(name);
        change(&mut tensors);
        env.write("hf/model.safetensors", write_safetensors(&tensors.into_values().collect::<Vec<_>>()));
        env.write("hf/config.json", std::fs::read(data("families").join(name).join("config.json")).unwrap());
        let before = env.tree();
        let run = env.line(&format!("-f pt_to_ms -p keep {ranks} -sc hf -dc out -is out-strategy --no-sync"));
        run.failed(1, said);
        assert_eq!(env.tree(), before, "{name}: something was written");
    }
}

/// The configuration of one family with the tensors of another.
#[test]
fn the_configuration_of_another_family_is_refused() {
    let named = |said: &str, found: &str| {
        format!(
            "the config.json is of {said}, but the parameters have the names of {found}\nhint: put the config.json of this"
        )
    };
    for (name, other, said) in [
        ("qwen3", "llama", named("llama", "qwen3")),
        ("glm4", "qwen2", named("qwen2", "glm4")),
        ("mixtral", "qwen3_moe", named("qwen3_moe", "mixtral")),
        ("qwen3_moe", "mistral", named("llama", "qwen3_moe")),
        // Names that qwen3 has too.
        ("llama", "qwen3", "has the shape [16, 32], the model configuration asks for [32, 32]".to_owned()),
    ] {
        let env = TestEnv::new();
        copy(&data("families").join(name), &env.path("hf"));
        std::fs::copy(data("families").join(other).join("config.json"), env.path("hf/config.json")).unwrap();
        let before = env.tree();
        let run = env.line("-f pt_to_ms -p keep -w 2 -sc hf -dc out -is out-strategy --no-sync");
        run.failed(1, &[&said]);
        assert_eq!(env.tree(), before, "{name} as {other}: something was written");
    }
}
