//! Where the boxes of logical tensors lie in what one rank stores, fused or not.

use crate::layout::{LayoutError, Piece, Region, TensorLayout, boxes_of_rows};
use crate::model::naming::Grouping;

/// A part of a fused parameter, or a parameter by itself.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Its rows over all ranks.
    pub rows: u64,
    /// How its rows are read as several axes. The product is `rows`.
    pub radices: Vec<u64>,
}

/// What one rank stores of a parameter: its dimensions, and the pieces of each part.
pub(super) struct Stored {
    /// The dimensions in the rank's file.
    pub dims: Vec<u64>,
    /// Pieces with the index of the part that they belong to.
    pub pieces: Vec<(usize, Piece)>,
}

/// A parameter by itself. `radices` as in [`Part`]; empty for a scalar.
pub(super) fn plain(full: &[u64], radices: &[u64], layout: &TensorLayout, device: u64) -> Result<Stored, LayoutError> {
    let region = layout.region(full, device)?;
    let dims = region.len().to_vec();
    let pieces = match region.start().first() {
        None => vec![(0, Piece::dense(region))],
        Some(&start) => rows(&region, start, dims[0], radices, 0).map(|piece| (0, piece)).collect(),
    };
    Ok(Stored { dims, pieces })
}

/// A fused parameter whose parts stand one after the other in each rank's block. `tail`: the dimensions after the rows.
fn rank_concat(parts: &[Part], tail: &[u64], layout: &TensorLayout, device: u64) -> Result<Stored, LayoutError> {
    let mut blocks = Vec::with_capacity(parts.len());
    for part in parts {
        let full: Vec<u64> = [part.rows].iter().chain(tail).copied().collect();
        blocks.push(layout.block(&full, device)?);
    }
    let block_rows: u64 = blocks.iter().map(|b| b.len()[0]).sum();
    let (first, count) = layout.shard_rows(block_rows, device)?;
    let mut pieces = Vec::new();
    let mut at = 0;
    for (index, (part, block)) in parts.iter().zip(&blocks).enumerate() {
        let (from, to) = (at.max(first), (at + block.len()[0]).min(first + count));
        if from < to {
            let row = block.start()[0] + (from - at);
            let width: u64 = block.len()[1..].iter().product();
            let offset = (from - first) * width;
            pieces.extend(rows(block, row, to - from, &part.radices, offset).map(|piece| (index, piece)));
        }
        at += block.len()[0];
    }
    let dims = [count].into_iter().chain(blocks[0].len()[1..].iter().copied()).collect();
    Ok(Stored { dims, pieces })
}

/// A fused parameter whose parts alternate group by group; cut on axis 0 like any tensor.
/// The parts' radices must begin with `[groups, slots]`; the rest of them multiply to the height.
fn grouped(
    grouping: &Grouping,
    parts: &[Part],
    tail: &[u64],
    layout: &TensorLayout,
    device: u64,
) -> Result<Stored, LayoutError> {
    let slots: u64 = grouping.slots.iter().sum();
    let full: Vec<u64> = [grouping.groups * slots * grouping.height].iter().chain(tail).copied().collect();
    let region = layout.region(&full, device)?;
    let (start, count) = (region.start()[0], region.len()[0]);
    let width: u64 = region.len()[1..].iter().product();
    let dense = Piece::dense(region.clone());
    let tail_strides = dense.strides();
    let mut pieces = Vec::new();
    for found in boxes_of_rows(start, count, &[grouping.groups, slots, grouping.height]) {
        let (slot_start, slot_end) = (found.start[1], found.start[1] + found.len[1]);
        let mut first_slot = 0;
        for (index, &part_slots) in grouping.slots.iter().enumerate() {
            let (from, to) = (slot_start.max(first_slot), slot_end.min(first_slot + part_slots));
            if from < to {
                let row = found.first_row + (from - slot_start) * grouping.height;
                let inner = parts.get(index).and_then(|part| part.radices.get(2..)).unwrap_or_default();
                // More than one slot means whole heights, which are one box however the height is read.
                for rows in boxes_of_rows(found.start[2], found.len[2], inner) {
                    let outer_start = [found.start[0], from - first_slot];
                    let outer_len = [found.len[0], to - from];
                    let part_region = Region::new(
                        outer_start.iter().chain(&rows.start).chain(&region.start()[1..]).copied(),
                        outer_len.iter().chain(&rows.len).chain(&region.len()[1..]).copied(),
                    );
                    let outer = [slots * grouping.height * width, grouping.height * width];
                    let inner = row_strides(inner, width);
                    let strides = outer.iter().chain(&inner).chain(&tail_strides[1..]).copied();
                    let first = row + (rows.first_row - found.start[2]) - start;
                    pieces.push((index, Piece::new(part_region, first * width, strides)));
                }
            }
            first_slot += part_slots;
        }
    }
    Ok(Stored { dims: region.len().to_vec(), pieces })
}

/// The pieces of `count` rows from `row` on, stored densely from element `offset` on. The other axes are those of `block`.
fn rows<'a>(block: &'a Region, row: u64, count: u64, radices: &[u64], offset: u64) -> impl Iterator<Item = Piece> + 'a {
    let tail_start = &block.start()[1..];
    let tail_len = &block.len()[1..];
    let width: u64 = tail_len.iter().product();
    let mut strides = row_strides(radices, width);
    strides.extend_from_slice(Piece::dense(Region::whole(tail_len)).strides());
    boxes_of_rows(row, count, radices).into_iter().map(move |found| {
        let region =
            Region::new(found.start.iter().chain(tail_start).copied(), found.len.iter().chain(tail_len).copied());
        Piece::new(region, offset + (found.first_row - row) * width, strides.iter().copied())
    })
}

/// How far apart neighbours along each of the axes stand as which rows of `width` elements are read.
pub(super) fn row_strides(radices: &[u64], width: u64) -> Vec<u64> {
    let mut strides = vec![width; radices.len()];
    for axis in (1..radices.len()).rev() {
        strides[axis - 1] = strides[axis] * radices[axis];
    }
    strides
}

/// In which order the rows of a fused parameter stand.
#[derive(Clone, Copy)]
pub(super) enum Order<'a> {
    /// Each rank's parts one after the other.
    RankConcat,
    /// Group by group.
    Grouped(&'a Grouping),
}

/// What a rank stores of a fused parameter in either order.
pub(super) fn fused(
    order: Order<'_>,
    parts: &[Part],
    tail: &[u64],
    layout: &TensorLayout,
    device: u64,
) -> Result<Stored, LayoutError> {
    match order {
        Order::RankConcat => rank_concat(parts, tail, layout, device),
        Order::Grouped(grouping) => grouped(grouping, parts, tail, layout, device),
    }
}
