//! Hugging Face's `config.json`: the dimensions and the family.

use super::super::{ModelSpec, SpecError};
use super::Family;

/// Reads a `config.json`. `json`: all bytes of the file.
///
/// # Errors
/// As [`crate::model::from_config_json`]; a family without names here.
pub fn from_config_json(json: &[u8]) -> Result<(ModelSpec, Family), SpecError> {
    let model = crate::model::from_config_json(json)?;
    let family = match model.family().name.as_str() {
        "llama" => Family::Llama,
        "qwen2" => Family::Qwen2,
        "baichuan2" => Family::Baichuan2,
        "internlm2" => Family::InternLm2,
        other => return Err(SpecError::Unsupported(other.to_owned())),
    };
    Ok((ModelSpec::of(&model), family))
}
