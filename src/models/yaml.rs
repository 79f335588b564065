//! mindformers' yaml files: the model's dimensions and how it is arranged.
//!
//! The real files carry anchors, unknown keys and the *string* "None". Everything but the fields below is ignored.

use serde_json::Value;

use super::super::model::MAX_LAYERS;
use super::foreign::OTHER_LAYERS;
use super::yaml_text::read;
use super::{ModelSpec, SpecError};

/// Architectures whose parameter names are llama's. Anything else is refused rather than guessed.
const FAMILY: &[&str] = &["LlamaForCausalLM", "ParallelLlamaForCausalLM"];

/// Reads a mindformers yaml. Source of the fields and of the ffn rule: mindformers' `LlamaConfig`.
pub fn from_yaml(text: &str) -> Result<ModelSpec, SpecError> {
    let root = read(text)?;
    if let Some(arch) = root["model"]["arch"]["type"].as_str()
        && !FAMILY.contains(&arch)
    {
        return Err(SpecError::Unsupported(arch.to_owned()));
    }
    let config = &root["model"]["model_config"];
    if !config.is_object() {
        return Err(SpecError::Missing("model.model_config"));
    }
    refuse_other_layers(&root, config)?;
    let hidden = required(config, "hidden_size")?;
    let heads = required(config, "num_heads")?;
    let layers = required(config, "num_layers")?;
    let vocab = required(config, "vocab_size")?;
    if hidden % heads != 0 {
        return Err(bad("num_heads", heads.to_string(), "a divisor of hidden_size"));
    }
    let kv_heads = number(config, "n_kv_heads")?.unwrap_or(heads);
    if heads % kv_heads != 0 {
        return Err(bad("n_kv_heads", kv_heads.to_string(), "a divisor of num_heads"));
    }
    Ok(ModelSpec {
        hidden,
        layers: u32::try_from(layers)
            .ok()
            .filter(|&layers| layers <= MAX_LAYERS)
            .ok_or_else(|| bad("num_layers", layers.to_string(), "a number of layers that a model can have"))?,
        heads,
        kv_heads,
        head_dim: hidden / heads,
        ffn: ffn_rows(config, hidden)?,
        vocab,
        qkv_bias: flag(config, "qkv_has_bias")?.unwrap_or(false),
        tied: flag(config, "tie_word_embeddings")?.unwrap_or(false),
        fused: Some(flag(config, "qkv_concat")?.unwrap_or(false)),
        vocabulary_whole: flag(&root["parallel_config"], "vocab_emb_dp")?.unwrap_or(true),
    })
}

/// Layers that are not a dense llama's. Every mindformers yaml may have a `moe_config`, whose `expert_num` is 1 for a dense
/// model; newer ones name their experts as a `config.json` does.
fn refuse_other_layers(root: &Value, config: &Value) -> Result<(), SpecError> {
    const FIELD: &str = "moe_config.expert_num";
    for moe in [&root["moe_config"], &config["moe_config"]] {
        let Some(value) = present(&moe["expert_num"]) else { continue };
        match value.as_i64() {
            Some(..=1) => {}
            Some(_) => return Err(SpecError::OtherLayers { what: "a mixture of experts", field: FIELD }),
            None => return Err(bad(FIELD, show(value), "a whole number")),
        }
    }
    // A dense model may say so: no experts, or one.
    let says = |field: &&&str| match present(&config[**field]) {
        None | Some(Value::Bool(false) | Value::Object(_)) => false,
        Some(value) => value.as_i64().is_none_or(|number| number > 1),
    };
    for (fields, what) in OTHER_LAYERS {
        if let Some(field) = fields.iter().find(says) {
            return Err(SpecError::OtherLayers { what, field });
        }
    }
    Ok(())
}

/// `lora_alpha` of the adapters' configuration (`model.model_config.pet_config`), where a yaml has one.
///
/// # Errors
/// No yaml.
pub fn lora_alpha(text: &str) -> Result<Option<f64>, SpecError> {
    let root = read(text)?;
    Ok(present(&root["model"]["model_config"]["pet_config"]["lora_alpha"]).and_then(Value::as_f64))
}

/// `intermediate_size`, or llama's rule: 2/3 of four times the width (times the multiplier), rounded up to `multiple_of`.
fn ffn_rows(config: &Value, hidden: u64) -> Result<u64, SpecError> {
    if let Some(rows) = number(config, "intermediate_size")? {
        return Ok(rows);
    }
    let mut rows = hidden * 4;
    if let Some(value) = present(&config["ffn_dim_multiplier"]) {
        let factor = value
            .as_f64()
            .filter(|f| (0.01..=100.0).contains(f))
            .ok_or_else(|| bad("ffn_dim_multiplier", show(value), "a number between 0.01 and 100"))?;
        // As mindformers computes it; the result is far below 2^53, so the float is exact enough and not negative.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "the product is positive and below 2^45"
        )]
        {
            rows = ((factor + 0.01) * rows as f64) as u64;
        }
    }
    let multiple = number(config, "multiple_of")?.unwrap_or(256);
    Ok((rows * 2 / 3).div_ceil(multiple) * multiple)
}

/// The value, unless it is absent, null, or the string "None".
fn present(value: &Value) -> Option<&Value> {
    match value {
        Value::Null => None,
        Value::String(text) if text == "None" => None,
        other => Some(other),
    }
}

fn number(config: &Value, field: &'static str) -> Result<Option<u64>, SpecError> {
    let Some(value) = present(&config[field]) else { return Ok(None) };
    // Dimensions above this would overflow products; no model comes near.
    let number = value.as_u64().filter(|n| (1..1 << 32).contains(n));
    number.map(Some).ok_or_else(|| bad(field, show(value), "a positive whole number"))
}

fn required(config: &Value, field: &'static str) -> Result<u64, SpecError> {
    number(config, field)?.ok_or(SpecError::Missing(field))
}

fn flag(config: &Value, field: &'static str) -> Result<Option<bool>, SpecError> {
    let Some(value) = present(&config[field]) else { return Ok(None) };
    value.as_bool().map(Some).ok_or_else(|| bad(field, show(value), "True or False"))
}

/// A value as an error shows it: as long as a line allows.
pub(super) fn show(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    format!("`{}`", text.chars().take(80).collect::<String>())
}

fn bad(field: &'static str, value: String, wanted: &'static str) -> SpecError {
    SpecError::BadValue { field, value, wanted }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(body: &str) -> Result<ModelSpec, SpecError> {
        from_yaml(&format!("model:\n  model_config:\n    vocab_size: 96\n    num_layers: 2\n{body}"))
    }

    #[test]
    fn the_ffn_rule_gives_the_published_sizes() {
        let ffn = |body: &str| config(body).unwrap().ffn;
        assert_eq!(ffn("    hidden_size: 4096\n    num_heads: 32\n    multiple_of: 256\n"), 11008);
        assert_eq!(ffn("    hidden_size: 5120\n    num_heads: 40\n"), 13824);
        assert_eq!(
            ffn("    hidden_size: 8192\n    num_heads: 64\n    ffn_dim_multiplier: 1.3\n    multiple_of: 256\n"),
            28672
        );
        assert_eq!(ffn("    hidden_size: 4096\n    num_heads: 32\n    intermediate_size: 14336\n"), 14336);
    }

    #[test]
    fn a_mixture_of_experts_is_no_dense_model_wherever_the_yaml_says_so() {
        let dims = "    hidden_size: 64\n    num_heads: 16\n";
        let error = |text: &str| config(&format!("{dims}{text}")).unwrap_err().to_string();
        for text in ["moe_config:\n  expert_num: 8\n", "    moe_config:\n      expert_num: 2\n", "    num_experts: 4\n"]
        {
            assert!(error(text).contains("mixture of experts"), "{text}");
        }
        assert!(error("moe_config:\n  expert_num: many\n").contains("moe_config.expert_num"));
        // As mindformers' own dense yamls have it.
        let dense =
            ["moe_config:\n  expert_num: 1\n", "moe_config: null\n", "    num_experts: 1\n    q_lora_rank: None\n"];
        for text in dense {
            config(&format!("{dims}{text}")).unwrap();
        }
    }

    #[test]
    fn the_string_none_is_nothing_and_wrong_values_are_named() {
        let spec =
            config("    hidden_size: 64\n    num_heads: 16\n    n_kv_heads: \"None\"\n    intermediate_size: None\n");
        assert_eq!(spec.unwrap().kv_heads, 16);
        let error = config("    hidden_size: 64\n    num_heads: many\n").unwrap_err().to_string();
        assert!(error.contains("num_heads") && error.contains("many"), "{error}");
        let error = config("    hidden_size: 64\n    num_heads: 16\n    n_kv_heads: 5\n").unwrap_err().to_string();
        assert!(error.contains("n_kv_heads"), "{error}");
    }
}
