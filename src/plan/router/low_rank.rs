//! Where in a weight a box of a target tensor lies, so that the product of an adapter's factors is added at the right place.

use crate::layout::Piece;
use crate::plan::ids::OperandId;
use crate::plan::op::LowRank;

/// The update of a box of a tensor whose rows hold `width` elements; the rows of the weight are read as axes of these sizes.
pub(super) fn update(
    (a, b, scale): (OperandId, OperandId, f32),
    piece: &Piece,
    radices: &[u64],
    width: u64,
) -> LowRank {
    let (start, len, width) = (piece.region.start(), piece.region.len(), width.max(1));
    let (heads, column) = start.split_at(radices.len().min(start.len()));
    let row = heads.iter().zip(radices).fold(0, |row, (at, radix)| row * radix + at);
    // After each group of its rows a fused weight has those of its other parts: along one axis the rows are farther apart in the
    // target than in the weight.
    let mut steps: Vec<(u64, u64)> = Vec::new();
    let mut dense = (1, 1);
    for axis in (0..heads.len()).rev().filter(|&axis| len[axis] > 1) {
        let step = (piece.strides()[axis] / width, radices[axis + 1..].iter().product::<u64>());
        if steps.is_empty() || step != dense {
            steps.push(step);
        }
        dense = (step.0 * len[axis], step.1 * len[axis]);
    }
    // From the outermost in the target on, so that what is left of a row is inside the next.
    steps.sort_unstable_by(|a, b| b.cmp(a));
    let from = (piece.offset / width, piece.offset % width);
    let to = (row, column.first().copied().unwrap_or(0));
    LowRank { a, b, scale, width, from, to, steps: steps.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Region;

    fn update_of(piece: &Piece, radices: &[u64], width: u64) -> LowRank {
        update((OperandId::new(0), OperandId::new(1), 2.0), piece, radices, width)
    }

    /// Columns 2..4 of rows 4..6 of 8, in a tensor of two columns.
    #[test]
    fn dense_rows_are_one_axis() {
        let piece = Piece::dense(Region::new([4, 2], [2, 2]));
        let update = update_of(&piece, &[8], 2);
        assert_eq!(*update.steps, [(1, 1)]);
        assert_eq!((0..4).map(|element| update.place(element)).collect::<Vec<_>>(), [(4, 2), (4, 3), (5, 2), (5, 3)]);
        let whole = Piece::dense(Region::whole(&[2, 2, 2, 3]));
        assert_eq!(*update_of(&whole, &[2, 2, 2], 3).steps, [(1, 1)]);
    }

    /// Rows that are read as group, half and pair: groups lie five rows apart, and in each the pairs' first elements come first.
    #[test]
    fn rows_may_lie_apart_and_in_another_order() {
        let (groups, halves, pairs) = (2, 2, 2);
        let piece = Piece::new(Region::whole(&[groups, halves, pairs, 1]), 1, [5, 1, 2, 1]);
        let update = update_of(&piece, &[groups, halves, pairs], 1);
        for group in 0..groups {
            for half in 0..halves {
                for pair in 0..pairs {
                    let in_target = 1 + group * 5 + half + pair * 2;
                    assert_eq!(update.place(in_target), ((group * halves + half) * pairs + pair, 0));
                }
            }
        }
    }
}
