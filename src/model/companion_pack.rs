//! What a rank's file holds of the companions of a linear layer, by the pack of the layer's row.

use smallvec::{SmallVec, smallvec};

use super::companion::{Companion, Of, OwnSizes};
use super::error::ModelError;
use super::family::Family;
use super::pack::{PartSlots, Share, Slot, StoredTensor, leading, places};
use super::param::{Axis, Dims, Role, Sizes};
use super::pattern::Captures;
use super::scheme::{PackPart, Row, Scheme};

impl Scheme {
    /// The layer's row, the captures and the companion that a name is of; several where generations share the name.
    pub fn companions<'a>(
        &'a self,
        family: &Family,
        name: &str,
    ) -> Option<(&'a Row, Captures, Vec<&'static Companion>)> {
        let mut found: Option<(&Row, Captures, Vec<&'static Companion>)> = None;
        for (row, captures, companion) in self.companions_by_index(name) {
            match &mut found {
                Some((known, _, all)) if std::ptr::eq(*known, row) => all.push(companion),
                None if family.has_companions(row) => found = Some((row, captures, vec![companion])),
                _ => {}
            }
        }
        found
    }
}

impl Family {
    /// Whether a row is of linear layers whose companions are joined as their weights are: row by row.
    fn has_companions(&self, row: &Row) -> bool {
        let by_rows = |part: &PackPart| {
            let canonical = &self.params()[usize::from(part.param)].dims;
            let joined = part.dims.as_ref().unwrap_or(canonical).get(row.pack.dim);
            joined.is_none_or(|dim| dim.iter().any(|axis| !columns(canonical).contains(axis)))
        };
        row.params().all(|param| self.params()[usize::from(param)].role == Role::Linear)
            && (row.pack.parts.len() == 1 || row.pack.parts.iter().all(by_rows))
    }

    /// What a rank's file holds of a companion of this row's layer. Where it belongs to the input of several layers, all of
    /// them are parts, each of which is the whole tensor.
    ///
    /// # Errors
    /// Ranks that do not divide an axis or leave no whole blocks; dimensions beyond 64 bits.
    pub fn stored_companion(
        &self,
        row: &Row,
        at: Captures,
        companion: &Companion,
        own: OwnSizes,
        sizes: &Sizes,
        share: Share,
    ) -> Result<StoredTensor, ModelError> {
        let parts = row.pack.parts.iter().map(|part| self.companion_slots(row, part, companion, own, sizes));
        let parts = parts.collect::<Result<SmallVec<[PartSlots<'_>; 4]>, _>>()?;
        if !companion.is_of_input() {
            return self.join(row, at, &parts, 0, sizes, share);
        }
        let mut tensors = parts.iter().map(|part| self.join(row, at, std::slice::from_ref(part), 0, sizes, share));
        let mut first = tensors.next().transpose()?.unwrap_or(StoredTensor { dims: Vec::new(), parts: Vec::new() });
        for other in tensors {
            first.parts.extend(other?.parts);
        }
        Ok(first)
    }

    fn companion_slots<'a>(
        &'a self,
        row: &Row,
        part: &'a PackPart,
        companion: &Companion,
        own: OwnSizes,
        sizes: &Sizes,
    ) -> Result<PartSlots<'a>, ModelError> {
        let canonical = &self.params()[usize::from(part.param)].dims;
        let in_file = part.dims.as_ref().unwrap_or(canonical);
        let mut slots: SmallVec<[Slot<'_>; 6]> = SmallVec::new();
        let mut stored = SmallVec::new();
        let mut outer = 0;
        for &of in &companion.dims {
            let begin = slots.len();
            slots.extend(axes_of_companion(of, canonical, own, sizes));
            let mut dim: SmallVec<[usize; 4]> = (begin..slots.len()).collect();
            if of.is_rows() {
                self.check_blocks(row, part, &slots[begin..], sizes)?;
                // The rows in the order of the file.
                dim = places(in_file.iter().flatten().copied(), &slots[begin..]);
                dim.iter_mut().for_each(|place| *place += begin);
                outer = leading(&row.pack.outer, &slots[begin..]);
            }
            stored.push(dim);
        }
        Ok(PartSlots { param: part.param, slots, stored, outer })
    }

    /// Blocks of a parameter's rows must be blocks of the file's: the innermost rows of the file in the same order, and, where
    /// another part follows, whole ones.
    fn check_blocks(&self, row: &Row, part: &PackPart, slots: &[Slot<'_>], sizes: &Sizes) -> Result<(), ModelError> {
        let param = &self.params()[usize::from(part.param)];
        let in_file = part.dims.as_ref().unwrap_or(&param.dims);
        for slot in slots {
            let &Slot::Blocks { axes, by, .. } = slot else { continue };
            let is_led = row.pack.outer.iter().any(|axis| axes.contains(axis));
            if is_led || !in_file.iter().any(|dim| dim.ends_with(axes)) {
                return Err(ModelError::BlocksApart { param: param.id.clone(), name: row.pattern.to_string(), by });
            }
            let is_last = row.pack.parts.last().is_some_and(|last| std::ptr::eq(last, part));
            let rows = product(axes, sizes).ok_or_else(|| ModelError::TooLarge(param.id.clone()))?;
            if (!is_last || row.pack.parts.len() > 1 && !row.pack.outer.is_empty()) && !whole_blocks(rows, by) {
                return Err(ModelError::RowBlocks { param: param.id.clone(), rows, by });
            }
        }
        Ok(())
    }
}

pub(super) fn product(axes: &[Axis], sizes: &Sizes) -> Option<u64> {
    axes.iter().try_fold(1u64, |n, &axis| n.checked_mul(sizes.of(axis)))
}

pub(super) fn whole_blocks(length: u64, by: u64) -> bool {
    by > 0 && length.is_multiple_of(by)
}

/// The columns of a weight: its last canonical dimension. A vector has none.
fn columns(weight: &Dims) -> &[Axis] {
    weight.iter().skip(1).last().map_or(&[], Vec::as_slice)
}

/// The axes of the pieces of a companion's dimension, in canonical order: the rows of the weight one by one, what is of the
/// columns as one axis. Of blocks of rows, the axes that are not within blocks one by one, and the others as one axis.
pub(super) fn axes_of_companion<'a>(of: Of, weight: &'a Dims, own: OwnSizes, sizes: &Sizes) -> SmallVec<[Slot<'a>; 4]> {
    let rows = weight.len().saturating_sub(1).max(1);
    let one_by_one = |axis| Slot::Axes(std::slice::from_ref(axis), 1);
    match of {
        Of::Out => weight.iter().take(rows).flatten().map(one_by_one).collect(),
        Of::OutBlocks => {
            let by = own.block.0;
            let Some((last, before)) = weight.get(..rows).and_then(<[_]>::split_last) else { return SmallVec::new() };
            let inside = |at: usize| product(&last[at + 1..], sizes).is_some_and(|rows| whole_blocks(rows, by));
            let apart = (0..last.len().saturating_sub(1)).take_while(|&at| inside(at)).count();
            let axes = before.iter().flatten().chain(&last[..apart]).map(one_by_one);
            axes.chain([Slot::Blocks { axes: &last[apart..], by, rows: true }]).collect()
        }
        Of::InBlocks => smallvec![Slot::Blocks { axes: columns(weight), by: own.block.1, rows: false }],
        Of::In => smallvec![Slot::Axes(columns(weight), 1)],
        Of::InPairs => smallvec![Slot::Axes(columns(weight), 2)],
        Of::InGroups => smallvec![Slot::Axes(columns(weight), own.group)],
        Of::LoraRank => smallvec![Slot::Own(own.lora_rank)],
    }
}
