//! Every name of real models, of documented ones and of ours. `names.json` is from the real libraries.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::*;
use crate::model::{
    Captures, Configuration, Model, ParamId, Share, Value, builtin_family, from_config_json, from_params_json,
};

fn fixture() -> Json {
    serde_json::from_str(include_str!("../../tests/data/foreign/names.json")).unwrap()
}

fn numbers(value: &Json) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect()
}

/// Places every name and compares its shape with the model's. Returns the parameters.
fn place_all(dialect: &Dialect, model: &Model, shapes: &BTreeMap<String, Vec<u64>>) -> BTreeSet<ParamId> {
    let mut found = BTreeSet::new();
    for (name, dims) in shapes {
        let Place::Stored(stored) = dialect.place(name) else { panic!("{name} is unknown") };
        let tensor = model.family().stored(stored.row, stored.captures, model.sizes(), Share::WHOLE).unwrap();
        assert_eq!(&tensor.dims, dims, "{name}");
        assert_eq!(dialect.name(&stored).as_ref(), Some(name));
        for id in stored.params() {
            assert!(found.insert(id), "{name}: a parameter twice");
        }
    }
    found
}

fn origin_of<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<(String, String)> {
    match origin(names).unwrap()? {
        Origin::MindSpore => Some(("MindSpore".to_owned(), String::new())),
        Origin::Foreign(dialect) => Some((dialect.family().name.clone(), dialect.schemes()[0].name.clone())),
    }
}

#[test]
fn every_name_of_real_models_has_its_place_and_its_shape() {
    let models = fixture()["models"].as_array().unwrap().clone();
    assert!(models.len() >= 9);
    for real in models {
        let case = real["case"].as_str().unwrap();
        let model = from_config_json(real["config"].to_string().as_bytes()).unwrap();
        let shapes: BTreeMap<String, Vec<u64>> =
            real["shapes"].as_object().unwrap().iter().map(|(name, dims)| (name.clone(), numbers(dims))).collect();
        let names = || shapes.keys().map(String::as_str);
        let dialect = Dialect::foreign(model.family(), names()).unwrap().unwrap();
        let found = place_all(&dialect, &model, &shapes);
        let mut wanted: BTreeSet<ParamId> = model.members().iter().copied().collect();
        let head = ParamId { param: model.family().param("head").unwrap(), layer: None };
        match case {
            "llama_base" => assert!(dialect.is_bare() && wanted.remove(&head)),
            // A state dict has the shared tensor under both names.
            "llama_tied" | "qwen2_tied" => assert!(model.tied() && wanted.insert(head)),
            _ => assert!(!dialect.is_bare(), "{case}"),
        }
        assert_eq!(found, wanted, "{case}");
        assert_eq!(origin_of(names()), Some((model.family().name.clone(), "hf".to_owned())), "{case}");
    }
}

/// Names from the models' documentation and published code, not from running them.
const DOCUMENTED: [(&str, &str, &[&str]); 4] = [
    (
        "baichuan2",
        "hf",
        &[
            "model.embed_tokens.weight",
            "lm_head.weight",
            "model.norm.weight",
            "model.layers.0.self_attn.W_pack.weight",
            "model.layers.0.self_attn.o_proj.weight",
            "model.layers.0.mlp.gate_proj.weight",
            "model.layers.0.mlp.up_proj.weight",
            "model.layers.0.mlp.down_proj.weight",
            "model.layers.0.input_layernorm.weight",
            "model.layers.0.post_attention_layernorm.weight",
        ],
    ),
    (
        "internlm2",
        "hf",
        &[
            "model.tok_embeddings.weight",
            "output.weight",
            "model.norm.weight",
            "model.layers.0.attention.wqkv.weight",
            "model.layers.0.attention.wo.weight",
            "model.layers.0.feed_forward.w1.weight",
            "model.layers.0.feed_forward.w3.weight",
            "model.layers.0.feed_forward.w2.weight",
            "model.layers.0.attention_norm.weight",
            "model.layers.0.ffn_norm.weight",
        ],
    ),
    (
        "llama",
        "meta",
        &[
            "tok_embeddings.weight",
            "output.weight",
            "norm.weight",
            "layers.0.attention.wq.weight",
            "layers.0.attention.wk.weight",
            "layers.0.attention.wv.weight",
            "layers.0.attention.wo.weight",
            "layers.0.feed_forward.w1.weight",
            "layers.0.feed_forward.w3.weight",
            "layers.0.feed_forward.w2.weight",
            "layers.0.attention_norm.weight",
            "layers.0.ffn_norm.weight",
        ],
    ),
    // The first releases of Yi (November 2023), by their modeling_yi.py.
    (
        "llama",
        "hf/yi",
        &[
            "model.embed_tokens.weight",
            "lm_head.weight",
            "model.norm.weight",
            "model.layers.0.self_attn.q_proj.weight",
            "model.layers.0.self_attn.k_proj.weight",
            "model.layers.0.self_attn.v_proj.weight",
            "model.layers.0.self_attn.o_proj.weight",
            "model.layers.0.mlp.gate_proj.weight",
            "model.layers.0.mlp.up_proj.weight",
            "model.layers.0.mlp.down_proj.weight",
            "model.layers.0.ln1.weight",
            "model.layers.0.ln2.weight",
        ],
    ),
];

#[test]
fn every_documented_name_of_the_others_too() {
    let fields = [("hidden_size", 48), ("num_hidden_layers", 1), ("num_attention_heads", 6), ("vocab_size", 97)];
    let fields = fields.into_iter().chain([("intermediate_size", 80)]);
    let fields: Configuration = fields.map(|(name, n)| (name.to_owned(), Value::Number(f64::from(n)))).collect();
    for (name, scheme, names) in DOCUMENTED {
        let family = builtin_family(name).unwrap();
        let family = families().iter().copied().find(|known| known.name == family.name).unwrap();
        let model = Model::read(family, "config.json", &fields).unwrap();
        let dialect = Dialect::foreign(family, names.iter().copied()).unwrap().unwrap();
        assert_eq!(dialect.schemes()[0].name, scheme);
        let known = model.family().scheme(scheme).unwrap();
        let written = family.names(known, model.members(), model.sizes()).unwrap();
        let shapes = written.into_iter().map(|named| {
            let dims = family.stored(named.row, named.captures, model.sizes(), Share::WHOLE).unwrap().dims;
            (named.name, dims)
        });
        let shapes: BTreeMap<String, Vec<u64>> = shapes.collect();
        assert_eq!(shapes.keys().map(String::as_str).collect::<BTreeSet<_>>(), names.iter().copied().collect());
        assert_eq!(place_all(&dialect, &model, &shapes), model.members().iter().copied().collect(), "{name}");
        assert_eq!(origin_of(names.iter().copied()), Some((name.to_owned(), scheme.to_owned())));
        if scheme != "meta" {
            // Saved without the head.
            let prefix = family.base_prefix();
            let bare: Vec<&str> = names.iter().filter_map(|name| name.strip_prefix(prefix)).collect();
            let dialect = Dialect::foreign(family, bare.iter().copied()).unwrap().unwrap();
            assert!(dialect.is_bare() && bare.iter().all(|name| matches!(dialect.place(name), Place::Stored(_))));
            assert_eq!(origin_of(bare), Some((name.to_owned(), scheme.to_owned())));
        }
    }
}

/// The same tensors by two spellings, of which the names say which.
#[test]
fn the_spelling_of_transformers_is_chosen_by_the_names() {
    let family = families().iter().copied().find(|family| family.name == "mixtral").unwrap();
    let of = |name: &str| {
        let names = ["model.norm.weight", "model.layers.0.self_attn.q_proj.weight", name];
        assert_eq!(origin_of(names).unwrap().0, "mixtral", "{name}");
        Dialect::foreign(family, names).unwrap().unwrap().schemes()[0].name.clone()
    };
    assert_eq!(of("model.layers.0.block_sparse_moe.experts.7.w1.weight"), "hf/v4");
    assert_eq!(of("model.layers.0.mlp.experts.gate_up_proj"), "hf");
}

/// Shapes do not distinguish gate from up, nor the two norms apart: the table of mindformers' `convert_weight.py`.
#[test]
fn each_name_is_the_one_that_mindformers_makes_of_it() {
    let llama = [
        ("model.embed_tokens.weight", "model.tok_embeddings.embedding_weight"),
        ("model.layers.7.self_attn.q_proj.weight", "model.layers.7.attention.wq.weight"),
        ("model.layers.7.self_attn.k_proj.weight", "model.layers.7.attention.wk.weight"),
        ("model.layers.7.self_attn.v_proj.weight", "model.layers.7.attention.wv.weight"),
        ("model.layers.7.self_attn.o_proj.weight", "model.layers.7.attention.wo.weight"),
        ("model.layers.7.mlp.gate_proj.weight", "model.layers.7.feed_forward.w1.weight"),
        ("model.layers.7.mlp.down_proj.weight", "model.layers.7.feed_forward.w2.weight"),
        ("model.layers.7.mlp.up_proj.weight", "model.layers.7.feed_forward.w3.weight"),
        ("model.layers.7.input_layernorm.weight", "model.layers.7.attention_norm.weight"),
        ("model.layers.7.post_attention_layernorm.weight", "model.layers.7.ffn_norm.weight"),
        ("model.norm.weight", "model.norm_out.weight"),
        ("lm_head.weight", "lm_head.weight"),
    ];
    let ours = |family: &str, scheme: &str, name: &str| {
        let family = builtin_family(family).unwrap();
        let (row, captures) = family.scheme(scheme)?.find(name)?;
        let own = |param: u16| family.own_name(ParamId { param, layer: captures.layer }, None);
        Some(row.params().map(own).collect::<Vec<_>>())
    };
    for (foreign, own) in llama {
        for family in ["llama", "qwen2"] {
            assert_eq!(ours(family, "hf", foreign), Some(vec![own.to_owned()]), "{family}");
        }
    }
    for part in ["q", "k", "v"] {
        let found = ours("qwen2", "hf", &format!("model.layers.7.self_attn.{part}_proj.bias"));
        assert_eq!(found, Some(vec![format!("model.layers.7.attention.w{part}.bias")]));
    }
    let parts = ["wq", "wk", "wv"].map(|part| format!("model.layers.3.attention.{part}.weight")).to_vec();
    for (family, name) in [("internlm2", "attention.wqkv"), ("baichuan2", "self_attn.W_pack")] {
        assert_eq!(ours(family, "hf", &format!("model.layers.3.{name}.weight")), Some(parts.clone()));
    }
    // Meta's names of a layer's parameters are ours, and so are InternLM 2's.
    for suffix in
        ["attention.wo", "feed_forward.w1", "feed_forward.w2", "feed_forward.w3", "attention_norm", "ffn_norm"]
    {
        let own = Some(vec![format!("model.layers.7.{suffix}.weight")]);
        assert_eq!(ours("llama", "meta", &format!("layers.7.{suffix}.weight")), own);
        assert_eq!(ours("internlm2", "hf", &format!("model.layers.7.{suffix}.weight")), own);
    }
}

#[test]
fn buffers_are_dropped_and_strange_names_are_unknown() {
    let llama = Dialect::of(builtin_family("llama").unwrap(), "hf").unwrap();
    for name in ["model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq", "rope.freqs"] {
        assert!(matches!(llama.place(name), Place::Buffer), "{name}");
    }
    assert!(matches!(llama.place("model.layers.0.attn.masked_bias"), Place::Buffer));
    for name in [
        "",
        "model.",
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.self_attn.q_proj.weight_scale",
        "model.layers.0.self_attn.q_proj.weight.extra",
        "model.layers.00.self_attn.q_proj.weight",
        "model.layers.99999999999999999999.self_attn.q_proj.weight",
        "model.layers.0.self_attn.W_pack.weight",
        "model.layers.0.self_attn._extra_state",
        "model.layers.0.attention.wq.weight",
        "model.lm_head.weight",
        "embed_tokens.weight",
        "xrope.freqs",
        "module.model.norm.weight",
    ] {
        assert!(matches!(llama.place(name), Place::Unknown), "{name}");
    }
}

#[test]
fn adapters_and_mixtures_are_refused_by_name() {
    let llama = families().iter().copied().find(|family| family.name == "llama").unwrap();
    let of = |names: &[&'static str]| Dialect::foreign(llama, names.iter().copied());
    for name in [
        "base_model.model.model.norm.weight",
        "model.layers.0.self_attn.q_proj.lora_A.weight",
        "model.layers.0.self_attn.q_proj.base_layer.weight",
    ] {
        let error = of(&["lm_head.weight", name]).unwrap_err();
        assert_eq!(error, NamingError::Adapter(name.to_owned()));
        assert!(error.to_string().contains("merge"), "{error}");
    }
    let error = of(&["model.norm.weight", "layers.0.mlp.up_proj.weight"]).unwrap_err();
    assert!(matches!(error, NamingError::MixedPrefixes { .. }), "{error:?}");
    // What says nothing changes nothing.
    assert!(!of(&["lm_head.weight", "strange"]).unwrap().unwrap().is_bare());
    assert!(!of(&["strange"]).unwrap().unwrap().is_bare());
    assert!(of(&["lm_head.weight", "norm.weight"]).unwrap().unwrap().is_bare());
}

#[test]
fn our_own_names_are_told_from_foreign_ones() {
    for ours in [
        "model.layers.1.attention.wk.weight",
        "model.layers.1.attention.w_qkv.weight",
        "model.tok_embeddings.embedding_weight",
        "model.norm_out.weight",
    ] {
        let names = ["lm_head.weight", "model.layers.0.feed_forward.w1.weight", ours];
        assert_eq!(origin_of(names).unwrap().0, "MindSpore", "{ours}");
    }
    let wrapped = ["_orig_mod.model.embed_tokens.weight", "_orig_mod.model.layers.0.self_attn.q_proj.weight"];
    assert_eq!(origin_of(wrapped).unwrap().0, "llama", "as what the names are after what is before all of them");
    for none in [&["model.layers.0.ffn_norm.weight"][..], &["transformer.h.0.attn.weight"], &[]] {
        assert_eq!(origin_of(none.iter().copied()), None, "both have these, or neither");
    }
}

/// Where each element of a stored parameter is in its canonical order.
fn canonical(model: &Model, scheme: &str, name: &str) -> Vec<(String, u64)> {
    let family = model.family();
    let (row, captures) = family.scheme(scheme).unwrap().find(name).unwrap();
    let tensor = family.stored(row, captures, model.sizes(), Share::WHOLE).unwrap();
    let mut found = vec![None; usize::try_from(tensor.dims.iter().product::<u64>()).unwrap()];
    for part in &tensor.parts {
        let region = &part.piece.region;
        let axes = region.len().len();
        let mut at = vec![0u64; axes];
        for element in 0..region.len().iter().product::<u64>() {
            let mut rest = element;
            for axis in (0..axes).rev() {
                at[axis] = rest % region.len()[axis];
                rest /= region.len()[axis];
            }
            let steps = at.iter().zip(part.piece.strides()).map(|(n, step)| n * step).sum::<u64>();
            let place = usize::try_from(part.piece.offset + steps).unwrap();
            found[place] = Some((family.params()[usize::from(part.id.param)].id.clone(), element));
        }
    }
    found.into_iter().map(Option::unwrap).collect()
}

#[test]
fn metas_rows_are_those_that_the_real_permutation_gives() {
    for case in fixture()["rope"].as_array().unwrap() {
        let number = |key: &str| case[key].as_u64().unwrap();
        let (heads, head_dim) = (number("heads"), number("head_dim"));
        let params = format!(
            r#"{{"dim":1,"n_layers":1,"n_heads":{heads},"n_kv_heads":{heads},"head_dim":{head_dim},"vocab_size":1,"hidden_dim":1}}"#
        );
        let model = from_params_json(params.as_bytes(), None, None).unwrap();
        for name in ["wq", "wk"] {
            let rows = canonical(&model, "meta", &format!("layers.0.attention.{name}.weight"));
            let mut foreign = vec![0; rows.len()];
            for (place, (_, ours)) in (0..).zip(&rows) {
                foreign[usize::try_from(*ours).unwrap()] = place;
            }
            assert_eq!(foreign, numbers(&case["rows"]), "{case}");
        }
    }
}

#[test]
fn the_rows_of_joined_parameters_are_those_that_the_models_take_apart() {
    let fixture = fixture();
    let cases = [
        ("grouped", "internlm2", "model.layers.0.attention.wqkv.weight"),
        ("packed", "baichuan2", "model.layers.0.self_attn.W_pack.weight"),
    ];
    for (key, family, name) in cases {
        for case in fixture[key].as_array().unwrap() {
            let number = |key: &str| case[key].as_u64();
            let heads = number("heads").unwrap();
            let numbers_of = [
                ("hidden_size", 1),
                ("num_hidden_layers", 1),
                ("num_attention_heads", heads),
                ("num_key_value_heads", number("kv_heads").unwrap_or(heads)),
                ("head_dim", number("head_dim").unwrap()),
                ("vocab_size", 1),
                ("intermediate_size", 1),
            ];
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let fields: Configuration =
                numbers_of.into_iter().map(|(name, n)| (name.to_owned(), Value::Number(n as f64))).collect();
            let model = Model::read(builtin_family(family).unwrap(), "config.json", &fields).unwrap();
            let rows = canonical(&model, "hf", name);
            let of = |part: &str| -> Vec<u64> {
                let of_part = (0..).zip(&rows).filter(|(_, (param, _))| param == part);
                let mut found: Vec<(u64, u64)> = of_part.map(|(place, (_, ours))| (*ours, place)).collect();
                found.sort_unstable();
                found.into_iter().map(|(_, place)| place).collect()
            };
            let expected: Vec<Vec<u64>> = case["parts"].as_array().unwrap().iter().map(numbers).collect();
            assert_eq!(["q", "k", "v"].map(of).to_vec(), expected, "{case}");
        }
    }
    // The captures of a name say the layer.
    let family = builtin_family("internlm2").unwrap();
    let (_, captures) = family.scheme("hf").unwrap().find("model.layers.11.attention.wqkv.weight").unwrap();
    assert_eq!(captures, Captures { layer: Some(11), expert: None });
}
