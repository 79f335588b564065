//! Hugging Face's `config.json`: the dimensions and the family.

use super::super::super::model::MAX_LAYERS;
use super::super::{ModelSpec, SpecError};
use super::Family;
use super::fields::{Fields, bad};

/// What a `config.json` says beside the dimensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HfFacts {
    /// `lm_head` shares the embedding's weight. All families read here take an absent field for false.
    pub tie_word_embeddings: bool,
    /// The dtype that the model was saved in, as the file spells it: `torch_dtype`, or `dtype` in newer files.
    pub torch_dtype: Option<String>,
    /// The model's type, as the file spells it.
    pub model_type: String,
}

/// Model types and their families. Yi's first releases called themselves `Yi`.
const TYPES: [(&str, Family); 6] = [
    ("llama", Family::Llama),
    ("mistral", Family::Llama),
    ("Yi", Family::Llama),
    ("qwen2", Family::Qwen2),
    ("baichuan", Family::Baichuan2),
    ("internlm2", Family::InternLm2),
];

/// Fields of architectures whose layers hold other parameters, and what they are.
pub(in crate::models) const OTHER_LAYERS: [(&[&str], &str); 2] = [
    (
        &[
            "num_experts",
            "num_local_experts",
            "n_routed_experts",
            "n_shared_experts",
            "num_experts_per_tok",
            "moe_intermediate_size",
            "moe_config",
        ],
        "a mixture of experts",
    ),
    (
        &["q_lora_rank", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"],
        "a model with latent attention",
    ),
];

/// Reads a `config.json`. `json`: all bytes of the file.
///
/// `num_key_value_heads` absent is as many as heads, `head_dim` absent is the width divided by the heads; null is absent.
/// The fields and their defaults are those of `transformers`' `LlamaConfig`, `MistralConfig` and `Qwen2Config` and of the
/// `configuration_*.py` beside Baichuan 2 and InternLM 2.
///
/// # Errors
/// No JSON object, a field twice, a value of the wrong kind or out of range; a model type that is not known; a quantised
/// model, a mixture of experts, latent attention; biases for which mindformers' llama has no place.
pub fn from_config_json(json: &[u8]) -> Result<(ModelSpec, Family, HfFacts), SpecError> {
    let fields = Fields::read(json)?;
    let model_type = fields.text("model_type")?.ok_or(SpecError::Missing("model_type"))?;
    refuse_other_layers(&fields)?;
    let Some(&(_, family)) = TYPES.iter().find(|(name, _)| *name == model_type) else {
        let known = TYPES.map(|(name, _)| name).join(", ");
        let shown: String = model_type.chars().take(80).collect();
        return Err(SpecError::UnknownType { found: shown, known });
    };
    refuse_biases(&fields, family)?;
    let hidden = fields.required("hidden_size")?;
    let heads = fields.required("num_attention_heads")?;
    let kv_heads = fields.number("num_key_value_heads")?.unwrap_or(heads);
    let tied = fields.flag("tie_word_embeddings")?;
    let spec = ModelSpec {
        hidden,
        layers: layers(&fields, "num_hidden_layers")?,
        heads,
        kv_heads,
        head_dim: head_dim(&fields, "num_attention_heads", hidden, heads)?,
        ffn: fields.required("intermediate_size")?,
        vocab: fields.required("vocab_size")?,
        qkv_bias: family == Family::Qwen2,
        tied,
        fused: None,
        vocabulary_whole: false,
    };
    check_heads("num_key_value_heads", &spec)?;
    check_sizes(&spec)?;
    let torch_dtype = match fields.text("torch_dtype")? {
        Some(name) => Some(name),
        None => fields.text("dtype")?,
    };
    let facts = HfFacts {
        tie_word_embeddings: tied,
        torch_dtype: torch_dtype.map(str::to_owned),
        model_type: model_type.to_owned(),
    };
    Ok((spec, family, facts))
}

fn refuse_other_layers(fields: &Fields) -> Result<(), SpecError> {
    if let Some(field) = fields.first_of(&["quantization_config", "compression_config"]) {
        let method = fields.present(field).and_then(|value| value["quant_method"].as_str());
        return Err(SpecError::Quantised { field, method: method.map(|name| name.chars().take(80).collect()) });
    }
    for (names, what) in OTHER_LAYERS {
        if let Some(field) = fields.first_of(names) {
            return Err(SpecError::OtherLayers { what, field });
        }
    }
    Ok(())
}

/// Biases beyond those of q, k and v. Llama's `attention_bias` puts one on the output projection too, which mindformers'
/// llama has none of; Qwen 2 has q, k and v biases and no others, whatever the field says.
fn refuse_biases(fields: &Fields, family: Family) -> Result<(), SpecError> {
    let of_attention: &[&'static str] = match family {
        Family::Qwen2 => &[],
        Family::Baichuan2 | Family::InternLm2 => &["attention_bias", "bias"],
        Family::Llama | Family::Meta => &["attention_bias"],
    };
    for &field in of_attention {
        if fields.flag(field)? {
            let why = "the output projection has a bias too, for which mindformers' llama has no place";
            return Err(SpecError::NoPlace { field, why });
        }
    }
    if fields.flag("mlp_bias")? {
        let why = "the feed-forward projections have biases, for which mindformers' llama has no place";
        return Err(SpecError::NoPlace { field: "mlp_bias", why });
    }
    Ok(())
}

/// The number of layers.
pub(super) fn layers(fields: &Fields, field: &'static str) -> Result<u32, SpecError> {
    let layers = fields.required(field)?;
    u32::try_from(layers)
        .ok()
        .filter(|&layers| layers <= MAX_LAYERS)
        .ok_or_else(|| bad(field, &layers.into(), "a number of layers that a model can have"))
}

/// `head_dim`, or the width divided by the heads.
pub(super) fn head_dim(fields: &Fields, heads_field: &'static str, hidden: u64, heads: u64) -> Result<u64, SpecError> {
    match fields.number("head_dim")? {
        Some(given) => Ok(given),
        None if hidden.is_multiple_of(heads) => Ok(hidden / heads),
        None => Err(bad(heads_field, &heads.into(), "a divisor of the width")),
    }
}

/// Every kv head serves as many heads.
pub(super) fn check_heads(field: &'static str, spec: &ModelSpec) -> Result<(), SpecError> {
    if spec.heads.is_multiple_of(spec.kv_heads) {
        return Ok(());
    }
    Err(bad(field, &spec.kv_heads.into(), "a divisor of the number of heads"))
}

/// The dimensions make shapes: every one of them is small enough, but products may not be.
pub(super) fn check_sizes(spec: &ModelSpec) -> Result<(), SpecError> {
    let layer = ["attention.wq.weight", "feed_forward.w1.weight"].map(|suffix| format!("model.layers.0.{suffix}"));
    let mut largest = layer.iter().map(String::as_str).chain(["model.tok_embeddings.embedding_weight"]);
    match largest.find(|name| spec.shape(name).is_none()) {
        None => Ok(()),
        Some(name) => Err(SpecError::Unreadable(format!("its dimensions make `{name}` too large to be a tensor"))),
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
