//! The one rule: a file holds the pack of the rank's own share of each part.

use smallvec::SmallVec;

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

/// An axis of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot<'a> {
    /// Axes of the model read as one, in blocks of this many neighbours: two columns in a byte, groups that share a scale.
    Axes(&'a [Axis], u64),
    /// An axis that is the checkpoint's own, such as the rank of an adapter; every rank holds all of it.
    Own(u64),
}

impl Slot<'_> {
    /// Whether it begins with an axis.
    pub(super) fn begins(self, axis: Axis) -> bool {
        matches!(self, Slot::Axes([first, ..], _) if *first == axis)
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

    fn is_expert(&self, slot: Slot<'_>) -> bool {
        matches!(slot, Slot::Axes([axis], _) if self.axis_name(*axis) == EXPERT)
    }

    fn slot_range(&self, param: &Param, slot: Slot<'_>, sizes: &Sizes, share: Share) -> Result<Range, ModelError> {
        let (axes, by) = match slot {
            Slot::Axes(axes, by) => (axes, by),
            Slot::Own(size) => return Ok(Range { start: 0, len: size, fixed: false }),
        };
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
        if by == 0 || start % by != 0 || len % by != 0 {
            return Err(ModelError::Blocks { param: param.id.clone(), columns: len, by });
        }
        Ok(Range { start: start / by, len: len / by, fixed: false })
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
            return Ok((rank / (ranks / size), 1));
        }
        if !even {
            return Err(ModelError::DoesNotDivide { ranks, axis: self.axis_name(axis).to_owned(), size });
        }
        Ok((rank * (size / ranks), size / ranks))
    }
}

/// The axis that `{e}` in a name is an index of.
pub(super) const EXPERT: &str = "Expert";

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
