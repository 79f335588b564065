//! The one rule: a file holds the pack of the rank's own share of each part.

use super::error::ModelError;
use super::family::{Family, Row};
use super::param::{Axis, Dims, Mesh, Param, ParamId, Role, Sizes};
use super::pattern::Captures;
use crate::layout::{Piece, Region};

/// Which share of the cut axes a rank has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its place among the tensor-parallel ranks, and their number.
    pub tensor: (u64, u64),
    /// Its place among the expert-parallel ranks, and their number.
    pub expert: (u64, u64),
    /// Whether every rank holds the embedding and the output projection whole (`vocab_emb_dp`).
    pub vocabulary_whole: bool,
}

impl Share {
    /// All of it: a file that is not cut.
    pub const WHOLE: Self = Self::of(0, 1);

    /// The share of one of `ranks` tensor-parallel ranks.
    pub const fn of(rank: u64, ranks: u64) -> Self {
        Self { tensor: (rank, ranks), expert: (0, 1), vocabulary_whole: false }
    }
}

/// A parameter in a stored tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPart {
    /// Which.
    pub id: ParamId,
    /// Where: a box of the parameter's canonical axes ([`Param::axes`]), and its place in the stored tensor.
    pub piece: Piece,
}

/// What a rank's file holds under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTensor {
    /// The dimensions in the file.
    pub dims: Vec<u64>,
    /// The parameters in it, which together are all of its elements, each once.
    pub parts: Vec<StoredPart>,
}

/// A parameter in a row of a scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PackPart {
    /// The parameter.
    pub param: u16,
    /// The file's dimensions, where they are not the canonical ones.
    pub dims: Option<Dims>,
}

/// How a stored tensor is made of parameters: for each index of the outer axes in turn, the parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pack {
    /// The axes that lead in every part. Empty: the parts follow one another whole.
    pub outer: Vec<Axis>,
    /// The stored dimension in which the parts are joined.
    pub dim: usize,
    /// The parts; one where the tensor is a parameter by itself.
    pub parts: Vec<PackPart>,
}

/// A stored axis of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// An axis of the model.
    Axis(Axis),
    /// An axis that is the checkpoint's own, such as the rank of an adapter; every rank holds all of it.
    Own(u64),
    /// Blocks of this many neighbours of several axes read as one: two columns in a byte, groups that share a scale.
    Blocks(Vec<Axis>, u64),
}

/// The stored dimensions of a part and the order of its axes in its whole.
pub(super) struct PartSlots {
    pub param: u16,
    /// In the file's order.
    pub stored: Vec<Vec<Slot>>,
    /// In canonical order.
    pub canonical: Vec<Slot>,
}

impl Family {
    /// What a rank's file holds under a name of this row.
    ///
    /// # Errors
    /// Ranks that do not divide an axis; dimensions beyond 64 bits.
    pub fn stored(&self, row: &Row, at: Captures, sizes: &Sizes, share: Share) -> Result<StoredTensor, ModelError> {
        let slots = |part: &PackPart| {
            let param = &self.params()[usize::from(part.param)];
            let of = |dims: &Dims| dims.iter().map(|dim| dim.iter().map(|&axis| Slot::Axis(axis)).collect()).collect();
            PartSlots {
                param: part.param,
                stored: of(part.dims.as_ref().unwrap_or(&param.dims)),
                canonical: param.axes().map(Slot::Axis).collect(),
            }
        };
        let parts: Vec<PartSlots> = row.pack.parts.iter().map(slots).collect();
        self.join(row, at, &parts, row.pack.outer.len(), sizes, share)
    }

    /// The parts one after the other, for each index of the `outer` leading axes in turn.
    pub(super) fn join(
        &self,
        row: &Row,
        at: Captures,
        parts: &[PartSlots],
        outer: usize,
        sizes: &Sizes,
        share: Share,
    ) -> Result<StoredTensor, ModelError> {
        let too_large = || ModelError::TooLarge(row.pattern.to_string());
        let parts = parts.iter().map(|part| self.share_of(part, at, sizes, share)).collect::<Result<Vec<_>, _>>()?;
        let blocks = parts.iter().map(|part| part.volume(outer)).collect::<Option<Vec<u64>>>();
        let blocks = blocks.ok_or_else(too_large)?;
        let step = blocks.iter().try_fold(0u64, |sum, &block| sum.checked_add(block)).ok_or_else(too_large)?;
        let mut dims = parts.first().map(|part| part.dims.clone()).unwrap_or_default();
        if let Some(joined) = dims.get_mut(row.pack.dim) {
            let lengths = parts.iter().map(|part| part.dims.get(row.pack.dim).copied().unwrap_or(1));
            *joined = lengths.fold(0u64, u64::saturating_add);
        }
        // Each stride below is at most the volume.
        dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim)).ok_or_else(too_large)?;
        let mut offset = 0;
        let mut stored = Vec::with_capacity(parts.len());
        for (part, block) in parts.iter().zip(blocks) {
            let id = ParamId { param: part.param, layer: at.layer };
            stored.push(StoredPart { id, piece: part.piece(outer, step, offset) });
            offset += block;
        }
        Ok(StoredTensor { dims, parts: stored })
    }

    /// A rank's share of a part.
    fn share_of<'a>(
        &self,
        part: &'a PartSlots,
        at: Captures,
        sizes: &Sizes,
        share: Share,
    ) -> Result<PartShare<'a>, ModelError> {
        let param = &self.params()[usize::from(part.param)];
        let too_large = || ModelError::TooLarge(param.id.clone());
        let mut dims = Vec::new();
        let mut axes = Vec::new();
        for dim in &part.stored {
            let mut length = 1u64;
            let before = axes.len();
            // A name that captures the expert is of a slice without that axis.
            for slot in dim.iter().filter(|slot| at.expert.is_none() || !self.is_expert(slot)) {
                let (start, len) = self.slot_range(param, slot, sizes, share)?;
                axes.push(SlotShare { slot, start, len });
                length = length.checked_mul(len).ok_or_else(too_large)?;
            }
            if axes.len() > before {
                dims.push(length);
            }
        }
        Ok(PartShare { param: part.param, dims, axes, canonical: &part.canonical, expert: at.expert })
    }

    fn is_expert(&self, slot: &Slot) -> bool {
        matches!(slot, Slot::Axis(axis) if self.axis_name(*axis) == EXPERT)
    }

    fn slot_range(&self, param: &Param, slot: &Slot, sizes: &Sizes, share: Share) -> Result<(u64, u64), ModelError> {
        match slot {
            Slot::Axis(axis) => self.range(param, *axis, sizes, share),
            Slot::Own(size) => Ok((0, *size)),
            Slot::Blocks(axes, by) => {
                let too_large = || ModelError::TooLarge(param.id.clone());
                // Only the outermost may be cut, else what a rank holds is not one range.
                let (mut start, mut len) = (0u64, 1u64);
                for (index, &axis) in axes.iter().enumerate() {
                    let (first, count) = self.range(param, axis, sizes, share)?;
                    if index > 0 && count != sizes.of(axis) {
                        return Err(ModelError::CutInside { param: param.id.clone() });
                    }
                    start = if index == 0 { first } else { start.checked_mul(count).ok_or_else(too_large)? };
                    len = len.checked_mul(count).ok_or_else(too_large)?;
                }
                if *by == 0 || start % by != 0 || len % by != 0 {
                    return Err(ModelError::Blocks { param: param.id.clone(), columns: len, by: *by });
                }
                Ok((start / by, len / by))
            }
        }
    }

    /// The first index and the number of indices that a rank holds of an axis of a parameter.
    fn range(&self, param: &Param, axis: Axis, sizes: &Sizes, share: Share) -> Result<(u64, u64), ModelError> {
        let size = sizes.of(axis);
        let Some(cut) = param.cut.iter().find(|cut| cut.axis == axis) else { return Ok((0, size)) };
        let (rank, ranks) = match cut.mesh {
            Mesh::Tensor => share.tensor,
            Mesh::Expert => share.expert,
        };
        let even = ranks > 0 && size.is_multiple_of(ranks);
        if matches!(param.role, Role::Embedding | Role::Head) && (share.vocabulary_whole || !even) {
            return Ok((0, size));
        }
        if !even && size > 0 && self.replicates(axis) && ranks % size == 0 {
            return Ok((rank * size / ranks, 1));
        }
        if !even {
            return Err(ModelError::DoesNotDivide { ranks, axis: self.axis_name(axis).to_owned(), size });
        }
        Ok((rank * (size / ranks), size / ranks))
    }
}

/// The axis that `{e}` in a name is an index of.
pub(super) const EXPERT: &str = "Expert";

struct SlotShare<'a> {
    slot: &'a Slot,
    start: u64,
    len: u64,
}

struct PartShare<'a> {
    param: u16,
    dims: Vec<u64>,
    /// In the file's order.
    axes: Vec<SlotShare<'a>>,
    canonical: &'a [Slot],
    expert: Option<u32>,
}

impl PartShare<'_> {
    /// The elements below `outer` leading axes.
    fn volume(&self, outer: usize) -> Option<u64> {
        self.axes.iter().skip(outer).try_fold(1u64, |n, axis| n.checked_mul(axis.len))
    }

    /// Where it is in the tensor: blocks of the part `step` apart, the first at `offset`.
    fn piece(&self, outer: usize, step: u64, offset: u64) -> Piece {
        let mut strides = vec![0; self.axes.len()];
        let mut stride = 1;
        for (at, axis) in self.axes.iter().enumerate().rev() {
            if at + 1 == outer {
                stride = step;
            }
            strides[at] = stride;
            stride *= axis.len;
        }
        let place = |slot: &Slot| match self.axes.iter().position(|share| share.slot == slot) {
            Some(at) => (self.axes[at].start, self.axes[at].len, strides[at]),
            // The axis that the name fixes.
            None => (self.expert.map_or(0, u64::from), 1, 0),
        };
        let canonical: Vec<(u64, u64, u64)> = self.canonical.iter().map(place).collect();
        let region = Region::new(canonical.iter().map(|c| c.0), canonical.iter().map(|c| c.1));
        Piece::new(region, offset, canonical.iter().map(|c| c.2))
    }
}
