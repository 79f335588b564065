//! `manifest.json`: what was written, from what, with what sums. Written last, so its presence means "complete".

use serde_json::{Value, json};

use crate::engine::RunSummary;
use crate::plan::Plan;

/// Where a conversion's result comes from.
#[derive(Clone, Debug, Default)]
pub struct Provenance {
    /// The options that decided the result, by name.
    pub options: Vec<(String, String)>,
}

/// The manifest of a finished run.
pub fn manifest(plan: &Plan, summary: &RunSummary, provenance: &Provenance) -> Vec<u8> {
    let inputs: Vec<Value> = plan
        .sources
        .iter()
        .map(|s| json!({"path": s.path.display().to_string(), "length": s.len, "rank": s.rank}))
        .collect();
    let files: Vec<Value> =
        plan.outputs.iter().map(|f| json!({"path": f.path, "rank": f.rank, "length": f.layout.len()})).collect();
    let mut tensors = Vec::new();
    for (file, results) in plan.outputs.iter().zip(&summary.tensors) {
        let places = file.layout.extents(file.tensors.len());
        for ((tensor, result), place) in file.tensors.iter().zip(results).zip(places) {
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
            tensors.push(entry);
        }
    }
    let options: serde_json::Map<String, Value> =
        provenance.options.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let manifest = json!({
        "manifest_version": 1,
        "tool": {"name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION")},
        "options": options,
        "inputs": inputs,
        "files": files,
        "tensors": tensors,
    });
    let mut text = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
    text.push(b'\n');
    text
}
