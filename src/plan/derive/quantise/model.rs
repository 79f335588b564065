//! A quantised model as a value: its catalog, and the numbers that are computed for it.

use std::collections::HashMap;
use std::path::PathBuf;

use super::linear::Linear;
use super::room::Room;
use crate::plan::SourceFile;
use crate::plan::calculation::CacheScales;
use crate::plan::catalog::{Catalog, LogicalTensor};

/// A quantised model: its tensors, and what must be computed.
#[derive(Debug)]
pub struct QuantisedModel {
    /// The tensors.
    pub catalog: Catalog,
    pub(in crate::plan) room: Room,
    pub(in crate::plan) linears: Vec<Linear>,
    pub(in crate::plan) caches: Vec<CacheScales>,
    /// Tensors that are computed instead of kept.
    pub(super) replaced: HashMap<String, LogicalTensor>,
}

/// The computed range as the file after the source's files, for plans that use it.
pub fn computed_file(model: &QuantisedModel) -> SourceFile<'_> {
    SourceFile {
        path: PathBuf::from("(computed)"),
        rank: 0,
        bytes: &model.room.bytes,
        entries: &model.room.entries,
        ahead: None,
    }
}
