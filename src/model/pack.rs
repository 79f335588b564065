//! The one rule: a file holds the pack of the rank's own share of each part.

use smallvec::SmallVec;

use super::error::ModelError;
use super::family::Family;
use super::param::{Axis, Dims, Mesh, Param, ParamId, Role, Sizes};
use super::pattern::Captures;
use super::scheme::{EXPERT, PackPart, Row};
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
    /// Where: a box of the parameter's canonical axes, and its place in the stored tensor. Its axes are those of dimension 0
    /// ([`Canonical::rows`](super::Canonical::rows)) and then one for each further dimension.
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

/// An axis of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot<'a> {
    /// Axes of the model read as one, in blocks of this many neighbours: two columns in a byte, groups that share a scale.
    Axes(&'a [Axis], u64),
    /// The same in blocks of which the last may be smaller: what shares a scale in two dimensions.
    Blocks {
        /// The axes.
        axes: &'a [Axis],
        /// How many neighbours are a block.
        by: u64,
        /// Whether they are rows, for what is said of them.
        rows: bool,
    },
    /// An axis that is the checkpoint's own, such as the rank of an adapter; every rank holds all of it.
    Own(u64),
}

impl<'a> Slot<'a> {
    /// The axes of the model in it.
    pub(super) fn axes(self) -> &'a [Axis] {
        match self {
            Slot::Axes(axes, _) | Slot::Blocks { axes, .. } => axes,
            Slot::Own(_) => &[],
        }
    }

    /// Whether it begins with an axis.
    pub(super) fn begins(self, axis: Axis) -> bool {
        self.axes().first() == Some(&axis)
    }
}

/// The axes of the pieces of a part, and its stored dimensions.
pub(super) struct PartSlots<'a> {
    pub param: u16,
    /// In canonical order.
    pub slots: SmallVec<[Slot<'a>; 6]>,
    /// In the file's order, each dimension by the places of its axes in `slots`.
    pub stored: SmallVec<[SmallVec<[usize; 4]>; 4]>,
    /// How many of the stored axes lead in every part.
    pub outer: usize,
}

/// The axes of the pieces of a parameter: those of dimension 0 one by one, the further dimensions as one axis each.
pub(super) fn axes_of_pieces(dims: &Dims) -> impl Iterator<Item = Slot<'_>> {
    let rows = dims.first().into_iter().flatten().map(|axis| Slot::Axes(std::slice::from_ref(axis), 1));
    rows.chain(dims.iter().skip(1).map(|dim| Slot::Axes(dim, 1)))
}

/// Where the axes of a stored dimension are among `slots`. A slot of several axes is where its first is: a file keeps them together.
pub(super) fn places(dim: impl IntoIterator<Item = Axis>, slots: &[Slot<'_>]) -> SmallVec<[usize; 4]> {
    dim.into_iter().filter_map(|axis| slots.iter().position(|slot| slot.begins(axis))).collect()
}

/// How many of `slots` are axes that lead in every part.
pub(super) fn leading(outer: &[Axis], slots: &[Slot<'_>]) -> usize {
    outer.iter().filter(|axis| slots.iter().any(|slot| slot.begins(**axis))).count()
}

impl Family {
    /// What a rank's file holds under a name of this row.
    ///
    /// # Errors
    /// Ranks that do not divide an axis; dimensions beyond 64 bits.
    pub fn stored(&self, row: &Row, at: Captures, sizes: &Sizes, share: Share) -> Result<StoredTensor, ModelError> {
        let parts: SmallVec<[PartSlots<'_>; 4]> = row.pack.parts.iter().map(|part| self.slots(row, part)).collect();
        self.join(row, at, &parts, row.pack.dim, sizes, share)
    }

    /// Whether a rank's file has a name of this row: of names that number the experts, those of its own.
    ///
    /// # Errors
    /// Ranks that do not divide an axis.
    pub fn holds(&self, row: &Row, at: Captures, sizes: &Sizes, share: Share) -> Result<bool, ModelError> {
        let (Some(expert), Some(axis), Some(param)) = (at.expert, self.axis(EXPERT), row.params().next()) else {
            return Ok(true);
        };
        let (start, count) = self.range(&self.params()[usize::from(param)], axis, sizes, share)?;
        Ok((start..start + count).contains(&u64::from(expert)))
    }

    fn slots<'a>(&'a self, row: &Row, part: &'a PackPart) -> PartSlots<'a> {
        let canonical = &self.params()[usize::from(part.param)].dims;
        let slots: SmallVec<[Slot<'_>; 6]> = axes_of_pieces(canonical).collect();
        let stored = part.dims.as_ref().unwrap_or(canonical).iter();
        let stored = stored.map(|dim| places(dim.iter().copied(), &slots)).collect();
        PartSlots { param: part.param, outer: leading(&row.pack.outer, &slots), slots, stored }
    }

    /// The parts one after the other, for each index of the outer axes in turn, which lengthens the stored dimension `joined`.
    pub(super) fn join(
        &self,
        row: &Row,
        at: Captures,
        parts: &[PartSlots<'_>],
        joined: usize,
        sizes: &Sizes,
        share: Share,
    ) -> Result<StoredTensor, ModelError> {
        let too_large = || ModelError::TooLarge(row.pattern.to_string());
        let parts = parts.iter().map(|part| self.share_of(part, at, sizes, share));
        let parts = parts.collect::<Result<SmallVec<[PartShare<'_>; 4]>, _>>()?;
        let mut dims = parts.first().map(|part| part.dims.to_vec()).unwrap_or_default();
        if let Some(length) = dims.get_mut(joined) {
            let mut lengths = parts.iter().map(|part| part.dims.get(joined).copied().unwrap_or(1));
            *length = lengths.try_fold(0u64, u64::checked_add).ok_or_else(too_large)?;
        }
        // No stride and no offset below is larger than the volume.
        dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim)).ok_or_else(too_large)?;
        let step = parts.iter().map(PartShare::volume).try_fold(0u64, u64::checked_add);
        let step = step.ok_or_else(too_large)?;
        let mut offset = 0;
        let mut stored = Vec::with_capacity(parts.len());
        for part in &parts {
            let id = ParamId { param: part.param, layer: at.layer };
            stored.push(StoredPart { id, piece: part.piece(step, offset) });
            offset += part.volume();
        }
        Ok(StoredTensor { dims, parts: stored })
    }

    /// A rank's share of a part.
    fn share_of<'a>(
        &self,
        part: &'a PartSlots<'_>,
        at: Captures,
        sizes: &Sizes,
        share: Share,
    ) -> Result<PartShare<'a>, ModelError> {
        let param = &self.params()[usize::from(part.param)];
        let too_large = || ModelError::TooLarge(param.id.clone());
        let mut ranges: SmallVec<[Range; 6]> = SmallVec::new();
        for slot in &part.slots {
            // A name that captures the expert is of a slice without that axis.
            let index = at.expert.filter(|_| self.is_expert(*slot));
            ranges.push(match index {
                Some(index) => Range { start: index.into(), len: 1, fixed: true },
                None => self.slot_range(param, *slot, sizes, share)?,
            });
        }
        let stored = |place: &&usize| !ranges[**place].fixed;
        let mut dims = SmallVec::new();
        for dim in part.stored.iter().filter(|dim| dim.iter().any(|place| stored(&place))) {
            let lengths = dim.iter().filter(stored).map(|&place| ranges[place].len);
            dims.push(lengths.into_iter().try_fold(1u64, u64::checked_mul).ok_or_else(too_large)?);
        }
        dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim)).ok_or_else(too_large)?;
        Ok(PartShare { param: part.param, outer: part.outer, stored: &part.stored, dims, ranges })
    }

    pub(super) fn is_expert(&self, slot: Slot<'_>) -> bool {
        matches!(slot, Slot::Axes([axis], _) if self.axis_name(*axis) == EXPERT)
    }

    fn slot_range(&self, param: &Param, slot: Slot<'_>, sizes: &Sizes, share: Share) -> Result<Range, ModelError> {
        let (axes, by) = match slot {
            Slot::Axes(axes, by) | Slot::Blocks { axes, by, .. } => (axes, by),
            Slot::Own(size) => return Ok(Range { start: 0, len: size, fixed: false }),
        };
        let too_large = || ModelError::TooLarge(param.id.clone());
        let (mut start, mut len, mut all) = (0u64, 1u64, 1u64);
        for &axis in axes {
            let (first, count) = self.range(param, axis, sizes, share)?;
            let size = sizes.of(axis);
            // Of what is more than one index, all that is inside is held: else it is not one range.
            if len > 1 && count != size {
                return Err(ModelError::CutInside { param: param.id.clone() });
            }
            start = start.checked_mul(size).and_then(|start| start.checked_add(first)).ok_or_else(too_large)?;
            len = len.checked_mul(count).ok_or_else(too_large)?;
            all = all.checked_mul(size).ok_or_else(too_large)?;
        }
        let ends = |at: u64| by > 0 && at.is_multiple_of(by);
        let (whole, rows) = match slot {
            Slot::Blocks { rows, .. } => (ends(start) && (ends(len) || by > 0 && start + len == all), rows),
            _ => (ends(start) && ends(len), false),
        };
        let param = || param.id.clone();
        match (whole, rows) {
            (true, _) => Ok(Range { start: start / by, len: len.div_ceil(by), fixed: false }),
            (false, true) => Err(ModelError::RowBlocks { param: param(), rows: len, by }),
            (false, false) => Err(ModelError::Blocks { param: param(), columns: len, by }),
        }
    }

    /// The first index and the number of indices that a rank holds of an axis of a parameter.
    fn range(&self, param: &Param, axis: Axis, sizes: &Sizes, share: Share) -> Result<(u64, u64), ModelError> {
        let size = sizes.of(axis);
        let Some(cut) = param.cut.iter().find(|cut| cut.axis == axis) else { return Ok((0, size)) };
        let (mut rank, mut ranks) = match cut.mesh {
            Mesh::Tensor => share.tensor,
            Mesh::Expert => share.expert,
        };
        // The ranks that share one index of an axis share the next axis among them.
        for outer in param.cut.iter().filter(|outer| outer.mesh == cut.mesh) {
            let size = sizes.of(outer.axis);
            let even = ranks > 0 && size.is_multiple_of(ranks);
            let is_last = param.cut.iter().rfind(|last| last.mesh == cut.mesh) == Some(outer);
            let (range, next) = if matches!(param.role, Role::Embedding | Role::Head)
                && (share.vocabulary_whole || !even)
            {
                ((0, size), (0, 1))
            } else if even {
                ((rank * (size / ranks), size / ranks), (0, 1))
            } else if size > 0 && ranks.is_multiple_of(size) && ranks > 0 && (!is_last || self.replicates(outer.axis)) {
                let each = ranks / size;
                ((rank / each, 1), (rank % each, each))
            } else {
                let axis = self.axis_name(outer.axis).to_owned();
                return Err(ModelError::DoesNotDivide { ranks, axis, size });
            };
            if outer.axis == axis {
                return Ok(range);
            }
            (rank, ranks) = next;
        }
        Ok((0, size))
    }

    /// Into how many different shares the tensor-parallel ranks cut a parameter: fewer than there are, where several hold the same.
    pub(super) fn ways(&self, param: u16, sizes: &Sizes, ranks: u64) -> u64 {
        let Some(param) = self.params().get(usize::from(param)) else { return 1 };
        let (mut ways, mut left) = (1u64, ranks);
        for cut in param.cut.iter().filter(|cut| cut.mesh == Mesh::Tensor) {
            let size = sizes.of(cut.axis);
            if left == 0 || size.is_multiple_of(left) || !left.is_multiple_of(size) {
                return ways.saturating_mul(left);
            }
            (ways, left) = (ways.saturating_mul(size), left / size);
        }
        ways
    }
}

/// What a rank holds of an axis.
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    len: u64,
    /// The name fixes the index, and the file does not have the axis.
    fixed: bool,
}

struct PartShare<'a> {
    param: u16,
    outer: usize,
    stored: &'a [SmallVec<[usize; 4]>],
    /// Of the file. Their product fits 64 bits.
    dims: SmallVec<[u64; 4]>,
    /// Of each slot.
    ranges: SmallVec<[Range; 6]>,
}

impl PartShare<'_> {
    /// The lengths of the axes in the file's order, and the slots that they are of.
    fn axes(&self) -> impl DoubleEndedIterator<Item = (usize, u64)> + '_ {
        let places = self.stored.iter().flatten().filter(|place| !self.ranges[**place].fixed);
        places.map(|&place| (place, self.ranges[place].len))
    }

    /// The elements below the axes that lead in every part.
    fn volume(&self) -> u64 {
        self.axes().skip(self.outer).fold(1, |n, (_, len)| n.saturating_mul(len))
    }

    /// Where it is in the tensor: blocks of the part `step` apart, the first at `offset`.
    fn piece(&self, step: u64, offset: u64) -> Piece {
        // An axis that the name fixes has no neighbours in the file.
        let mut strides: SmallVec<[u64; 6]> = SmallVec::from_elem(0, self.ranges.len());
        let mut stride = 1;
        let count = self.axes().count();
        for (from_end, (place, len)) in self.axes().rev().enumerate() {
            if count - from_end == self.outer {
                stride = step;
            }
            strides[place] = stride;
            stride = stride.saturating_mul(len);
        }
        let region = Region::new(self.ranges.iter().map(|r| r.start), self.ranges.iter().map(|r| r.len));
        Piece::new(region, offset, strides)
    }
}
