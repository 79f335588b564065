//! From a box of a quantised matrix to the boxes of what it is made of.

use crate::layout::{Piece, Region};

/// The rows of a box of a matrix that is stored with `columns` elements a row: a box of a vector, one element for each row.
pub(super) fn rows_of(piece: &Piece, columns: u64) -> Piece {
    let axes = piece.region.len().len() - 1;
    let region = Region::new(piece.region.start()[..axes].iter().copied(), piece.region.len()[..axes].iter().copied());
    Piece::new(region, piece.offset / columns, piece.strides()[..axes].iter().map(|stride| stride / columns))
}

/// A box of a matrix of which several columns are stored as one: the box of the columns themselves.
pub(super) fn unpacked(piece: &Piece, in_one: u64) -> Piece {
    let last = piece.region.len().len() - 1;
    let axes = |numbers: &[u64]| -> Vec<u64> {
        numbers.iter().enumerate().map(|(axis, number)| if axis == last { number * in_one } else { *number }).collect()
    };
    let region = Region::new(axes(piece.region.start()), axes(piece.region.len()));
    // Along the columns elements stay neighbours; everything else is further apart.
    let strides =
        piece.strides().iter().enumerate().map(|(axis, step)| if axis == last { *step } else { step * in_one });
    Piece::new(region, piece.offset * in_one, strides)
}

/// The box of the scales, one for each `size` columns of a box of whole stored rows. `None` where a group is cut.
pub(super) fn groups_of(piece: &Piece, columns: u64, size: u64) -> Option<Piece> {
    let last = piece.region.len().len() - 1;
    let (start, len) = (piece.region.start(), piece.region.len());
    if !start[last].is_multiple_of(size) || !len[last].is_multiple_of(size) || !columns.is_multiple_of(size) {
        return None;
    }
    let rows = rows_of(piece, columns);
    let groups = columns / size;
    let with = |rows: &[u64], groups: u64| rows.iter().copied().chain([groups]).collect::<Vec<u64>>();
    let region = Region::new(with(rows.region.start(), start[last] / size), with(rows.region.len(), len[last] / size));
    let strides = rows.strides().iter().map(|step| step * groups).chain([1]).collect::<Vec<u64>>();
    Some(Piece::new(region, rows.offset * groups, strides))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows 2..4 of columns 64..192, in a file of 128 columns a row, two of which are a byte.
    #[test]
    fn packed_columns_and_groups_are_counted_from_the_whole_row() {
        let packed = Piece::new(Region::new([2, 32], [2, 64]), 64, [64, 1]);
        let piece = unpacked(&packed, 2);
        assert_eq!(piece, Piece::new(Region::new([2, 64], [2, 128]), 128, [128, 1]));
        // Two scales a row in the file, from the second of the whole row on.
        assert_eq!(groups_of(&piece, 128, 64), Some(Piece::new(Region::new([2, 1], [2, 2]), 2, [2, 1])));
        assert_eq!(groups_of(&piece, 128, 128), None, "a group is cut");
        assert_eq!(unpacked(&piece, 1), piece);
    }
}
