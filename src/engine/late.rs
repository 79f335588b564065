//! The ranges of a file that its own checksums cover.

use crate::formats::FileLayout;
use crate::source::ByteRange;

/// What the checksums of a file cover, each range once.
#[derive(Debug, Default)]
pub(super) struct Covered(Vec<ByteRange>);

impl Covered {
    pub(super) fn new(layout: &FileLayout) -> Self {
        let mut ranges: Vec<ByteRange> = layout.late().map(|(_, checksum)| checksum.of).collect();
        ranges.sort_unstable();
        ranges.dedup();
        Self(ranges)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The number of a range.
    pub(super) fn number(&self, range: ByteRange) -> Option<usize> {
        self.0.binary_search(&range).ok()
    }

    /// What of `at .. at + len` is covered: the number of each range, and the first and the last of the bytes.
    pub(super) fn within(&self, at: u64, len: u64) -> impl Iterator<Item = (usize, u64, u64)> + '_ {
        let begun = self.0.iter().enumerate().take_while(move |(_, range)| range.start() < at + len);
        let common = begun.map(move |(n, range)| (n, range.start().max(at), range.end().min(at + len)));
        common.filter(|(_, from, to)| from < to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{Checksum, ChecksumKind, Encoding, Segment};

    #[test]
    fn each_range_is_summed_once_whoever_holds_its_sum() {
        let range = |from, to| ByteRange::new(from, to - from).unwrap();
        let late = |of| Segment::Late(Checksum { kind: ChecksumKind::Crc32, of, encoding: Encoding::LittleEndian });
        let segments = vec![late(range(20, 30)), late(range(0, 50)), late(range(20, 30)), late(range(40, 41))];
        let covered = Covered::new(&FileLayout { segments });
        let numbers = [(0, 50), (20, 30), (40, 41), (0, 49)].map(|(from, to)| covered.number(range(from, to)));
        assert_eq!(numbers, [Some(0), Some(1), Some(2), None]);
        assert_eq!(covered.within(25, 10).collect::<Vec<_>>(), [(0, 25, 35), (1, 25, 30)]);
        assert_eq!(covered.within(30, 10).collect::<Vec<_>>(), [(0, 30, 40)], "the ends are not of them");
        assert_eq!(covered.within(50, 10).count(), 0);
    }
}
