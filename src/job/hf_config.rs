//! The `config.json` of the way back says what is written: whether `lm_head` is the embedding, and the dtype.

use std::collections::BTreeSet;
use std::path::Path;

use super::head::Correction;
use super::observer::Observer;
use crate::Error;
use crate::input::InputError;
use crate::model::ConfigText;
use crate::plan::Plan;
use crate::report::Choice;
use crate::tensor::Dtype;

/// The fields of a dtype: of transformers before 4.56, and since.
const DTYPES: [&str; 2] = ["torch_dtype", "dtype"];
const TIED: &str = "tie_word_embeddings";

/// What of the written model its configuration must say.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Whether `lm_head` is the embedding, where the configuration says otherwise.
    pub tied: Option<Correction>,
    /// The dtype of the weights, where they have one.
    pub dtype: Option<Dtype>,
}

/// The dtype of a plan's matrices, where they have one.
pub(super) fn dtype_of_weights(plan: &Plan) -> Option<Dtype> {
    let matrices = plan.outputs.iter().flat_map(|file| &file.tensors).filter(|t| t.shape.ndim() >= 2);
    let dtypes: BTreeSet<&str> = matrices.clone().map(|t| t.dtype.name()).collect();
    matrices.map(|t| t.dtype).next().filter(|_| dtypes.len() == 1)
}

/// Has a configuration say what is written. Returns its text, and each change as a decision.
pub(super) fn corrected(
    path: &Path,
    json: &[u8],
    facts: &Facts,
    observer: &dyn Observer,
) -> Result<(Vec<u8>, Vec<Choice>), Error> {
    let read = ConfigText::read(json);
    let text = read.map_err(|source| InputError::Model { name: path.display().to_string(), source })?;
    let mut changes: Vec<(&str, String)> = Vec::new();
    let mut choices = Vec::new();
    let mut change = |field: &'static str, value: String, why: &str| {
        let was = text.get(field).unwrap_or("absent");
        choices.push(Choice::new(format!("`{field}` in config.json"), &value, format!("it was {was}{why}")));
        changes.push((field, value));
    };
    if let Some((tied, why)) = &facts.tied {
        change(TIED, tied.to_string(), &format!("; {why}"));
    }
    let stated = DTYPES.into_iter().filter_map(|field| Some((field, text.get(field)?)));
    match facts.dtype.and_then(torch_name).map(|name| format!("\"{name}\"")) {
        Some(wanted) => {
            stated.filter(|(_, said)| *said != wanted).for_each(|(field, _)| change(field, wanted.clone(), ""));
        }
        None => {
            for (field, said) in stated {
                observer.note(&format!("the weights are of several dtypes; config.json keeps `{field}`: {said}"));
            }
        }
    }
    Ok((text.with(&changes).into_bytes(), choices))
}

/// torch's name of a dtype.
pub(super) fn torch_name(dtype: Dtype) -> Option<&'static str> {
    match dtype {
        Dtype::F16 => Some("float16"),
        Dtype::BF16 => Some("bfloat16"),
        Dtype::F32 => Some("float32"),
        Dtype::F64 => Some("float64"),
        _ => None,
    }
}
