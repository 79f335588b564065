//! The families' tables against their peers: transformers' state dicts, and mindformers' own tables of names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value as Json;

use super::{Configuration, Family, Pattern, Scheme, Share, Value, builtin_families, recognise};

fn data(folder: &str) -> Vec<(String, Json)> {
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

fn configuration(json: &Json) -> Configuration {
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
