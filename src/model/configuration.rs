//! A model by its configuration: Hugging Face's `config.json`, and mindformers' yamls.

use serde_json::Value as Json;

use super::error::SpecError;
use super::family::Family;
use super::fields::{Fields, Wanted, bad};
use super::model::Model;
use super::registry::families;
use super::rules::{Reads, Rules};
use super::size::{Configuration, Expression, Value};
use super::yaml_text;

/// The kinds of configurations, as family files call them.
pub(super) const CONFIG_JSON: &str = "config.json";
pub(super) const YAML: &str = "yaml";

/// What a yaml is of that does not say: the network that reads every dense model in mindformers 1.x.
const USUAL_ARCHITECTURE: &str = "LlamaForCausalLM";

/// The most characters of a type that a message shows.
const SHOWN: usize = 80;

/// Reads a `config.json`. `json`: all bytes of the file.
///
/// The fields and their defaults are those of `transformers` and of the `configuration_*.py` beside models that it has no classes
/// for; the family file has them.
///
/// # Errors
/// No JSON object, a field twice, a value of the wrong kind or out of range; a model type that is of no family; a quantised model;
/// layers or biases for which the family has no place.
pub fn from_config_json(json: &[u8]) -> Result<Model, SpecError> {
    let fields = Fields::json(json)?;
    let model_type = fields.text("model_type")?.ok_or_else(|| SpecError::Missing("model_type".to_owned()))?;
    refuse_quantised(&fields)?;
    let Some(family) = of_type(model_type) else { return Err(unknown_type(&fields, model_type)) };
    // Nothing reads it, but what is no dtype shows that the file is none.
    fields.text("torch_dtype")?;
    fields.text("dtype")?;
    Model::of_fields(family, CONFIG_JSON, &fields)
}

/// The family of a `model_type`.
pub(super) fn of_type(model_type: &str) -> Option<&'static Family> {
    families().iter().copied().find(|family| family.model_types.iter().any(|known| known == model_type))
}

fn unknown_type(fields: &Fields, model_type: &str) -> SpecError {
    let other = families().iter().find_map(|family| other_layers(family, fields, CONFIG_JSON).err());
    other.unwrap_or_else(|| {
        let known: Vec<&str> = families().iter().flat_map(|family| &family.model_types).map(String::as_str).collect();
        SpecError::UnknownType { found: model_type.chars().take(SHOWN).collect(), known: known.join(", ") }
    })
}

/// Weights that other tools quantised are not what the families say.
fn refuse_quantised(fields: &Fields) -> Result<(), SpecError> {
    let Some(field) = fields.first_of(&["quantization_config", "compression_config"]) else { return Ok(()) };
    let method = fields.present(field).and_then(|value| value["quant_method"].as_str());
    let method = method.map(|name| name.chars().take(SHOWN).collect());
    Err(SpecError::Quantised { field: field.to_owned(), method })
}

/// Reads a mindformers yaml: the model, and how the network expects it.
///
/// # Errors
/// No yaml, a value of the wrong kind or out of range; an architecture that is of no family; layers or biases for which the family
/// has no place.
pub fn from_yaml(text: &str) -> Result<Model, SpecError> {
    let root = yaml_text::read(text)?;
    let config = &root["model"]["model_config"];
    let arch = root["model"]["arch"]["type"].as_str();
    // Newer ones state it as a config.json does.
    let listed = || config["architectures"].as_str().or_else(|| config["architectures"][0].as_str());
    let arch = arch.or_else(listed);
    if !config.is_object() {
        // What is of another architecture is better said than what it lacks.
        known_architecture(arch.unwrap_or(USUAL_ARCHITECTURE))?;
        return Err(SpecError::Missing("model.model_config".to_owned()));
    }
    let fields = Fields::yaml(config).and(Fields::yaml(&root).inner());
    let of_type = config["model_type"].as_str().and_then(of_type);
    let family = match (arch, of_type) {
        (Some(arch), None) => of_architecture(arch, &fields)?,
        (Some(arch), Some(_)) if is_known(arch) => of_architecture(arch, &fields)?,
        (_, Some(family)) => family,
        (None, None) => of_architecture(USUAL_ARCHITECTURE, &fields)?,
    };
    Model::of_fields(family, YAML, &fields)
}

fn is_known(arch: &str) -> bool {
    families().iter().any(|family| family.architectures().any(|name| name == arch))
}

fn known_architecture(arch: &str) -> Result<(), SpecError> {
    if is_known(arch) { Ok(()) } else { Err(SpecError::Unsupported(arch.chars().take(SHOWN).collect())) }
}

/// The family of an architecture: of several the one whose condition the fields meet.
fn of_architecture(arch: &str, fields: &Fields) -> Result<&'static Family, SpecError> {
    known_architecture(arch)?;
    let mut found: Vec<&'static Family> = Vec::new();
    for family in families().iter().copied() {
        for architecture in family.architectures.iter().filter(|known| known.name == arch) {
            let meets = architecture.when.as_ref().map_or(Ok(true), |when| flag(family, YAML, when, fields))?;
            found.extend(meets.then_some(family));
        }
    }
    match found[..] {
        [family] => Ok(family),
        [] => Err(SpecError::Unsupported(arch.to_owned())),
        _ => {
            let names: Vec<&str> = found.iter().map(|family| family.name.as_str()).collect();
            Err(SpecError::SeveralFamilies { found: arch.to_owned(), families: names.join(", ") })
        }
    }
}

/// Whether an expression over the fields is true. What they do not say is not.
fn flag(family: &Family, kind: &str, rule: &Expression, fields: &Fields) -> Result<bool, SpecError> {
    let mut reads = Reads::new(family.rules(kind), &family.between);
    reads.expression(rule, Wanted::Flag);
    let configuration = fields.configuration(&reads.found())?;
    Ok(Rules::new(family.rules(kind), &configuration).of(rule) == Some(Value::Flag(true)))
}

/// Layers of another kind than the family's.
fn other_layers(family: &Family, fields: &Fields, kind: &str) -> Result<(), SpecError> {
    for (what, names) in &family.other_layers {
        for field in names {
            for value in fields.all(field) {
                if says_so(field, value, kind)? {
                    return Err(SpecError::OtherLayers { what: what.clone(), field: field.clone() });
                }
            }
        }
    }
    Ok(())
}

/// Whether a field says that there are such layers. A json file has it only where there are. Every mindformers yaml may have
/// a `moe_config`, whose `expert_num` is 1 for a dense model, and a dense model may say that it has none, or one.
fn says_so(field: &str, value: &Json, kind: &str) -> Result<bool, SpecError> {
    if kind != YAML {
        return Ok(true);
    }
    match value {
        Json::Bool(false) | Json::Object(_) => Ok(false),
        value => match value.as_i64() {
            Some(number) => Ok(number > 1),
            None if field.contains('.') => Err(bad(field, value, "a whole number")),
            None => Ok(true),
        },
    }
}

impl Model {
    /// The model that fields describe, where the family has a place for all that they do.
    pub(super) fn of_fields(family: &'static Family, kind: &str, fields: &Fields) -> Result<Self, SpecError> {
        other_layers(family, fields, kind)?;
        let refusals = family.refusals.iter().filter(|refusals| refusals.kind == kind);
        for (rule, why) in refusals.flat_map(|refusals| &refusals.refused) {
            if flag(family, kind, rule, fields)? {
                let field = rule.names().first().map_or_else(|| rule.to_string(), |name| (*name).to_owned());
                return Err(SpecError::NoPlace { field, why: why.clone() });
            }
        }
        let configuration: Configuration = fields.configuration(&family.fields(kind))?;
        Self::read(family, kind, &configuration)
    }
}

/// `lora_alpha` of the adapters' configuration (`model.model_config.pet_config`), where a yaml has one.
///
/// # Errors
/// No yaml.
pub fn lora_alpha(text: &str) -> Result<Option<f64>, SpecError> {
    let root = yaml_text::read(text)?;
    Ok(root["model"]["model_config"]["pet_config"]["lora_alpha"].as_f64())
}

#[cfg(test)]
#[path = "configuration_tests.rs"]
mod tests;
