//! Reading the rows of a tensor as more axes than so far, so that its boxes can be compared with another catalog's.

use super::{Catalog, LogicalTensor};
use crate::layout::{Piece, Region, boxes_of_rows};
use crate::plan::shards::{Shard, Shards};

impl Catalog {
    /// Reads the rows of each tensor as the axes that the other catalog reads them as, where those are finer.
    pub fn refine_like(&mut self, other: &Self) {
        for tensor in &mut self.tensors {
            if let Some(finer) = other.get(&tensor.name).map(|index| &other.tensors[index].radices) {
                tensor.read_rows_as(finer);
            }
        }
    }
}

impl LogicalTensor {
    /// Reads the rows as these axes, where they are finer than those of so far.
    pub(super) fn read_rows_as(&mut self, finer: &[u64]) {
        let Some(groups) = groups(&self.radices, finer) else { return };
        let refined = |shard: &Shard| {
            let pieces = refine(&shard.piece, &groups);
            pieces.into_iter().map(|piece| Shard { piece, ..shard.clone() }).collect::<Vec<_>>()
        };
        let used = self.shards.used().iter().flat_map(refined).collect();
        let replicas = self.shards.replicas().iter().flat_map(refined).collect();
        self.shards = Shards::new(used, replicas);
        self.radices = finer.to_vec();
    }
}

/// The axes that each axis becomes. `None`: they are the same, or are not finer.
fn groups(coarse: &[u64], fine: &[u64]) -> Option<Vec<Vec<u64>>> {
    if fine.len() <= coarse.len() {
        return None;
    }
    let mut rest = fine.iter();
    let mut groups = Vec::new();
    for &axis in coarse {
        let mut group = Vec::new();
        while group.is_empty() || group.iter().product::<u64>() < axis {
            group.push(*rest.next()?);
        }
        if group.iter().product::<u64>() != axis {
            return None;
        }
        while rest.as_slice().first() == Some(&1) {
            group.extend(rest.next());
        }
        groups.push(group);
    }
    rest.next().is_none().then_some(groups)
}

/// A box in finer axes: one box for each way in which its ranges fall into them.
fn refine(piece: &Piece, groups: &[Vec<u64>]) -> Vec<Piece> {
    let (start, len, strides) = (piece.region.start(), piece.region.len(), piece.strides());
    // Start, length and stride of each new axis so far, and the offset.
    let mut boxes = vec![(Vec::new(), Vec::new(), Vec::new(), piece.offset)];
    for axis in 0..start.len() {
        let whole = [u64::MAX];
        let (parts, steps) = match groups.get(axis) {
            Some(group) => (boxes_of_rows(start[axis], len[axis], group), row_strides(group, strides[axis])),
            None => (boxes_of_rows(start[axis], len[axis], &whole), vec![strides[axis]]),
        };
        boxes = boxes
            .into_iter()
            .flat_map(|(starts, lens, all_steps, offset)| {
                let steps = &steps;
                parts.iter().map(move |part| {
                    (
                        [starts.as_slice(), &part.start].concat(),
                        [lens.as_slice(), &part.len].concat(),
                        [all_steps.as_slice(), steps].concat(),
                        offset + (part.first_row - start[axis]) * strides[axis],
                    )
                })
            })
            .collect();
    }
    let piece = |(starts, lens, steps, offset): (Vec<u64>, Vec<u64>, Vec<u64>, u64)| {
        Piece::new(Region::new(starts, lens), offset, steps)
    };
    boxes.into_iter().map(piece).collect()
}

/// How far apart neighbours along each of the axes are as which rows of `width` elements are read.
fn row_strides(radices: &[u64], width: u64) -> Vec<u64> {
    let mut strides = vec![width; radices.len()];
    for axis in (1..radices.len()).rev() {
        strides[axis - 1] = strides[axis] * radices[axis];
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_matched_in_order() {
        assert_eq!(groups(&[64], &[4, 2, 8]), Some(vec![vec![4, 2, 8]]));
        assert_eq!(groups(&[2, 2, 16], &[2, 2, 2, 8]), Some(vec![vec![2], vec![2], vec![2, 8]]));
        assert_eq!(groups(&[4, 2, 8], &[64]), None);
        assert_eq!(groups(&[6], &[4, 2]), None);
        assert_eq!(groups(&[6], &[6, 1, 1]), Some(vec![vec![6, 1, 1]]));
    }

    /// Every element keeps its place in the file.
    #[test]
    fn elements_stay_where_they_are() {
        let piece = Piece::new(Region::new([5, 1], [9, 2]), 7, [10, 3]);
        let mut found = std::collections::BTreeMap::new();
        for part in refine(&piece, &[vec![4, 2, 3]]) {
            let (start, len, strides) = (part.region.start(), part.region.len(), part.strides());
            for flat in 0..part.region.volume() {
                let (mut rest, mut at, mut index) = (flat, part.offset, vec![0; len.len()]);
                for axis in (0..len.len()).rev() {
                    index[axis] = start[axis] + rest % len[axis];
                    at += rest % len[axis] * strides[axis];
                    rest /= len[axis];
                }
                let row = index[0] * 6 + index[1] * 3 + index[2];
                assert_eq!(found.insert((row, index[3]), at), None);
            }
        }
        let expected =
            (5..14).flat_map(|row| (1..3).map(move |column| ((row, column), 7 + (row - 5) * 10 + (column - 1) * 3)));
        assert_eq!(found, expected.collect());
    }
}
