//! Where tensor bytes lie in a file: byte ranges and lists of them.

/// A range of bytes in a file or a tensor. The end always fits in 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRange {
    start: u64,
    len: u64,
}

impl ByteRange {
    /// The range `start .. start + len`, or `None` where the end overflows.
    pub fn new(start: u64, len: u64) -> Option<Self> {
        start.checked_add(len).map(|_| Self { start, len })
    }

    /// The first byte.
    pub const fn start(self) -> u64 {
        self.start
    }

    /// The number of bytes.
    pub const fn len(self) -> u64 {
        self.len
    }

    /// Whether there is no byte in it.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// One past the last byte.
    pub const fn end(self) -> u64 {
        self.start + self.len
    }

    /// The bytes of `file` that the range names, or `None` where the file is shorter.
    pub fn of(self, file: &[u8]) -> Option<&[u8]> {
        file.get(usize::try_from(self.start).ok()?..usize::try_from(self.end()).ok()?)
    }
}

/// A file that accepts hints of which bytes will be read soon.
pub trait ReadAhead: Sync {
    /// These bytes will be read from front to back. A hint: nothing happens where it is not understood.
    fn will_read(&self, range: ByteRange);
}

/// Where a tensor's bytes lie in a file: one range as a rule, several where the file splits the parameter.
/// In tensor order; empty ranges are left out.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Extents {
    /// (offset in the tensor, range in the file), in tensor order without a gap.
    parts: Vec<(u64, ByteRange)>,
    len: u64,
}

impl Extents {
    /// One contiguous range.
    pub fn contiguous(range: ByteRange) -> Self {
        let mut extents = Self::default();
        extents.push(range);
        extents
    }

    /// Adds the range that holds the tensor's next bytes.
    ///
    /// # Panics
    /// Where the sum of lengths overflows 64 bits, which ranges of one file cannot do unless they overlap.
    pub fn push(&mut self, range: ByteRange) {
        if range.is_empty() {
            return;
        }
        match self.parts.last_mut() {
            Some((_, last)) if last.end() == range.start() => last.len += range.len,
            _ => self.parts.push((self.len, range)),
        }
        self.len = self.len.checked_add(range.len).expect("extents of one file fit in 64 bits");
    }

    /// The tensor's length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the tensor has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The ranges of the file in tensor order, each with the offset in the tensor at which it begins.
    pub fn parts(&self) -> &[(u64, ByteRange)] {
        &self.parts
    }

    /// The range of the file, when there is only one.
    pub fn as_contiguous(&self) -> Option<ByteRange> {
        match self.parts.as_slice() {
            [(_, range)] => Some(*range),
            _ => None,
        }
    }

    /// The pieces of the file that hold the tensor's bytes `offset .. offset + len`, in order.
    /// Bytes past the end of the tensor are not returned.
    pub fn locate(&self, offset: u64, len: u64) -> impl Iterator<Item = ByteRange> + '_ {
        let end = offset.saturating_add(len).min(self.len);
        let first = self.parts.partition_point(|(at, range)| at + range.len <= offset);
        self.parts[first..].iter().map_while(move |&(at, range)| {
            if at >= end || offset >= end {
                return None;
            }
            let from = offset.max(at);
            let to = end.min(at + range.len);
            Some(ByteRange { start: range.start + (from - at), len: to - from })
        })
    }
}

/// An offset inside something mapped or allocated, which by that fits the address space.
pub(crate) fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("an offset inside mapped memory fits the address space")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, len: u64) -> ByteRange {
        ByteRange::new(start, len).unwrap()
    }

    #[test]
    fn adjacent_ranges_join_and_locate_crosses_gaps() {
        let mut extents = Extents::default();
        extents.push(range(10, 4));
        extents.push(range(14, 2));
        extents.push(range(30, 5));
        assert_eq!(extents.parts(), [(0, range(10, 6)), (6, range(30, 5))]);
        assert_eq!(extents.locate(4, 4).collect::<Vec<_>>(), [range(14, 2), range(30, 2)]);
        assert_eq!(extents.locate(0, 6).collect::<Vec<_>>(), [range(10, 6)]);
        assert_eq!(extents.locate(9, 100).collect::<Vec<_>>(), [range(33, 2)]);
        assert_eq!(extents.locate(3, 0).collect::<Vec<_>>(), []);
    }
}
