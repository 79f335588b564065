//! A quantised model as a value: its catalog, and the numbers that are computed for it.

use std::collections::HashMap;
use std::path::PathBuf;

use super::linear::Linear;
use super::room::Room;
use crate::plan::SourceFile;
use crate::plan::calculation::CacheScales;
use crate::plan::catalog::{Catalog, LogicalTensor};
use crate::plan::evidence::{Evidence, InFile, InMemory, Unread};

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
        len: model.room.bytes.len() as u64,
        entries: &model.room.entries,
    }
}

/// What a source holds and what is computed from it, for plans that use [`computed_file`].
pub struct ComputedEvidence<'a> {
    source: &'a dyn Evidence,
    file: usize,
    computed: InMemory<'a>,
}

impl<'a> ComputedEvidence<'a> {
    /// Of a model, and what knows its source.
    pub fn new(source: &'a dyn Evidence, model: &'a QuantisedModel) -> Self {
        let room = &model.room;
        Self { source, file: room.file, computed: InMemory(vec![(&room.bytes, &room.entries)]) }
    }

    /// What knows a tensor, and the tensor's name there.
    fn of(&self, (file, entry): InFile) -> (&dyn Evidence, InFile) {
        if file == self.file { (&self.computed, (0, entry)) } else { (self.source, (file, entry)) }
    }
}

impl Evidence for ComputedEvidence<'_> {
    fn same(&self, one: InFile, other: InFile) -> Result<bool, Unread> {
        // What is computed later is nothing that is there.
        if (one.0 == self.file) != (other.0 == self.file) {
            return Ok(false);
        }
        let (who, one) = self.of(one);
        who.same(one, self.of(other).1)
    }

    fn is_constant(&self, tensor: InFile) -> Result<bool, Unread> {
        let (who, tensor) = self.of(tensor);
        who.is_constant(tensor)
    }

    fn beginning(&self, tensor: InFile, len: u64) -> Result<Option<u64>, Unread> {
        let (who, tensor) = self.of(tensor);
        who.beginning(tensor, len)
    }
}
