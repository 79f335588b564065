//! Which file holds which box of a logical tensor, found fast.

use crate::layout::{Piece, Region};

/// A box of a logical tensor in a source file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    /// Index of the source file.
    pub file: usize,
    /// Index of the entry in the file.
    pub entry: usize,
    /// Which box, and where it lies in the entry.
    pub piece: Piece,
}

/// The shards of one tensor, replicas left out, sorted along the axis that is cut most.
#[derive(Clone, Debug, Default)]
pub(super) struct Shards {
    sorted: Vec<Shard>,
    replicas: Vec<Shard>,
    /// How many of `replicas`, its first, are of other stages.
    copies: usize,
    /// Where each of `sorted` begins along the axis.
    starts: Vec<u64>,
    axis: usize,
    longest: u64,
}

impl Shards {
    /// Keeps the first shard of each box. `copies` are never read: they repeat what the others hold, perhaps cut otherwise.
    pub(super) fn new(shards: Vec<Shard>, copies: Vec<Shard>) -> Self {
        let ndim = shards.first().map_or(0, |h| h.piece.region.start().len());
        let starts = |axis: usize| {
            let mut starts: Vec<u64> = shards.iter().map(|h| h.piece.region.start()[axis]).collect();
            starts.sort_unstable();
            starts.dedup();
            starts.len()
        };
        let axis = (0..ndim).max_by_key(|&axis| (starts(axis), usize::MAX - axis)).unwrap_or(0);
        let mut sorted = shards;
        // Stable, so that of equal boxes the one seen first (the lowest rank's) is kept.
        if ndim > 0 {
            let key = |h: &Shard| {
                (h.piece.region.start()[axis], h.piece.region.start().to_vec(), h.piece.region.len().to_vec())
            };
            sorted.sort_by_cached_key(key);
        }
        let count = copies.len();
        let mut replicas = copies;
        sorted.dedup_by(|later, first| {
            let same = later.piece.region == first.piece.region;
            if same {
                replicas.push(later.clone());
            }
            same
        });
        let longest = sorted.iter().filter_map(|h| h.piece.region.len().get(axis)).copied().max().unwrap_or(0);
        let starts = sorted.iter().filter_map(|h| h.piece.region.start().get(axis)).copied().collect();
        Self { sorted, replicas, copies: count, starts, axis, longest }
    }

    /// The shards that can share something with a box.
    pub(super) fn near<'a>(&'a self, region: &Region) -> &'a [Shard] {
        let (Some(&start), Some(&len)) = (region.start().get(self.axis), region.len().get(self.axis)) else {
            return &self.sorted;
        };
        let from = self.starts.partition_point(|at| at + self.longest <= start);
        let to = self.starts.partition_point(|&at| at < start + len);
        &self.sorted[from..to.max(from)]
    }

    /// The shards that are used.
    pub(super) fn used(&self) -> &[Shard] {
        &self.sorted
    }

    /// The shards that are not used, because others hold the same boxes.
    pub(super) fn replicas(&self) -> &[Shard] {
        &self.replicas
    }

    /// Those of [`Self::replicas`] that another stage holds, as of a tied embedding.
    pub(super) fn copies(&self) -> &[Shard] {
        &self.replicas[..self.copies]
    }

    /// The shards that are used, then the replicas that are not.
    pub(super) fn all(&self) -> impl Iterator<Item = &Shard> {
        self.sorted.iter().chain(&self.replicas)
    }
}
