//! The computed range: which bytes are what, as entries that shards refer to like those of a file.

use crate::formats::Entry;
use crate::layout::{Piece, Region};
use crate::plan::PlanError;
use crate::plan::catalog::{Catalog, LogicalTensor};
use crate::plan::shards::{Shard, Shards};
use crate::source::{ByteRange, Extents};
use crate::tensor::{Dtype, Shape, TensorName};

/// The computed range while it grows.
#[derive(Debug)]
pub(in crate::plan) struct Room {
    /// The index of the file that it will be.
    pub file: usize,
    pub bytes: Vec<u8>,
    pub entries: Vec<Entry>,
}

/// A vector or matrix in the computed range.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Where its bytes begin.
    pub at: u64,
    pub dtype: Dtype,
}

impl Room {
    pub(super) fn new(file: usize) -> Self {
        Self { file, bytes: Vec::new(), entries: Vec::new() }
    }

    /// Bytes for so many elements, all of the given value (its bytes in little-endian order).
    pub(super) fn reserve(&mut self, dtype: Dtype, elements: u64, value: &[u8]) -> Place {
        let at = self.bytes.len() as u64;
        let count = usize::try_from(elements).unwrap_or(usize::MAX);
        self.bytes.extend(value.iter().copied().cycle().take(count.saturating_mul(dtype.size_in_memory())));
        Place { at, dtype }
    }

    /// A tensor of the model (or a vector for its making) that is some of the elements of a place.
    pub(super) fn tensor(
        &mut self,
        name: &str,
        place: Place,
        first: u64,
        dims: &[u64],
        radices: &[u64],
    ) -> Result<LogicalTensor, PlanError> {
        let name = TensorName::from(name);
        let bad = |source| PlanError::Layout { name: name.to_string(), source };
        let shape = Shape::new(dims).map_err(|e| bad(e.into()))?;
        let range = ByteRange::new(place.at + first * place.dtype.size(), shape.bytes(place.dtype));
        let extents = range.map(Extents::contiguous).unwrap_or_default();
        self.entries.push(Entry { name: name.clone(), dtype: place.dtype, shape: shape.clone(), extents });
        let entry = self.entries.len() - 1;
        let axes: Vec<u64> = radices.iter().chain(dims.iter().skip(1)).copied().collect();
        let shard = Shard { file: self.file, entry, piece: Piece::dense(Region::whole(&axes)) };
        let shards = Shards::new(vec![shard], Vec::new());
        let radices = radices.to_vec();
        Ok(LogicalTensor {
            name,
            id: None,
            dtype: place.dtype,
            shape,
            radices,
            shards,
            loose: false,
            quantise: None,
            update: None,
        })
    }
}

/// A vector that is read to make others.
pub(super) fn hidden(catalog: &mut Catalog, tensor: LogicalTensor) -> usize {
    catalog.vectors.push(tensor);
    catalog.vectors.len() - 1
}
