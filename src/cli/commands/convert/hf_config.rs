//! The `config.json` of the way back says what is written: whether `lm_head` is the embedding, and the dtype.

use std::collections::BTreeSet;
use std::path::Path;

use super::Request;
use crate::Error;
use crate::cli::commands::note;
use crate::cli::config;
use crate::engine::{self, CancelToken};
use crate::input::{Input, InputError};
use crate::models::foreign::ConfigText;
use crate::plan::{self, Catalog, Compared, Plan, PlanError, SourceFile};
use crate::tensor::Dtype;

/// The fields of a dtype: of transformers before 4.56, and since.
const DTYPES: [&str; 2] = ["torch_dtype", "dtype"];
const TIED: &str = "tie_word_embeddings";

/// What of the written model its configuration must say.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Whether `lm_head` is the embedding, where the configuration says otherwise.
    pub tied: Option<bool>,
    /// The dtype of the weights, where they have one.
    pub dtype: Option<Dtype>,
}

/// Decides about `lm_head` where the configuration (`tied`) says otherwise than the ranks: what is the embedding byte for
/// byte is left out, what is not is kept. Returns what the configuration must say instead, where that is another thing.
pub(super) fn settle_head(
    request: &Request,
    input: &Input,
    files: &[SourceFile<'_>],
    catalog: &mut Catalog,
    tied: bool,
) -> Result<Option<bool>, Error> {
    match (catalog.has_head(), tied) {
        (true, true) if head_is_embedding(request, input, files, catalog)? => {
            catalog.leave_head_out();
            note(
                "lm_head.weight is equal to the embedding, and config.json says that they are one (tie_word_embeddings): \
                 it is left out",
            );
            Ok(None)
        }
        (true, true) => {
            note(
                "config.json says that lm_head is the embedding (tie_word_embeddings), but lm_head.weight differs from it: it is \
                 written, and the config.json that is written says false",
            );
            Ok(Some(false))
        }
        (false, false) => {
            note(
                "the model has no lm_head.weight of its own: the config.json that is written says that it is the embedding",
            );
            Ok(Some(true))
        }
        (true, false) | (false, true) => Ok(None),
    }
}

/// Whether `lm_head` holds the bytes of the embedding. Reads both up to the first difference, in pieces.
fn head_is_embedding(
    request: &Request,
    input: &Input,
    files: &[SourceFile<'_>],
    catalog: &Catalog,
) -> Result<bool, Error> {
    let Some((embedding, head)) = catalog.embedding_and_head() else { return Ok(false) };
    let (plan, places) = plan::compare(Compared::All, files, &embedding, files, &head);
    plan::prove_covered(&plan)?;
    let mappings = input.mappings();
    let engine = config::settle(&request.wishes, &mappings, None).config;
    let none = CancelToken::default();
    let found = engine::compare(&plan, &mappings, &mappings, &places, &engine, &engine::Noop, &none)?;
    Ok(found.is_empty())
}

/// A model without `lm_head` whose configuration does not say that it needs none is not whole, unless -y says so.
pub(super) fn explain_missing_head(error: Error, tied: bool) -> Error {
    let head = |names: &[String]| matches!(names, [one] if one == "lm_head.weight");
    match error {
        Error::Plan(e) if !tied && matches!(&*e, PlanError::Lacks(names) if head(names)) => {
            PlanError::HeadMissing.into()
        }
        other => other,
    }
}

/// The dtype of a plan's matrices, where they have one.
pub(super) fn dtype_of_weights(plan: &Plan) -> Option<Dtype> {
    let matrices = plan.outputs.iter().flat_map(|file| &file.tensors).filter(|t| t.shape.ndim() >= 2);
    let dtypes: BTreeSet<&str> = matrices.clone().map(|t| t.dtype.name()).collect();
    matrices.map(|t| t.dtype).next().filter(|_| dtypes.len() == 1)
}

/// Has a configuration say what is written. Returns its text, and the changes as sentences.
pub(super) fn corrected(path: &Path, json: &[u8], facts: &Facts) -> Result<(Vec<u8>, Vec<String>), Error> {
    let read = ConfigText::read(json);
    let text = read.map_err(|source| InputError::Model { name: path.display().to_string(), source })?;
    let mut changes: Vec<(&str, String)> = Vec::new();
    changes.extend(facts.tied.map(|tied| (TIED, tied.to_string())));
    let stated: Vec<_> = DTYPES.into_iter().filter_map(|field| Some((field, text.get(field)?))).collect();
    match facts.dtype.and_then(torch_name) {
        Some(name) => {
            let wanted = format!("\"{name}\"");
            changes
                .extend(stated.iter().filter(|(_, said)| *said != wanted).map(|(field, _)| (*field, wanted.clone())));
        }
        None => {
            for (field, said) in stated {
                note(&format!("the weights are of several dtypes; config.json keeps `{field}`: {said}"));
            }
        }
    }
    let sentence = |(field, value): &(&str, String)| match text.get(field) {
        Some(old) => format!("config.json: `{field}` is {value} (it was {old})"),
        None => format!("config.json: `{field}` is {value} (it was absent)"),
    };
    Ok((text.with(&changes).into_bytes(), changes.iter().map(sentence).collect()))
}

/// torch's name of a dtype.
fn torch_name(dtype: Dtype) -> Option<&'static str> {
    match dtype {
        Dtype::F16 => Some("float16"),
        Dtype::BF16 => Some("bfloat16"),
        Dtype::F32 => Some("float32"),
        Dtype::F64 => Some("float64"),
        _ => None,
    }
}
