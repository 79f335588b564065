//! The one rank of a target that holds what the one rank of the source holds, name by name, whatever it is.

use std::collections::HashMap;

use super::{Content, Kind, PlanError, TargetEntry, TargetRank};
use crate::layout::TensorLayout;
use crate::plan::SourceFile;
use crate::tensor::TensorName;

/// Every tensor of the files of one rank but those to be left out, whole; and the layouts of those that may be cut elsewhere.
///
/// # Errors
/// A name that two files hold.
pub fn copied(
    files: &[SourceFile<'_>],
    ignore: impl Fn(&str) -> bool,
) -> Result<(TargetRank, Vec<(String, TensorLayout)>), PlanError> {
    let mut entries = Vec::new();
    let mut layouts = Vec::new();
    let mut held: HashMap<&TensorName, usize> = HashMap::new();
    for (file, source) in files.iter().enumerate() {
        for (at, found) in source.entries.iter().enumerate().filter(|(_, entry)| !ignore(&entry.name)) {
            if let Some(other) = held.insert(&found.name, file) {
                return Err(PlanError::HeldTwice {
                    rank: source.rank,
                    name: found.name.to_string(),
                    first: files[other].path.clone(),
                    second: source.path.clone(),
                });
            }
            let kind = Kind::of_name(&found.name, found.dtype, &found.shape);
            if kind != Kind::Other {
                layouts.push((found.name.to_string(), TensorLayout::flat(1, found.shape.ndim(), None)));
            }
            entries.push(TargetEntry {
                name: found.name.clone(),
                dtype: found.dtype,
                shape: found.shape.clone(),
                kind,
                first_holder: true,
                layout: None,
                content: Content::Entry(file, at),
            });
        }
    }
    Ok((TargetRank { rank: 0, entries }, layouts))
}
