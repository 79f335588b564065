//! Meta's releases: `params.json`.

use super::dialect::Dialect;
use super::error::SpecError;
use super::family::Family;
use super::fields::{Fields, Wanted, bad};
use super::model::Model;
use super::pattern::Captures;
use super::registry::families;

/// The kind of configuration, as family files call it.
const PARAMS_JSON: &str = "params.json";
/// Where Meta's files leave the number to the tensors.
const LEFT_OPEN: i64 = -1;
const VOCABULARY: &str = "vocab_size";
const FFN: &str = "hidden_dim";

/// Reads a `params.json`. `json`: all bytes of the file; `vocab_rows`, `ffn_rows`: the rows of the embedding and of the gate over
/// all shards, where they are known. Llama 2's leaves the size of the vocabulary to the tensors (`"vocab_size": -1`).
///
/// The tensors' ffn rows count more than Meta's rule, for they are there; a vocabulary that the file gives must be theirs.
///
/// # Errors
/// No JSON object, a field twice, a value of the wrong kind or out of range; a quantised model or a mixture of experts; a size that
/// neither the file nor the tensors show, or on which they differ.
pub fn from_params_json(json: &[u8], vocab_rows: Option<u64>, ffn_rows: Option<u64>) -> Result<Model, SpecError> {
    let mut fields = Fields::json(json)?;
    let family = of_meta().ok_or_else(|| SpecError::Unsupported(PARAMS_JSON.to_owned()))?;
    if fields.present(VOCABULARY).is_some_and(|value| value.as_i64() == Some(LEFT_OPEN)) {
        fields.remove(VOCABULARY);
    }
    let said = fields.value(VOCABULARY, Wanted::Size)?.and_then(|_| fields.present(VOCABULARY)?.as_u64());
    if let (Some(said), Some(found)) = (said, vocab_rows)
        && said != found
    {
        return Err(bad(VOCABULARY, &said.into(), "the number of rows of the embedding"));
    }
    // What the file says must be right even where the tensors count.
    for (field, wanted) in family.fields(PARAMS_JSON) {
        fields.value(&field, wanted)?;
    }
    for (field, rows) in [(VOCABULARY, vocab_rows), (FFN, ffn_rows)] {
        if let Some(rows) = rows {
            fields.set(field, rows);
        }
    }
    Model::of_fields(family, PARAMS_JSON, &fields)
}

/// The name of a parameter in Meta's releases; of the first layer, where it is one of a layer. `None`: they have none.
pub fn name_in_meta_release(param: &str) -> Option<String> {
    let family = of_meta()?;
    let row = Dialect::meta(family)?.row_of(family.param(param)?)?;
    row.pattern.name(Captures { layer: Some(0), expert: None })
}

/// The family of Meta's releases.
fn of_meta() -> Option<&'static Family> {
    let known = || families().iter().copied().filter(|family| !family.rules(PARAMS_JSON).is_empty());
    known().find(|family| family.usual).or_else(|| known().next())
}

#[cfg(test)]
mod tests {
    use super::super::builtin::builtin;
    use super::*;

    fn read(json: &str, vocab_rows: Option<u64>, ffn_rows: Option<u64>) -> Result<Model, SpecError> {
        from_params_json(json.as_bytes(), vocab_rows, ffn_rows)
    }

    #[test]
    fn the_published_files_give_the_built_in_models() {
        for (name, json, rows) in [
            (
                "llama2_7b",
                r#"{"dim":4096,"multiple_of":256,"n_heads":32,"n_layers":32,"norm_eps":1e-5,"vocab_size":-1}"#,
                32000,
            ),
            (
                "llama2_70b",
                r#"{"dim":8192,"multiple_of":4096,"ffn_dim_multiplier":1.3,"n_heads":64,"n_kv_heads":8,"n_layers":80,
                "norm_eps":1e-5,"vocab_size":-1}"#,
                32000,
            ),
            (
                "llama3_8b",
                r#"{"dim":4096,"n_layers":32,"n_heads":32,"n_kv_heads":8,"vocab_size":128256,"multiple_of":1024,
                "ffn_dim_multiplier":1.3,"norm_eps":1e-5,"rope_theta":500000.0}"#,
                128_256,
            ),
        ] {
            assert_eq!(read(json, Some(rows), None).unwrap(), builtin(name).unwrap(), "{name}");
        }
    }

    #[test]
    fn what_the_file_leaves_open_the_tensors_tell() {
        let open = r#"{"dim":64,"n_layers":2,"n_heads":4,"vocab_size":-1}"#;
        assert_eq!(read(open, None, Some(160)).unwrap_err(), SpecError::Missing("vocab_size".to_owned()));
        assert_eq!(read(open, Some(96), None).unwrap_err(), SpecError::Missing("multiple_of".to_owned()));
        let model = read(open, Some(96), Some(160)).unwrap();
        assert_eq!((model.vocab(), model.ffn(), model.kv_heads(), model.head_dim()), (96, Some(160), 4, 16));
        let said = r#"{"dim":64,"n_layers":2,"n_heads":4,"vocab_size":97,"multiple_of":32}"#;
        assert_eq!(read(said, None, None).unwrap().ffn(), Some(192), "170 rounded up");
        let by_tensors = read(said, None, Some(160)).unwrap();
        assert_eq!(by_tensors.ffn(), Some(160), "the tensors are there, the rule is only a rule");
        let error = read(said, Some(96), None).unwrap_err().to_string();
        assert!(error.contains("vocab_size") && error.contains("97"), "{error}");
        assert!(read(said, Some(97), Some(u64::MAX)).is_err(), "no tensor is that large");
    }

    #[test]
    fn wrong_and_foreign_params_are_refused_by_name() {
        let with = |field: &str| {
            let error =
                read(&format!(r#"{{{field},"n_layers":2,"n_heads":4,"vocab_size":96}}"#), None, None).unwrap_err();
            error.to_string()
        };
        for (field, name) in [
            (r#""dim":-1"#, "dim"),
            (r#""dim":66"#, "n_heads"),
            (r#""dim":12"#, "dim / n_heads"),
            (r#""dim":64,"n_kv_heads":3"#, "n_kv_heads"),
            (r#""dim":64,"multiple_of":0"#, "multiple_of"),
            (r#""dim":64,"multiple_of":32,"ffn_dim_multiplier":1e9"#, "ffn_dim_multiplier"),
            (r#""dim":64,"ffn_dim_multiplier":"1.3""#, "ffn_dim_multiplier"),
            (r#""dim":64,"moe":{"num_experts":8}"#, "moe"),
            (r#""dim":64,"quantization_args":{}"#, "quantization_args"),
            (r#""dim":64,"dim":64"#, "dim"),
        ] {
            let error = with(field);
            assert!(error.contains(name), "{field}: {error}");
        }
        for json in ["", "[]", "{}", r#"{"dim":64,"n_layers":2,"n_heads":4,"vocab_size":-2}"#] {
            assert!(read(json, None, None).is_err(), "{json}");
        }
    }
}
