//! What running a llama needs to know beyond its dimensions: two numbers, and whether anything is unlike plain llama.

use serde_json::Value as Json;

use super::error::SpecError;
use super::fields::show;
use super::yaml_text::{check_size, read};

/// What a configuration says of the arithmetic. What it does not say is `None`: nothing is guessed.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RunFacts {
    /// What is added to the mean square in an RMS norm.
    pub norm_eps: Option<f64>,
    /// The base of the rotary embedding's wavelengths.
    pub rope_theta: Option<f64>,
    /// Where the configuration states two rotary bases and which of them counts, as a sentence.
    pub ambiguity: Option<String>,
    /// Something that changes the arithmetic and is not computed here, as the configuration states it.
    pub unknown: Option<String>,
}

impl RunFacts {
    /// Those of a built-in model. Source: the models' published `config.json`.
    pub fn builtin(name: &str) -> Option<Self> {
        let (norm_eps, rope_theta) = match super::builtin::builtin_name(name)? {
            "llama2_7b" | "llama2_13b" | "llama2_70b" => (1e-5, 10_000.0),
            "llama3_8b" | "llama3_70b" => (1e-5, 500_000.0),
            "qwen2_7b" => (1e-6, 1_000_000.0),
            _ => return None,
        };
        Some(Self { norm_eps: Some(norm_eps), rope_theta: Some(rope_theta), ..Self::default() })
    }

    /// Reads a mindformers yaml: `rms_norm_eps`, `theta`, `extend_method` of `model.model_config`.
    ///
    /// # Errors
    /// No yaml, or a value that is no number of the right size.
    pub fn from_yaml(text: &str) -> Result<Self, SpecError> {
        let root = read(text)?;
        let config = &root["model"]["model_config"];
        let number = |field: &'static str| match &config[field] {
            Json::Null => Ok(None),
            Json::String(text) if text == "None" => Ok(None),
            // Python reads 1e-5 without a point as a string, and so may the authors of these files.
            Json::String(text) => positive(field, &config[field], text.parse().ok()),
            value => positive(field, value, value.as_f64()),
        };
        let extended = match &config["extend_method"] {
            Json::Null => None,
            Json::String(text) if text == "None" => None,
            Json::String(text) => Some(format!("`extend_method: {text}`")),
            _ => Some("`extend_method`".to_owned()),
        };
        Ok(Self {
            norm_eps: number("rms_norm_eps")?,
            rope_theta: number("theta")?,
            unknown: extended,
            ..Self::default()
        })
    }

    /// Reads Hugging Face's `config.json`: `rms_norm_eps`, `rope_theta`, `rope_parameters`, `rope_scaling`, `hidden_act`,
    /// `partial_rotary_factor`.
    ///
    /// The rotary base is that of `transformers` 5 (`modeling_rope_utils.py`, `convert_rope_params_to_dict`): a `rope_scaling`
    /// that is not empty takes the place of `rope_parameters`, and a base in there goes before the field `rope_theta`, which
    /// is the only one that `transformers` 4 knows.
    ///
    /// # Errors
    /// No JSON, or a value that is no number of the right size.
    pub fn from_config_json(json: &[u8]) -> Result<Self, SpecError> {
        check_size(json.len())?;
        let root: Json = serde_json::from_slice(json).map_err(|e| SpecError::Unreadable(e.to_string()))?;
        let number = |field: &'static str, value: &Json| match value {
            Json::Null => Ok(None),
            value => positive(field, value, value.as_f64()),
        };
        let filled = |name: &&str| root[*name].as_object().is_some_and(|object| !object.is_empty());
        let rope = ["rope_scaling", "rope_parameters"].into_iter().find(filled);
        let inner = rope.map_or(Ok(None), |name| number("rope_theta", &root[name]["rope_theta"]))?;
        let outer = number("rope_theta", &root["rope_theta"])?;
        #[expect(clippy::float_cmp, reason = "one file says the same in the same digits, or not")]
        let ambiguity = match (rope, inner, outer) {
            (Some(name), Some(inner), Some(outer)) if inner != outer => Some(format!(
                "`rope_theta` is {outer}, that of `{name}` is {inner}: transformers 5 takes {inner}, transformers 4 takes {outer}"
            )),
            _ => None,
        };
        let mut unknown = None;
        for (name, found) in [
            ("rope_scaling", is_scaled(&root["rope_scaling"])),
            ("rope_parameters", is_scaled(&root["rope_parameters"])),
            ("hidden_act", !root["hidden_act"].is_null() && root["hidden_act"] != "silu"),
            ("partial_rotary_factor", is_partial(&root["partial_rotary_factor"])),
        ] {
            if found {
                let shown: String = root[name].to_string().chars().take(80).collect();
                unknown.get_or_insert(format!("`{name}: {shown}`"));
            }
        }
        let norm_eps = number("rms_norm_eps", &root["rms_norm_eps"])?;
        Ok(Self { norm_eps, rope_theta: inner.or(outer), ambiguity, unknown })
    }
}

/// Whether a `rope_scaling` or `rope_parameters` is of another kind than `default`, which transformers 5 takes an absent one
/// for. Old files of other kinds may leave it out as well, but they have a factor; parameters for each type of layer are
/// objects themselves.
fn is_scaled(rope: &Json) -> bool {
    let Some(fields) = rope.as_object() else { return !rope.is_null() };
    let kind = ["rope_type", "type"].into_iter().map(|name| &rope[name]).find(|kind| !kind.is_null());
    let changes = |name: &str| !matches!(name, "rope_theta" | "rope_type" | "type" | "partial_rotary_factor");
    let plain = match kind {
        Some(kind) => kind == "default",
        None => !fields.keys().any(|name| changes(name)),
    };
    !plain || is_partial(&rope["partial_rotary_factor"])
}

/// Whether a `partial_rotary_factor` leaves columns as they are.
fn is_partial(factor: &Json) -> bool {
    !factor.is_null() && factor.as_f64() != Some(1.0)
}

/// A positive number that single precision holds, or why it is none.
fn positive(field: &'static str, shown: &Json, value: Option<f64>) -> Result<Option<f64>, SpecError> {
    let fits = |v: &f64| (1e-30..1e30).contains(v);
    let bad =
        || SpecError::BadValue { field: field.to_owned(), value: show(shown), wanted: "a positive number".to_owned() };
    value.filter(fits).map(Some).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_yaml_says_what_it_says_and_nothing_is_guessed() {
        let of = |more: &str| RunFacts::from_yaml(&format!("model:\n  model_config:\n    num_layers: 2\n{more}"));
        assert_eq!(of("").unwrap(), RunFacts::default());
        let found = of("    rms_norm_eps: 1e-6\n    theta: 500000\n    extend_method: \"None\"\n").unwrap();
        assert_eq!(found, RunFacts { norm_eps: Some(1e-6), rope_theta: Some(5e5), ..RunFacts::default() });
        assert!(of("    extend_method: NTK\n").unwrap().unknown.unwrap().contains("NTK"));
        assert!(of("    theta: -1\n").unwrap_err().to_string().contains("theta"));
    }

    #[test]
    fn a_config_json_names_what_is_unlike_plain_llama() {
        let of = |json: &str| RunFacts::from_config_json(json.as_bytes()).unwrap();
        let plain = of(r#"{"rms_norm_eps": 1e-05, "rope_theta": 10000.0, "rope_scaling": null, "hidden_act": "silu"}"#);
        assert_eq!(plain, RunFacts { norm_eps: Some(1e-5), rope_theta: Some(1e4), ..RunFacts::default() });
        let newer = of(r#"{"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}"#);
        assert_eq!(newer, RunFacts { norm_eps: None, rope_theta: Some(5e5), ..RunFacts::default() });
        // The precedence is that of transformers 5.24 (`LlamaConfig(**fields).rope_parameters`).
        for (json, theta, said) in [
            (r#"{"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}"#, 5e5, true),
            (r#"{"rope_theta": 5e5, "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}"#, 5e5, false),
            (r#"{"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5}}"#, 5e5, true),
            (r#"{"rope_theta": 1e4, "rope_parameters": {"rope_type": "default"}}"#, 1e4, false),
            (r#"{"rope_theta": 1e4, "rope_scaling": {}, "rope_parameters": {"rope_theta": 5e5}}"#, 5e5, true),
            (
                r#"{"rope_scaling": {"type": "default", "rope_theta": 7e3}, "rope_parameters": {"rope_theta": 5e5}}"#,
                7e3,
                false,
            ),
        ] {
            let found = of(json);
            assert_eq!((found.rope_theta, found.ambiguity.is_some()), (Some(theta), said), "{json}");
            assert_eq!(found.unknown, None, "{json}");
        }
        for json in [
            r#"{"rope_parameters": {"rope_theta": 5e5, "factor": 8.0}}"#,
            r#"{"rope_parameters": {"rope_theta": 5e5, "rope_type": "default", "partial_rotary_factor": 0.5}}"#,
            r#"{"rope_parameters": {"full_attention": {"rope_theta": 5e5}}}"#,
            r#"{"rope_scaling": {"type": "linear"}}"#,
        ] {
            assert!(of(json).unknown.is_some_and(|what| what.contains("rope_")), "{json}");
        }
        let scaled = of(r#"{"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}"#);
        assert!(scaled.unknown.unwrap().contains("rope_scaling"));
        assert!(of(r#"{"hidden_act": "gelu"}"#).unknown.unwrap().contains("gelu"));
        assert!(RunFacts::from_config_json(br#"{"rms_norm_eps": "x"}"#).is_err());
    }
}
