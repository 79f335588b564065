//! Where a box of a full tensor lies in a stored tensor, and what two such pieces share.

use smallvec::SmallVec;

use super::Region;
use super::region::Axes;

/// A box of a full tensor and its place in a stored tensor. Unit: elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The box, in the full tensor's axes.
    pub region: Region,
    /// Where the box's first element is in the stored tensor.
    pub offset: u64,
    strides: Axes,
}

/// One level of a strided copy. Unit: elements (or bytes, once scaled).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dim {
    /// How often.
    pub count: u64,
    /// The step in the source.
    pub src_stride: u64,
    /// The step in the target.
    pub dst_stride: u64,
}

/// A strided copy: runs of `run` units, repeated by `dims` (outermost first).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Move {
    /// The first unit in the source.
    pub src: u64,
    /// The first unit in the target.
    pub dst: u64,
    /// Units next to one another on both sides.
    pub run: u64,
    /// The repetitions, outermost first. Empty: one run.
    pub dims: Box<[Dim]>,
}

impl Piece {
    /// A box stored with these strides from an offset on.
    ///
    /// # Panics
    /// Where the numbers of axes differ.
    pub fn new(region: Region, offset: u64, strides: impl IntoIterator<Item = u64>) -> Self {
        let strides: Axes = strides.into_iter().collect();
        assert_eq!(strides.len(), region.len().len(), "a piece has one stride an axis");
        Self { region, offset, strides }
    }

    /// How far apart, in the stored tensor, neighbours along each axis of the box are.
    pub fn strides(&self) -> &[u64] {
        &self.strides
    }

    /// A box stored by itself in row-major order.
    pub fn dense(region: Region) -> Self {
        let mut strides: Axes = region.len().iter().map(|_| 1).collect();
        for axis in (1..strides.len()).rev() {
            strides[axis - 1] = strides[axis] * region.len()[axis];
        }
        Self { region, offset: 0, strides }
    }

    /// What of it lies in a box, or `None` where they share nothing.
    pub fn within(&self, region: &Region) -> Option<Self> {
        let shared = self.region.intersect(region)?;
        let steps = shared.start().iter().zip(self.region.start()).zip(&self.strides);
        let offset = self.offset + steps.map(|((&at, &from), &stride)| (at - from) * stride).sum::<u64>();
        Some(Self { region: shared, offset, strides: self.strides.clone() })
    }

    /// The move that brings what both pieces hold from `self` to `target`, or `None` where they share nothing.
    ///
    /// # Panics
    /// Where the full tensor's axes are not the same for both: such boxes cannot be compared.
    pub fn to(&self, target: &Self) -> Option<Move> {
        assert_eq!(self.strides.len(), target.strides.len(), "two pieces of one tensor have the same axes");
        let shared = self.region.intersect(&target.region)?;
        let place = |piece: &Self| {
            let steps = shared.start().iter().zip(piece.region.start()).zip(&piece.strides);
            piece.offset + steps.map(|((&at, &from), &stride)| (at - from) * stride).sum::<u64>()
        };
        let mut dims: SmallVec<[Dim; 4]> = SmallVec::new();
        for (axis, &count) in shared.len().iter().enumerate() {
            let dim = Dim { count, src_stride: self.strides[axis], dst_stride: target.strides[axis] };
            if count == 1 {
                continue;
            }
            // An axis that goes on where the one outside it steps is the same walk.
            match dims.last_mut() {
                Some(outer)
                    if outer.src_stride == count * dim.src_stride && outer.dst_stride == count * dim.dst_stride =>
                {
                    *outer = Dim { count: outer.count * count, ..dim };
                }
                _ => dims.push(dim),
            }
        }
        let run = match dims.last() {
            Some(&Dim { count, src_stride: 1, dst_stride: 1 }) => {
                dims.pop();
                count
            }
            _ => 1,
        };
        Some(Move { src: place(self), dst: place(target), run, dims: dims.into_vec().into_boxed_slice() })
    }
}

impl Move {
    /// The number of units moved.
    pub fn volume(&self) -> u64 {
        self.run * self.dims.iter().map(|d| d.count).product::<u64>()
    }

    /// The same move counted in a unit that is `factor` times smaller.
    #[must_use]
    pub fn scaled(mut self, factor: u64) -> Self {
        self.src *= factor;
        self.dst *= factor;
        self.run *= factor;
        for dim in &mut self.dims {
            dim.src_stride *= factor;
            dim.dst_stride *= factor;
        }
        self
    }

    /// One past the last unit read.
    pub fn src_end(&self) -> u64 {
        self.src + self.run + self.dims.iter().map(|d| (d.count - 1) * d.src_stride).sum::<u64>()
    }

    /// One past the last unit written.
    pub fn dst_end(&self) -> u64 {
        self.dst + self.run + self.dims.iter().map(|d| (d.count - 1) * d.dst_stride).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_piece_is_where_the_piece_has_it() {
        let piece = Piece::new(Region::new([4, 2], [3, 6]), 5, [10, 1]);
        let part = piece.within(&Region::new([5, 0], [9, 4])).unwrap();
        assert_eq!(part, Piece::new(Region::new([5, 2], [2, 2]), 15, [10, 1]));
        assert_eq!(piece.within(&Region::new([7, 0], [9, 9])), None);
        let inner = piece.within(&Region::new([6, 4], [1, 1])).unwrap();
        assert_eq!((inner.offset, inner.region.volume()), (5 + 2 * 10 + 2, 1));
    }

    #[test]
    fn rows_of_whole_width_are_one_run_and_columns_are_strided() {
        let whole = Piece::dense(Region::whole(&[6, 4]));
        let rows = Piece::dense(Region::new(vec![2, 0], vec![2, 4]));
        assert_eq!(whole.to(&rows), Some(Move { src: 8, dst: 0, run: 8, dims: Box::new([]) }));
        let columns = Piece::dense(Region::new(vec![0, 2], vec![6, 2]));
        let dims: Box<[Dim]> = Box::new([Dim { count: 6, src_stride: 4, dst_stride: 2 }]);
        assert_eq!(whole.to(&columns), Some(Move { src: 2, dst: 0, run: 2, dims }));
        assert_eq!(rows.to(&Piece::dense(Region::new(vec![4, 0], vec![2, 4]))), None);
    }
}
