//! Hyper-rectangles of a tensor.

use smallvec::SmallVec;

/// One number for each axis, kept in place for tensors of up to five axes, which the rows of q and their columns are: a plan for a
/// thousand ranks has millions.
pub(super) type Axes = SmallVec<[u64; 5]>;

/// A box of a tensor: for each axis the first index and the number of indices.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Region {
    start: Axes,
    len: Axes,
}

impl Region {
    /// The box with these corners.
    ///
    /// # Panics
    /// Where `start` and `len` have different numbers of axes.
    pub fn new(start: impl IntoIterator<Item = u64>, len: impl IntoIterator<Item = u64>) -> Self {
        let (start, len): (Axes, Axes) = (start.into_iter().collect(), len.into_iter().collect());
        assert_eq!(start.len(), len.len(), "a region has one start and one length an axis");
        Self { start, len }
    }

    /// The whole of a tensor with these dimensions.
    pub fn whole(dims: &[u64]) -> Self {
        Self { start: dims.iter().map(|_| 0).collect(), len: Axes::from_slice(dims) }
    }

    /// The first index of each axis.
    pub fn start(&self) -> &[u64] {
        &self.start
    }

    /// The number of indices of each axis.
    pub fn len(&self) -> &[u64] {
        &self.len
    }

    /// Whether it holds no element.
    pub fn is_empty(&self) -> bool {
        self.len.contains(&0)
    }

    /// The number of elements.
    pub fn volume(&self) -> u64 {
        self.len.iter().product()
    }

    /// What two boxes share, or `None` where they share nothing.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let mut start = Axes::with_capacity(self.start.len());
        let mut len = Axes::with_capacity(self.len.len());
        for axis in 0..self.start.len() {
            let from = self.start[axis].max(*other.start.get(axis)?);
            let to = (self.start[axis] + self.len[axis]).min(other.start[axis] + other.len[axis]);
            if from >= to {
                return None;
            }
            start.push(from);
            len.push(to - from);
        }
        Some(Self { start, len })
    }

    /// The same box with axis `axis` replaced by `start .. start + len`.
    #[must_use]
    pub fn with_axis(mut self, axis: usize, start: u64, len: u64) -> Self {
        self.start[axis] = start;
        self.len[axis] = len;
        self
    }
}
