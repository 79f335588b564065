//! `manifest.json`: what was written, from what, with what sums. Written last, so its presence means "complete".
//!
//! Streamed to the file: a checkpoint of many ranks has hundreds of thousands of tensors.

use std::cell::RefCell;
use std::io::{self, Write};

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::Choice;
use crate::cluster::PartManifest;
use crate::engine::{QuantError, RunSummary, TensorResult};
use crate::plan::{OutputFile, OutputTensor, Plan};
use crate::report::remarks::{infinite, is_zero};
use crate::source::Extents;

/// Where a conversion's result comes from.
#[derive(Clone, Debug, Default)]
pub struct Provenance {
    /// The options that decided the result, by name.
    pub options: Vec<(String, Value)>,
    /// Decisions and their reasons.
    pub choices: Vec<Choice>,
    /// The fingerprint of the plan.
    pub plan: String,
    /// The checksum of the strategies that are written with it, where any are.
    pub strategies: Option<String>,
    /// Which part of a whole it is, where it is one.
    pub part: Option<PartOf>,
}

/// A part of a conversion whose other parts are published elsewhere.
#[derive(Clone, Debug)]
pub struct PartOf {
    /// Which part, as `0 of 2`.
    part: String,
    /// The files of the whole, as its manifest lists them.
    whole: Vec<Value>,
}

impl PartOf {
    /// A part of what this plan writes.
    pub fn new(part: String, whole: &Plan) -> Self {
        Self { part, whole: whole.outputs.iter().map(file_entry).collect() }
    }
}

fn file_entry(file: &OutputFile) -> Value {
    json!({"path": file.path, "rank": file.rank, "length": file.layout.len()})
}

/// Writes the manifest of a finished run.
///
/// # Errors
/// What the writer says.
pub fn manifest(plan: &Plan, summary: &RunSummary, provenance: &Provenance, to: &mut dyn Write) -> io::Result<()> {
    let options: Map<String, Value> = provenance.options.iter().cloned().collect();
    let manifest = Manifest {
        version: 1,
        tool: json!({"name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION")}),
        plan: &provenance.plan,
        strategies: provenance.strategies.as_deref(),
        part: provenance.part.as_ref().map(|p| p.part.as_str()),
        options,
        choices: provenance.choices.iter().map(|choice| json!(choice)).collect(),
        inputs: Each::new(
            plan.sources.iter().map(|s| json!({"path": s.path.display().to_string(), "length": s.len, "rank": s.rank})),
        ),
        files: Each::new(plan.outputs.iter().map(file_entry)),
        quantised: summary.quantised.iter().map(quantised_entry).collect(),
        tensors: Each::new(plan.outputs.iter().zip(&summary.tensors).flat_map(|(file, results)| {
            let places = file.layout.extents(file.tensors.len());
            let tensors = file.tensors.iter().zip(results).zip(places);
            tensors.map(move |((tensor, result), place)| tensor_entry(file, tensor, *result, &place))
        })),
        whole: provenance.part.as_ref().map(|p| p.whole.as_slice()),
    };
    serde_json::to_writer_pretty(&mut *to, &manifest)?;
    to.write_all(b"\n")
}

/// Writes the manifest of a whole whose parts' manifests were joined: what one host would have written.
///
/// # Errors
/// What the writer says.
pub fn write_merged(merged: PartManifest, to: &mut dyn Write) -> io::Result<()> {
    let manifest = Manifest {
        version: 1,
        tool: merged.tool,
        plan: &merged.plan,
        strategies: merged.strategies.as_deref(),
        part: None,
        options: merged.options,
        choices: merged.choices,
        inputs: Each::new(merged.inputs.into_iter()),
        files: Each::new(merged.files.into_iter()),
        quantised: merged.quantised,
        tensors: Each::new(merged.tensors.into_iter()),
        whole: None,
    };
    serde_json::to_writer_pretty(&mut *to, &manifest)?;
    to.write_all(b"\n")
}

#[derive(Serialize)]
#[serde(bound = "")]
struct Manifest<'a, I, F, T>
where
    Each<I>: Serialize,
    Each<F>: Serialize,
    Each<T>: Serialize,
{
    #[serde(rename = "manifest_version")]
    version: u32,
    tool: Value,
    plan: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    strategies: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<&'a str>,
    options: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    choices: Vec<Value>,
    inputs: Each<I>,
    files: Each<F>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    quantised: Vec<Value>,
    tensors: Each<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    whole: Option<&'a [Value]>,
}

/// A list that is made while it is written, once.
struct Each<I>(RefCell<Option<I>>);

impl<I> Each<I> {
    fn new(items: I) -> Self {
        Self(RefCell::new(Some(items)))
    }
}

impl<I: Iterator<Item = Value>> Serialize for Each<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for item in self.0.take().into_iter().flatten() {
            list.serialize_element(&item)?;
        }
        list.end()
    }
}

/// What quantising did to a matrix, over all ranks.
fn quantised_entry(error: &QuantError) -> Value {
    json!({
        "name": error.name.as_str(),
        "max_error": error.greatest,
        "rms_error": error.rms,
        "rms": error.rms_of_elements,
        "clipped": error.clipped,
    })
}

fn tensor_entry(file: &OutputFile, tensor: &OutputTensor, result: TensorResult, place: &Extents) -> Value {
    let mut entry = json!({
        "name": tensor.name.as_str(),
        "dtype": tensor.dtype.name(),
        "shape": tensor.shape.dims(),
        "rank": file.rank,
        "file": file.path,
        "offset": place.parts().first().map_or(0, |(_, range)| range.start()),
        "length": place.len(),
        "hash": format!("crc64nvme:{}", result.sum),
    });
    if place.parts().len() > 1 {
        // A parameter above 512 MiB lies in several records of a .ckpt.
        entry["extents"] = place.parts().iter().map(|(_, r)| json!([r.start(), r.len()])).collect();
    }
    if result.overflowed > 0 {
        entry["overflowed"] = json!(result.overflowed);
    }
    for (what, count) in [("nan", result.values.nan), ("infinite", infinite(result))] {
        if count > 0 {
            entry[what] = json!(count);
        }
    }
    if is_zero(tensor, result) {
        entry["zero"] = json!(true);
    }
    entry
}
