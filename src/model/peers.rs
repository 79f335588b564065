//! The families' tables against their peers: transformers' state dicts, and mindformers' own tables of names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value as Json;

use super::{Configuration, Family, Pattern, Scheme, Share, Sizes, Value, builtin_families, recognise};

pub(super) fn data(folder: &str) -> Vec<(String, Json)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/models").join(folder);
    let mut read: Vec<(String, Json)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
        })
        .collect();
    read.sort_by(|a, b| a.0.cmp(&b.0));
    read
}

pub(super) fn configuration(json: &Json) -> Configuration {
    let value = |value: &Json| match value {
        Json::Bool(flag) => Some(Value::Flag(*flag)),
        Json::Number(number) => number.as_f64().map(Value::Number),
        _ => None,
    };
    json.as_object().unwrap().iter().filter_map(|(name, v)| Some((name.clone(), value(v)?))).collect()
}

fn family_of(model_type: &str) -> Option<&'static Family> {
    builtin_families().iter().find(|family| family.model_types.iter().any(|known| known == model_type))
}

/// Small models of each type that a family has, made by transformers 5 and, where the names changed, 4: the recognised scheme has
/// each name of the state dict, no other, and its shape.
#[test]
fn the_names_and_shapes_are_those_of_transformers() {
    let mut types = BTreeSet::new();
    for (file, json) in data("shapes") {
        let model_type = json["config"]["model_type"].as_str().unwrap();
        let Some(family) = family_of(model_type) else { continue };
        types.insert(model_type.to_owned());
        let fields = configuration(&json["config"]);
        let sizes = family.sizes("config.json", &fields).unwrap_or_else(|e| panic!("{file}: {e}"));
        let members = family.members("config.json", &fields).unwrap();
        let shapes: BTreeMap<String, Vec<u64>> = serde_json::from_value(json["shapes"].clone()).unwrap();
        let names: BTreeSet<&str> = shapes.keys().map(String::as_str).collect();
        let found = recognise([family], &names);
        assert_eq!(found.len(), 1, "{file}");
        let scheme = found[0].scheme;
        let mut stored = BTreeMap::new();
        for named in family.names(scheme, &members, &sizes).unwrap_or_else(|| panic!("{file}: {}", scheme.name)) {
            let tensor = family.stored(named.row, named.captures, &sizes, Share::WHOLE).unwrap();
            stored.insert(named.name, tensor.dims);
        }
        assert_eq!(stored, shapes, "{file} by {}", scheme.name);
        let own = recognise(builtin_families(), &names);
        assert_eq!(
            own.len(),
            1,
            "{file}: {:?}",
            own.iter().map(|r| (&r.family.name, &r.scheme.name)).collect::<Vec<_>>()
        );
    }
    // What is in a family but not tried here is not known to be right.
    let all: BTreeSet<String> = builtin_families().iter().flat_map(|family| family.model_types.clone()).collect();
    let untried: Vec<_> = all.difference(&types).collect();
    assert_eq!(untried, ["Yi", "baichuan", "internlm2"], "transformers has no classes for these");
}

/// The parameters that a scheme has under these names, in which `{}` are the layer and the expert.
fn params(family: &Family, scheme: &Scheme, names: &Json) -> BTreeSet<String> {
    let names = names.as_array().map_or(std::slice::from_ref(names), Vec::as_slice);
    let names = names.iter().map(|name| name.as_str().unwrap());
    names
        .flat_map(|name| params_of(family, scheme, name).unwrap_or_else(|| panic!("{}: {name}", scheme.name)))
        .collect()
}

fn params_of(family: &Family, scheme: &Scheme, name: &str) -> Option<BTreeSet<String>> {
    let pattern = Pattern::parse(&name.replacen("{}", "{l}", 1).replacen("{}", "{e}", 1)).unwrap();
    let row = scheme.rows.iter().find(|row| row.pattern == pattern)?;
    Some(row.params().map(|at| family.params()[usize::from(at)].id.clone()).collect())
}

/// mindformers' converters, operation by operation: what it makes of these names of Hugging Face's is what our scheme has under
/// its own name.
#[test]
fn the_names_for_training_are_those_of_mindformers_converters() {
    for (model, json) in data("mindformers") {
        let Some(family) = family_of(&model) else { continue };
        let (Some(mcore), Some(hf)) = (family.scheme("mcore"), hf_by_expert(family)) else { continue };
        for operation in json["weight_converters"].as_array().into_iter().flatten() {
            let theirs = params(family, hf, &operation["hf_names"]);
            assert_eq!(params(family, mcore, &operation["mf_names"]), theirs, "{model}: {operation}");
        }
    }
}

/// mindformers' tables for inference replace parts of names, one after the other.
#[test]
fn the_names_for_inference_are_those_of_mindformers_mapping() {
    for (model, json) in data("mindformers") {
        let Some(family) = family_of(&model) else { continue };
        let (Some(split), Some(hf)) = (family.scheme("mcore/split"), hf_by_expert(family)) else { continue };
        for row in &hf.rows {
            let theirs = row.pattern.to_string();
            let mut ours = theirs.clone();
            for pair in json["weight_mapping"].as_array().into_iter().flatten() {
                ours = ours.replace(pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
            }
            let own = |scheme: &Scheme, name: &str| {
                let row = scheme.rows.iter().find(|row| row.pattern.to_string() == name)?;
                Some(row.params().map(|at| family.params()[usize::from(at)].id.clone()).collect::<BTreeSet<_>>())
            };
            assert_eq!(own(split, &ours), own(hf, &theirs), "{model}: {theirs} becomes {ours}");
        }
    }
}

/// The scheme of Hugging Face's that has a name for each expert, as mindformers reads it.
fn hf_by_expert(family: &Family) -> Option<&Scheme> {
    family.scheme("hf/v4").or_else(|| family.scheme("hf"))
}

/// Every element of a stored tensor as (parameter, place in its canonical order).
fn elements(family: &Family, scheme: &str, name: &str, sizes: &Sizes, share: Share) -> Vec<(String, u64)> {
    let (row, at) = family.scheme(scheme).unwrap().find(name).unwrap();
    let tensor = family.stored(row, at, sizes, share).unwrap();
    let mut found = vec![None; usize::try_from(tensor.dims.iter().product::<u64>()).unwrap()];
    for part in &tensor.parts {
        let param = &family.params()[usize::from(part.id.param)];
        let full: Vec<u64> = family.canonical(part.id.param, sizes).unwrap().axes().collect();
        let whole: u64 = full.iter().product();
        for element in 0..whole {
            let mut rest = element;
            let mut at: Vec<u64> = full.iter().rev().map(|n| (rest % n, rest /= n).0).collect();
            at.reverse();
            let region = &part.piece.region;
            let inside = at.iter().zip(region.start()).zip(region.len()).all(|((a, s), n)| a >= s && a - s < *n);
            if !inside {
                continue;
            }
            let steps = at.iter().zip(region.start()).zip(part.piece.strides()).map(|((a, s), step)| (a - s) * step);
            let place = usize::try_from(part.piece.offset + steps.sum::<u64>()).unwrap();
            assert!(found[place].replace((param.id.clone(), element)).is_none(), "an element twice");
        }
    }
    found.into_iter().map(Option::unwrap).collect()
}

/// The forms of experts, against their definitions: transformers up to 4 (one tensor each), 5 (gate over up, stacked) and
/// mindformers' training (`weight1`: the experts' transposed matrices one below the other, gate's columns before up's).
#[test]
fn experts_are_where_their_definitions_say() {
    let family = family_of("qwen3_moe").unwrap();
    let (experts, ffn, hidden) = (4, 6, 3);
    let fields = [("num_experts", 4.0), ("moe_intermediate_size", 6.0), ("hidden_size", 3.0), ("head_dim", 2.0)];
    let more = [("num_attention_heads", 2.0), ("vocab_size", 5.0), ("num_hidden_layers", 1.0)];
    let fields = fields.into_iter().chain(more).map(|(name, n)| (name.to_owned(), Value::Number(n)));
    let sizes = family.sizes("config.json", &fields.collect()).unwrap();
    let at = |param: &str, e: u64, f: u64, h: u64| match param {
        "expert_down" => (param.to_owned(), (e * hidden + h) * ffn + f),
        _ => (param.to_owned(), (e * ffn + f) * hidden + h),
    };
    for (expert, expert_ranks) in [(0, 1), (1, 2)] {
        for (rank, ranks) in [(0, 1), (0, 3), (2, 3)] {
            let share = Share { expert: (expert, expert_ranks), ..Share::of(rank, ranks) };
            let own_experts = || expert * experts / expert_ranks..(expert + 1) * experts / expert_ranks;
            let rows = || rank * ffn / ranks..(rank + 1) * ffn / ranks;
            let of = |scheme: &str, name: &str| elements(family, scheme, name, &sizes, share);
            let mut packed = Vec::new();
            let mut weight1 = Vec::new();
            let mut weight2 = Vec::new();
            for e in own_experts() {
                for param in ["expert_gate", "expert_up"] {
                    packed.extend(rows().flat_map(|f| (0..hidden).map(move |h| at(param, e, f, h))));
                }
                for h in 0..hidden {
                    weight1
                        .extend(["expert_gate", "expert_up"].iter().flat_map(|p| rows().map(move |f| at(p, e, f, h))));
                }
                weight2.extend(rows().flat_map(|f| (0..hidden).map(move |h| at("expert_down", e, f, h))));
            }
            assert_eq!(of("hf", "model.layers.0.mlp.experts.gate_up_proj"), packed);
            assert_eq!(of("mcore", "decoder.layers.0.mlp.experts.weight1"), weight1);
            assert_eq!(of("mcore", "decoder.layers.0.mlp.experts.weight2"), weight2);
            let one: Vec<_> = rows().flat_map(|f| (0..hidden).map(move |h| at("expert_up", 3, f, h))).collect();
            assert_eq!(of("hf/v4", "model.layers.0.mlp.experts.3.up_proj.weight"), one);
        }
    }
}
