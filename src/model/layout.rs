//! Stored tensors under any layout of a strategy: what each device's file holds of each parameter.
//!
//! A parameter by itself, or joined group by group, is cut like any tensor: the device holds a box of the stored dimensions. Where
//! parts follow one another whole, each device's block is its blocks of the parts, of whose rows the optimizer shard takes a
//! range. Both come down to [`Cut`]: what of a piece of a stored tensor is in a box of it.

use smallvec::SmallVec;

use super::companion::{Companion, Of, OwnSizes};
use super::companion_pack::{axes_of_companion, whole_blocks};
use super::error::ModelError;
use super::family::Family;
use super::pack::{Share, Slot, StoredPart, StoredTensor, axes_of_pieces};
use super::param::{Dims, Sizes};
use super::pattern::Captures;
use super::scheme::Row;
use crate::layout::{Piece, Region, TensorLayout};

/// The canonical order of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical {
    /// The dimensions over all ranks.
    pub shape: Vec<u64>,
    /// The axes as which dimension 0 is read; their product is its length. Each further dimension is one axis.
    pub rows: Vec<u64>,
}

impl Canonical {
    /// The lengths of the axes of its [`Piece`]s.
    pub fn axes(&self) -> impl Iterator<Item = u64> + '_ {
        self.rows.iter().chain(self.shape.iter().skip(1)).copied()
    }
}

/// The tensor of a name over all ranks, from which what each device holds is found without reading the tables again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeTensor {
    stored: StoredTensor,
    /// Where the parts follow one another whole: the rows of each.
    concatenated: SmallVec<[u64; 4]>,
    /// The dimensions that are in blocks.
    blocked: SmallVec<[Blocked; 2]>,
}

/// A dimension in blocks of the weight's rows or columns, which may be cut where a block ends.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Blocked {
    dim: usize,
    /// Rows or columns of a block.
    by: u64,
    rows: bool,
    /// Of each part, or of all together where they do not follow one another whole: the rows or columns, and after how many of them
    /// it may be cut.
    parts: SmallVec<[(u64, u64); 4]>,
    /// The parameter, for what is said of it.
    param: String,
}

impl Family {
    /// What a device's file holds under a name of this row, by the layout of the stored tensor.
    ///
    /// # Errors
    /// A layout that does not fit; dimensions beyond 64 bits.
    pub fn stored_in(
        &self,
        row: &Row,
        at: Captures,
        sizes: &Sizes,
        layout: &TensorLayout,
        device: u64,
    ) -> Result<StoredTensor, ModelError> {
        self.whole(row, at, sizes)?.on(layout, device)
    }

    /// What a device's file holds of a companion of this row's layer, by the layout of the stored tensor.
    ///
    /// # Errors
    /// A layout that does not fit; columns that are not whole blocks; dimensions beyond 64 bits.
    #[expect(clippy::too_many_arguments, reason = "as of the parameter, and which companion")]
    pub fn stored_companion_in(
        &self,
        row: &Row,
        at: Captures,
        companion: &Companion,
        own: OwnSizes,
        sizes: &Sizes,
        layout: &TensorLayout,
        device: u64,
    ) -> Result<StoredTensor, ModelError> {
        self.whole_companion(row, at, companion, own, sizes)?.on(layout, device)
    }

    /// The tensor of a name of this row over all ranks.
    ///
    /// # Errors
    /// Dimensions beyond 64 bits.
    pub fn whole(&self, row: &Row, at: Captures, sizes: &Sizes) -> Result<WholeTensor, ModelError> {
        let stored = self.stored(row, at, sizes, Share::WHOLE)?;
        let concatenated = row.pack.outer.is_empty() && row.pack.parts.len() > 1;
        Ok(WholeTensor::new(stored, concatenated))
    }

    /// The tensor of a companion of this row's layer over all ranks.
    ///
    /// # Errors
    /// Columns that are not whole blocks; dimensions beyond 64 bits.
    pub fn whole_companion(
        &self,
        row: &Row,
        at: Captures,
        companion: &Companion,
        own: OwnSizes,
        sizes: &Sizes,
    ) -> Result<WholeTensor, ModelError> {
        let stored = self.stored_companion(row, at, companion, own, sizes, Share::WHOLE)?;
        let concatenated = row.pack.outer.is_empty() && row.pack.parts.len() > 1 && !companion.is_of_input();
        let mut whole = WholeTensor::new(stored, concatenated);
        let blocked = (0..).zip(&companion.dims).filter(|(_, of)| matches!(of, Of::OutBlocks | Of::InBlocks));
        for (dim, &of) in blocked {
            whole.blocked.extend(self.blocked(row, at, (dim, of), own, sizes, concatenated));
        }
        Ok(whole)
    }

    fn blocked(
        &self,
        row: &Row,
        at: Captures,
        (dim, of): (usize, Of),
        own: OwnSizes,
        sizes: &Sizes,
        concatenated: bool,
    ) -> Option<Blocked> {
        let by = if of.is_rows() { own.block.0 } else { own.block.1 };
        let part = |param: u16| {
            let slots = axes_of_companion(of, &self.params()[usize::from(param)].dims, own, sizes);
            let kept = slots.iter().filter(|slot| at.expert.is_none() || !self.is_expert(**slot));
            let all = product(kept.flat_map(|slot| slot.axes()).map(|&axis| sizes.of(axis)))?;
            let inside = product(slots.last()?.axes().iter().map(|&axis| sizes.of(axis)))?;
            Some((all, if whole_blocks(inside, by) { by } else { inside }))
        };
        let mut parts = row.params().map(part).collect::<Option<SmallVec<[(u64, u64); 4]>>>()?;
        if !concatenated {
            let joined = if of.is_rows() { parts.len() } else { 1 };
            let all = parts.iter().take(joined).map(|(length, _)| length).sum();
            parts = parts.first().map(|(_, unit)| (all, *unit)).into_iter().collect();
        } else if !of.is_rows() {
            parts.truncate(1);
        }
        let param = self.params()[usize::from(row.params().next()?)].id.clone();
        Some(Blocked { dim, by, rows: of.is_rows(), parts, param })
    }

    /// The dimensions over all ranks of what a row stores.
    ///
    /// # Errors
    /// Dimensions beyond 64 bits.
    pub fn full_dims(&self, row: &Row, at: Captures, sizes: &Sizes) -> Result<Vec<u64>, ModelError> {
        Ok(self.stored(row, at, sizes, Share::WHOLE)?.dims)
    }

    /// The dimensions over all ranks of what a row stores of a companion.
    ///
    /// # Errors
    /// Columns that are not whole blocks; dimensions beyond 64 bits.
    pub fn full_companion_dims(
        &self,
        row: &Row,
        at: Captures,
        companion: &Companion,
        own: OwnSizes,
        sizes: &Sizes,
    ) -> Result<Vec<u64>, ModelError> {
        Ok(self.stored_companion(row, at, companion, own, sizes, Share::WHOLE)?.dims)
    }

    /// The canonical order of a parameter. `None`: dimensions beyond 64 bits, or no such parameter.
    pub fn canonical(&self, param: u16, sizes: &Sizes) -> Option<Canonical> {
        let dims = &self.params().get(usize::from(param))?.dims;
        let shape = dims.iter().map(|dim| product(dim.iter().map(|&axis| sizes.of(axis))));
        let rows = axes_of_pieces(dims).take(dims.first().map_or(0, Vec::len));
        Some(Canonical {
            shape: shape.collect::<Option<_>>()?,
            rows: rows.map(|slot| length(slot, sizes)).collect::<Option<_>>()?,
        })
    }

    /// The canonical order of a companion of a parameter. `None`: dimensions beyond 64 bits, columns that are not whole blocks,
    /// or no such parameter.
    pub fn canonical_companion(
        &self,
        param: u16,
        companion: &Companion,
        own: OwnSizes,
        sizes: &Sizes,
    ) -> Option<Canonical> {
        let weight: &Dims = &self.params().get(usize::from(param))?.dims;
        let axes = |of| -> Option<Vec<u64>> {
            axes_of_companion(of, weight, own, sizes).into_iter().map(|slot| length(slot, sizes)).collect()
        };
        let shape = companion.dims.iter().map(|&of| product(axes(of)?.into_iter()));
        Some(Canonical {
            shape: shape.collect::<Option<_>>()?,
            rows: companion.dims.first().map_or(Some(Vec::new()), |&of| axes(of))?,
        })
    }
}

fn product(mut lengths: impl Iterator<Item = u64>) -> Option<u64> {
    lengths.try_fold(1u64, u64::checked_mul)
}

fn length(slot: Slot<'_>, sizes: &Sizes) -> Option<u64> {
    match slot {
        Slot::Own(length) => Some(length),
        Slot::Blocks { axes, by, .. } => {
            let all = product(axes.iter().map(|&axis| sizes.of(axis)))?;
            (by > 0).then(|| all.div_ceil(by))
        }
        Slot::Axes(axes, by) => {
            let all = product(axes.iter().map(|&axis| sizes.of(axis)))?;
            (by > 0 && all % by == 0).then(|| all / by)
        }
    }
}

impl WholeTensor {
    fn new(stored: StoredTensor, concatenated: bool) -> Self {
        let width: u64 = stored.dims.iter().skip(1).product();
        let rows = |part: &StoredPart| part.piece.region.volume() / width.max(1);
        let concatenated = concatenated && !stored.dims.is_empty();
        let concatenated = stored.parts.iter().filter(|_| concatenated).map(rows).collect();
        Self { stored, concatenated, blocked: SmallVec::new() }
    }

    /// The dimensions.
    pub fn dims(&self) -> &[u64] {
        &self.stored.dims
    }

    /// What a device's file holds of it.
    ///
    /// # Errors
    /// A layout that does not fit.
    pub fn on(&self, layout: &TensorLayout, device: u64) -> Result<StoredTensor, ModelError> {
        self.blocked.iter().try_for_each(|blocked| blocked.check(layout))?;
        let mut parts = Vec::with_capacity(self.stored.parts.len());
        if self.concatenated.is_empty() {
            let region = layout.region(&self.stored.dims, device)?;
            let strides = row_major(region.len());
            for part in &self.stored.parts {
                let cut = Cut { dims: &self.stored.dims, region: &region, strides: &strides, offset: 0 };
                cut.of(&part.piece, |piece| parts.push(StoredPart { id: part.id, piece }));
            }
            return Ok(StoredTensor { dims: region.len().to_vec(), parts });
        }
        let mut whole = self.stored.dims.clone();
        let mut blocks: SmallVec<[Region; 4]> = SmallVec::new();
        for &rows in &self.concatenated {
            if let Some(first) = whole.first_mut() {
                *first = rows;
            }
            blocks.push(layout.block(&whole, device)?);
        }
        let rows_of = |block: &Region| block.len().first().copied().unwrap_or(1);
        let (first, count) = layout.shard_rows(blocks.iter().map(rows_of).sum(), device)?;
        let tail = blocks.first().and_then(|block| block.len().get(1..)).unwrap_or_default();
        let dims: Vec<u64> = [count].iter().chain(tail).copied().collect();
        let strides = row_major(&dims);
        let mut at = 0;
        let mut volume = 0;
        for ((part, block), &rows) in self.stored.parts.iter().zip(&blocks).zip(&self.concatenated) {
            let (from, to) = (at.max(first), (at + rows_of(block)).min(first + count));
            if from < to {
                let begin = block.start().first().copied().unwrap_or(0);
                let region = block.clone().with_axis(0, begin + (from - at), to - from);
                if let Some(length) = whole.first_mut() {
                    *length = rows;
                }
                let offset = (from - first) * strides.first().copied().unwrap_or(1);
                let cut = Cut { dims: &whole, region: &region, strides: &strides, offset };
                // Where it is in its own part, not in the tensor.
                let mut alone = part.piece.clone();
                alone.offset -= volume;
                cut.of(&alone, |piece| parts.push(StoredPart { id: part.id, piece }));
            }
            at += rows_of(block);
            volume += part.piece.region.volume();
        }
        Ok(StoredTensor { dims, parts })
    }
}

impl Blocked {
    /// A layout may cut it where blocks end.
    fn check(&self, layout: &TensorLayout) -> Result<(), ModelError> {
        let cut = layout.parts(self.dim);
        let shards = if self.dim == 0 { layout.shard_parts()? } else { 1 };
        let mut held = 0u64;
        for &(length, unit) in &self.parts {
            if cut > 1 && !whole_blocks(length, cut.saturating_mul(unit)) {
                return Err(self.error(length / cut));
            }
            held = held.saturating_add(length / cut.max(1));
        }
        let in_blocks = self.parts.iter().all(|(_, unit)| *unit == self.by);
        if shards > 1 && !(in_blocks && whole_blocks(held, shards.saturating_mul(self.by))) {
            return Err(self.error(held / shards));
        }
        Ok(())
    }

    fn error(&self, held: u64) -> ModelError {
        let (param, by) = (self.param.clone(), self.by);
        if self.rows {
            ModelError::RowBlocks { param, rows: held, by }
        } else {
            ModelError::Blocks { param, columns: held, by }
        }
    }
}

/// Few axes, in place.
type Few = SmallVec<[u64; 6]>;

fn row_major(dims: &[u64]) -> SmallVec<[u64; 4]> {
    let mut strides: SmallVec<[u64; 4]> = SmallVec::from_elem(1, dims.len());
    for dim in (1..dims.len()).rev() {
        strides[dim - 1] = strides[dim].saturating_mul(dims[dim]);
    }
    strides
}

/// A box of a stored tensor, and where it is stored itself.
struct Cut<'a> {
    /// The dimensions of the stored tensor.
    dims: &'a [u64],
    region: &'a Region,
    /// How far apart neighbours along each dimension of the box are where it is stored.
    strides: &'a [u64],
    /// Where its first element is.
    offset: u64,
}

/// An axis of a piece as a digit of the index in a stored dimension.
#[derive(Clone, Copy)]
struct Digit {
    dim: usize,
    /// Of the piece.
    axis: usize,
    len: u64,
    /// The step in the stored dimension.
    stride: u64,
    /// How many indices of the dimension the digits after it reach over.
    reach: u64,
}

/// The walk over the digits of a piece, dimension by dimension, from the slowest to the fastest.
struct Walk<'a, F> {
    cut: &'a Cut<'a>,
    piece: &'a Piece,
    digits: SmallVec<[Digit; 6]>,
    /// The index in each dimension of the piece's first element.
    first: SmallVec<[u64; 4]>,
    /// The box of the piece that is at hand, in indices of the piece.
    start: Few,
    len: Few,
    strides: Few,
    found: F,
}

impl Cut<'_> {
    /// What of a piece of the stored tensor is in the box: a range of rows that ends inside an axis is several boxes, in the
    /// order of the rows.
    fn of(&self, piece: &Piece, found: impl FnMut(Piece)) {
        if self.region.is_empty() || piece.region.is_empty() {
            return;
        }
        let steps = row_major(self.dims);
        let mut rest = piece.offset;
        let place = |&step: &u64| {
            let index = rest / step;
            rest %= step;
            index
        };
        let first: SmallVec<[u64; 4]> = steps.iter().map(place).collect();
        let mut digits: SmallVec<[Digit; 6]> = SmallVec::new();
        let mut strides = Few::from_elem(0, piece.strides().len());
        for (axis, (&stride, &len)) in piece.strides().iter().zip(piece.region.len()).enumerate() {
            // An axis of one index does not move.
            let Some(dim) = steps.iter().position(|&step| step <= stride).filter(|_| len > 1) else { continue };
            let stride = stride / steps[dim];
            strides[axis] = stride * self.strides[dim];
            digits.push(Digit { dim, axis, len, stride, reach: 1 });
        }
        digits.sort_unstable_by(|a, b| (a.dim, b.stride).cmp(&(b.dim, a.stride)));
        for at in (1..digits.len()).rev() {
            let Digit { dim, len, stride, reach, .. } = digits[at];
            if digits[at - 1].dim == dim {
                digits[at - 1].reach = reach + (len - 1) * stride;
            }
        }
        let start = Few::from_elem(0, strides.len());
        let len = Few::from_elem(1, strides.len());
        let mut walk = Walk { cut: self, piece, digits, first, start, len, strides, found };
        walk.dimension(0, 0);
    }
}

impl<F: FnMut(Piece)> Walk<'_, F> {
    /// The dimensions from `dim` on, whose digits are those from `at` on.
    fn dimension(&mut self, dim: usize, at: usize) {
        let region = self.cut.region;
        let Some(&first) = self.first.get(dim) else { return self.emit() };
        let (from, to) = (region.start()[dim], region.start()[dim] + region.len()[dim]);
        if to > first {
            self.digit(dim, at, from.saturating_sub(first), to - first);
        }
    }

    /// The digits from `at` on, of which those of `dim` are to be within `from .. to`. `to` is not 0.
    fn digit(&mut self, dim: usize, at: usize, from: u64, to: u64) {
        let Some(&Digit { axis, len, stride, reach, .. }) = self.digits.get(at).filter(|digit| digit.dim == dim) else {
            if from == 0 {
                self.dimension(dim + 1, at);
            }
            return;
        };
        // The indices of which something is in the range, and those of which all is.
        let some = if from < reach { 0 } else { (from - reach) / stride + 1 }..((to - 1) / stride + 1).min(len);
        let all = from.div_ceil(stride)..if to < reach { 0 } else { ((to - reach) / stride + 1).min(len) };
        if all.is_empty() {
            // At most two, as an index reaches no further than to the next.
            some.for_each(|index| self.one(dim, at, index, from, to));
            return;
        }
        (some.start..all.start).for_each(|index| self.one(dim, at, index, from, to));
        (self.start[axis], self.len[axis]) = (all.start, all.end - all.start);
        self.digit(dim, at + 1, 0, reach);
        (all.end..some.end).for_each(|index| self.one(dim, at, index, from, to));
    }

    /// One index of a digit.
    fn one(&mut self, dim: usize, at: usize, index: u64, from: u64, to: u64) {
        let Digit { axis, stride, .. } = self.digits[at];
        (self.start[axis], self.len[axis]) = (index, 1);
        let before = index * stride;
        self.digit(dim, at + 1, from.saturating_sub(before), to - before);
    }

    fn emit(&mut self) {
        let mut offset = self.cut.offset;
        for (dim, &first) in self.first.iter().enumerate() {
            let digits = self.digits.iter().filter(|digit| digit.dim == dim);
            let index = first + digits.map(|digit| self.start[digit.axis] * digit.stride).sum::<u64>();
            offset += (index - self.cut.region.start()[dim]) * self.cut.strides[dim];
        }
        let start = self.piece.region.start().iter().zip(&self.start).map(|(first, at)| first + at);
        let region = Region::new(start, self.len.iter().copied());
        (self.found)(Piece::new(region, offset, self.strides.iter().copied()));
    }
}

#[cfg(test)]
mod tests;
