//! What is known of tensors whose bytes passed through: sums, values, overflows.

use std::collections::HashMap;

use super::digest::{ChunkSum, Crc64, Sums, TensorSum};
use super::fill::{Inputs, Target};
use super::late::Covered;
use super::schedule::Task;
use super::values::{Fragment, Values, of_chunk, of_fragments};
use super::ways::Filled;
use super::{Ways, ways};
use crate::formats::Segment;
use crate::source::index;

/// What is known of a written tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorResult {
    /// The checksum of its bytes.
    pub sum: Crc64,
    /// Finite values that became infinite.
    pub overflowed: u64,
    /// What is remarkable about its values.
    pub values: Values,
}

/// What was found out about chunks, in whatever order they came.
#[derive(Debug, Default)]
pub(super) struct Found {
    sums: Vec<ChunkSum>,
    /// (file, tensor, values that overflowed)
    overflowed: Vec<(usize, usize, u64)>,
    /// By file and tensor, what is remarkable about the values.
    values: HashMap<(usize, usize), Values>,
    /// What of that is of elements that chunks cut.
    fragments: Vec<Fragment>,
    pub ways: Ways,
}

impl Found {
    /// A chunk was put together.
    pub(super) fn filled(&mut self, file: usize, filled: Filled) {
        let ways::Filled { overflowed, ways } = filled;
        self.overflowed.extend(overflowed.into_iter().map(|(tensor, count)| (file, tensor, count)));
        self.ways += ways;
    }

    /// Sums of the parts of a chunk, tensor by tensor, and of what the file's own checksums cover.
    pub(super) fn note(&mut self, target: &Target<'_>, covered: &Covered, task: &Task, bytes: &[u8]) {
        for span in target.overlapping(task.at, task.len) {
            let Segment::Data { tensor, range } = span.segment else { continue };
            let (from, to) = (task.at.max(span.at), (task.at + task.len).min(span.at + span.segment.len()));
            let part = &bytes[index(from - task.at)..index(to - task.at)];
            let at = range.start() + (from - span.at);
            let key = (task.file, *tensor);
            let dtype = target.tensors[*tensor].dtype;
            let mut sum = TensorSum::new(task.file, *tensor, at);
            *self.values.entry(key).or_default() +=
                of_chunk(dtype, key, at, part, &mut self.fragments, |bytes| sum.add(bytes));
            self.sums.push(sum.finish());
        }
        for (range, from, to) in covered.within(task.at, task.len) {
            let part = &bytes[index(from - task.at)..index(to - task.at)];
            self.sums.push(ChunkSum::covered(task.file, range, from, part));
        }
    }

    /// What another worker found out.
    pub(super) fn join(&mut self, other: Self) {
        self.sums.extend(other.sums);
        self.overflowed.extend(other.overflowed);
        for (tensor, values) in other.values {
            *self.values.entry(tensor).or_default() += values;
        }
        self.fragments.extend(other.fragments);
        self.ways += other.ways;
    }

    /// All of it, tensor by tensor.
    pub(super) fn results(self, inputs: &Inputs<'_>, targets: &[Target<'_>]) -> Results {
        let mut overflowed: HashMap<(usize, usize), u64> = HashMap::new();
        for (file, tensor, count) in self.overflowed {
            *overflowed.entry((file, tensor)).or_default() += count;
        }
        let mut values = self.values;
        for (tensor, more) in of_fragments(inputs, targets, self.fragments) {
            *values.entry(tensor).or_default() += more;
        }
        let mut sums = Sums::new(self.sums);
        let mut result = |file, tensor| TensorResult {
            sum: sums.tensor(file, tensor),
            overflowed: overflowed.get(&(file, tensor)).copied().unwrap_or(0),
            values: values.get(&(file, tensor)).copied().unwrap_or_default(),
        };
        let of_file =
            |(file, target): (usize, &Target<'_>)| (0..target.tensors.len()).map(|t| result(file, t)).collect();
        let tensors = targets.iter().enumerate().map(of_file).collect();
        Results { tensors, sums, ways: self.ways }
    }
}

/// What is known when all chunks have passed.
pub(super) struct Results {
    /// For each file, what is known of each tensor.
    pub tensors: Vec<Vec<TensorResult>>,
    pub sums: Sums,
    pub ways: Ways,
}
