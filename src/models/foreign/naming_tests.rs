//! Every name of real models, of documented ones and of ours, both ways. `names.json` is from the real libraries.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::super::naming::layer_suffixes;
use super::super::from_config_json;
use super::*;

fn fixture() -> Value {
    serde_json::from_str(include_str!("../../../tests/data/foreign/names.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect()
}

fn spec(family: Family) -> ModelSpec {
    ModelSpec {
        hidden: 48,
        layers: 2,
        heads: 6,
        kv_heads: if family == Family::Baichuan2 { 6 } else { 2 },
        head_dim: 8,
        ffn: 80,
        vocab: 97,
        qkv_bias: family == Family::Qwen2,
        tied: false,
        fused: None,
        vocabulary_whole: false,
    }
}

/// Places every name, compares its shape with the model's, and goes back. Answers our names.
fn place_all(naming: Naming, spec: &ModelSpec, shapes: &BTreeMap<String, Vec<u64>>) -> BTreeSet<String> {
    let mut ours = BTreeSet::new();
    for (name, dims) in shapes {
        let place = naming.place(name);
        assert!(!place.names().is_empty(), "{name}: {place:?}");
        assert_eq!(naming.foreign_shape(spec, name).unwrap().dims(), dims, "{name}");
        for here in place.names() {
            assert_eq!(naming.foreign_name(here).as_ref(), Some(name), "{here}");
            assert!(ours.insert(here.clone()), "{here} twice");
        }
    }
    ours
}

#[test]
fn every_name_of_real_models_has_its_place_its_shape_and_its_way_back() {
    let models = fixture()["models"].as_array().unwrap().clone();
    assert!(models.len() >= 9);
    for model in models {
        let case = model["case"].as_str().unwrap();
        let (spec, family) = from_config_json(model["config"].to_string().as_bytes()).unwrap();
        let shapes: BTreeMap<String, Vec<u64>> =
            model["shapes"].as_object().unwrap().iter().map(|(name, dims)| (name.clone(), numbers(dims))).collect();
        let naming = Naming::of(family, shapes.keys().map(String::as_str)).unwrap();
        let ours = place_all(naming, &spec, &shapes);
        let mut wanted: BTreeSet<String> = spec.required().collect();
        match case {
            "llama_base" => {
                assert_eq!(naming.prefix(), Prefix::Bare);
                wanted.remove(HEAD);
            }
            // A state dict has the shared tensor under both names.
            "llama_tied" | "qwen2_tied" => assert!(spec.tied && wanted.insert(HEAD.to_owned())),
            _ => assert_eq!(naming.prefix(), Prefix::Model),
        }
        assert_eq!(ours, wanted, "{case}");
        let origin = recognise(shapes.keys().map(String::as_str));
        assert_eq!(origin, Some(Origin::Foreign(family)), "{case}");
    }
}

type Names = &'static [(&'static str, [u64; 2])];

/// Names and shapes from the models' documentation and published code, not from running them.
fn documented(family: Family) -> BTreeMap<String, Vec<u64>> {
    let (top, layer): (Names, Names) = match family {
        Family::Baichuan2 => (
            &[("model.embed_tokens.weight", [97, 48]), ("lm_head.weight", [97, 48]), ("model.norm.weight", [48, 0])],
            &[
                ("self_attn.W_pack.weight", [144, 48]),
                ("self_attn.o_proj.weight", [48, 48]),
                ("mlp.gate_proj.weight", [80, 48]),
                ("mlp.up_proj.weight", [80, 48]),
                ("mlp.down_proj.weight", [48, 80]),
                ("input_layernorm.weight", [48, 0]),
                ("post_attention_layernorm.weight", [48, 0]),
            ],
        ),
        Family::InternLm2 => (
            &[("model.tok_embeddings.weight", [97, 48]), ("output.weight", [97, 48]), ("model.norm.weight", [48, 0])],
            &[
                ("attention.wqkv.weight", [80, 48]),
                ("attention.wo.weight", [48, 48]),
                ("feed_forward.w1.weight", [80, 48]),
                ("feed_forward.w3.weight", [80, 48]),
                ("feed_forward.w2.weight", [48, 80]),
                ("attention_norm.weight", [48, 0]),
                ("ffn_norm.weight", [48, 0]),
            ],
        ),
        Family::Meta => (
            &[("tok_embeddings.weight", [97, 48]), ("output.weight", [97, 48]), ("norm.weight", [48, 0])],
            &[
                ("attention.wq.weight", [48, 48]),
                ("attention.wk.weight", [16, 48]),
                ("attention.wv.weight", [16, 48]),
                ("attention.wo.weight", [48, 48]),
                ("feed_forward.w1.weight", [80, 48]),
                ("feed_forward.w3.weight", [80, 48]),
                ("feed_forward.w2.weight", [48, 80]),
                ("attention_norm.weight", [48, 0]),
                ("ffn_norm.weight", [48, 0]),
            ],
        ),
        Family::Llama | Family::Qwen2 => unreachable!("these are in the fixture"),
    };
    let prefix = if family == Family::Meta { "" } else { "model." };
    // A zero stands for no dimension.
    let dims = |dims: &[u64; 2]| dims.iter().copied().filter(|&n| n > 0).collect::<Vec<_>>();
    let layers =
        (0..2).flat_map(|n| layer.iter().map(move |(name, shape)| (format!("{prefix}layers.{n}.{name}"), shape)));
    let top = top.iter().map(|(name, shape)| ((*name).to_owned(), shape));
    top.chain(layers).map(|(name, shape)| (name, dims(shape))).collect()
}

#[test]
fn every_documented_name_of_the_other_families_too() {
    for family in [Family::Baichuan2, Family::InternLm2, Family::Meta] {
        let (spec, shapes) = (spec(family), documented(family));
        let names = || shapes.keys().map(String::as_str);
        let naming = Naming::of(family, names()).unwrap();
        assert_eq!(place_all(naming, &spec, &shapes), spec.required().collect(), "{family:?}");
        assert_eq!(recognise(names()), Some(Origin::Foreign(family)));
        let written: BTreeSet<String> = naming.foreign_names(&spec).unwrap().into_iter().collect();
        assert_eq!(written, shapes.keys().cloned().collect(), "{family:?}");
    }
}

/// Shapes do not tell gate from up, nor the two norms apart: the table of mindformers' `convert_weight.py`.
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
    for (foreign, ours) in llama {
        for family in [Family::Llama, Family::Qwen2] {
            assert_eq!(Naming::new(family).place(foreign).names(), [ours], "{family:?}");
        }
        let joined = foreign.contains(".q_proj.") || foreign.contains(".k_proj.") || foreign.contains(".v_proj.");
        assert_eq!(Naming::new(Family::Baichuan2).place(foreign).names().is_empty(), joined, "{foreign}");
    }
    for part in ["q", "k", "v"] {
        let place = Naming::new(Family::Qwen2).place(&format!("model.layers.7.self_attn.{part}_proj.bias"));
        assert_eq!(place.names(), [format!("model.layers.7.attention.w{part}.bias")]);
    }
    // Meta's names of a layer's parameters are ours, and so are InternLM 2's.
    for (family, prefix) in [(Family::Meta, ""), (Family::InternLm2, "model.")] {
        for suffix in layer_suffixes(false) {
            let place = Naming::new(family).place(&format!("{prefix}layers.7.{suffix}"));
            let joined = family == Family::InternLm2 && JOINED_PARTS.contains(&suffix);
            let ours = format!("model.layers.7.{suffix}");
            assert_eq!(place.names(), if joined { &[][..] } else { std::slice::from_ref(&ours) }, "{family:?}");
        }
        let named = [("norm", NORM), ("tok_embeddings", EMBEDDING)];
        for (name, ours) in named.map(|(name, ours)| (format!("{prefix}{name}.weight"), ours)) {
            assert_eq!(Naming::new(family).place(&name).names(), [ours], "{family:?}");
        }
        assert_eq!(Naming::new(family).place("output.weight").names(), [HEAD]);
    }
}

#[test]
fn joined_parameters_name_their_parts_in_order() {
    let place = Naming::new(Family::InternLm2).place("model.layers.11.attention.wqkv.weight");
    let Place::Parts { names, how: Join::Grouped } = place else { panic!("{place:?}") };
    assert_eq!(names, ["wq", "wk", "wv"].map(|part| format!("model.layers.11.attention.{part}.weight")));
    let place = Naming::new(Family::Baichuan2).place("model.layers.3.self_attn.W_pack.weight");
    assert!(matches!(place, Place::Parts { how: Join::Concat, .. }), "{place:?}");
    // Only q and k of Meta are reordered.
    for (name, transform) in [("wq", Reorder::MetaQuery), ("wk", Reorder::MetaKey), ("wv", Reorder::Plain)] {
        let place = Naming::new(Family::Meta).place(&format!("layers.0.attention.{name}.weight"));
        assert_eq!(place, Place::Parameter { name: format!("model.layers.0.attention.{name}.weight"), transform });
    }
}

#[test]
fn buffers_are_dropped_and_strange_names_are_unknown() {
    let llama = Naming::new(Family::Llama);
    for name in ["model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq", "rope.freqs"] {
        assert_eq!(llama.place(name), Place::Dropped, "{name}");
    }
    assert_eq!(llama.place("model.layers.0.attn.masked_bias"), Place::Dropped);
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
        assert_eq!(llama.place(name), Place::Unknown, "{name}");
    }
    assert_eq!(llama.foreign_name("model.layers.0.attention.wq.bias"), None);
    assert_eq!(llama.foreign_names(&spec(Family::Qwen2)), None, "llama has no place for biases");
    assert_eq!(llama.foreign_shape(&spec(Family::Llama), "model.layers.2.mlp.up_proj.weight"), None, "two layers only");
}

#[test]
fn adapters_and_mixtures_are_refused_by_name() {
    let of = |names: &[&str]| Naming::of(Family::Llama, names.iter().copied());
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
    // What tells nothing changes nothing.
    assert_eq!(of(&["lm_head.weight", "strange"]).unwrap().prefix(), Prefix::Model);
    assert_eq!(of(&["lm_head.weight", "norm.weight"]).unwrap().prefix(), Prefix::Bare);
}

#[test]
fn our_own_names_are_told_from_foreign_ones() {
    for ours in ["model.layers.1.attention.wk.weight", "model.layers.1.attention.w_qkv.weight", EMBEDDING, NORM] {
        let names = ["lm_head.weight", "model.layers.0.feed_forward.w1.weight", ours];
        assert_eq!(recognise(names), Some(Origin::MindSpore), "{ours}");
    }
    assert_eq!(recognise(["lm_head.weight", "model.layers.0.feed_forward.w1.weight"]), None, "both have these");
    assert_eq!(recognise([]), None);
}

#[test]
fn metas_rows_are_those_that_the_real_permutation_gives() {
    let mut spec = spec(Family::Meta);
    for case in fixture()["rope"].as_array().unwrap() {
        (spec.heads, spec.kv_heads) = (case["heads"].as_u64().unwrap(), 77);
        spec.head_dim = case["head_dim"].as_u64().unwrap();
        let rows = Reorder::MetaQuery.rows(&spec).unwrap().unwrap();
        let expected = numbers(&case["rows"]);
        let count = expected.len() as u64;
        assert_eq!(rows.axes.iter().product::<u64>(), count);
        assert_eq!((0..count).map(|row| rows.foreign_row(row).unwrap()).collect::<Vec<_>>(), expected);
        assert_eq!(rows.foreign_row(count), None);
        // k has its own heads.
        (spec.heads, spec.kv_heads) = (77, spec.heads);
        assert_eq!(Reorder::MetaKey.rows(&spec), Ok(Some(rows)));
    }
    spec.head_dim = 7;
    assert!(Reorder::MetaKey.rows(&spec).is_err());
    assert_eq!(Reorder::Plain.rows(&spec), Ok(None));
}

#[test]
fn the_rows_of_joined_parameters_are_those_that_the_models_take_apart() {
    let fixture = fixture();
    let cases = [("grouped", Join::Grouped), ("packed", Join::Concat)];
    for (case, how) in
        cases.iter().flat_map(|(key, how)| fixture[key].as_array().unwrap().iter().map(move |c| (c, how)))
    {
        let number = |key: &str| case[key].as_u64();
        let heads = number("heads").unwrap();
        let spec = ModelSpec {
            heads,
            kv_heads: number("kv_heads").unwrap_or(heads),
            head_dim: number("head_dim").unwrap(),
            ..spec(Family::Llama)
        };
        let grouping = how.grouping(&spec);
        let mut parts = vec![Vec::new(); 3];
        let mut row = 0;
        for _ in 0..grouping.groups {
            for (part, &slots) in grouping.slots.iter().enumerate() {
                let rows = slots * grouping.height;
                parts[part].extend(row..row + rows);
                row += rows;
            }
        }
        let expected: Vec<Vec<u64>> = case["parts"].as_array().unwrap().iter().map(numbers).collect();
        assert_eq!(parts, expected, "{case}");
    }
}
