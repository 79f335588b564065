//! The bytes that a checksum is taken of, without the file.

use super::{FormatError, FormatFault, Segment};
use crate::source::{ByteRange, Extents};

/// What a checksum is the sum of, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summed {
    /// Where those of its bytes are that lie in the file.
    pub place: Extents,
    /// All of its bytes. Those in the file are data of tensor 0, which is what lies at `place`.
    pub segments: Vec<Segment>,
}

impl Summed {
    /// Goes on with bytes that are in the file only by their meaning.
    pub(super) fn literal(&mut self, bytes: &[u8]) {
        self.segments.push(Segment::Literal(bytes.to_vec()));
    }

    /// Goes on with a range of a file of `len` bytes.
    ///
    /// # Errors
    /// [`FormatFault::Truncated`] where it ends past the file; `field`: what is in it.
    pub(super) fn range(&mut self, field: &'static str, range: ByteRange, len: u64) -> Result<(), FormatError> {
        let past = FormatFault::Truncated { field, need: range.end(), have: len };
        if range.end() > len {
            return Err(FormatError::new(range.start(), past));
        }
        let of_tensor = ByteRange::new(self.place.len(), range.len());
        self.segments.push(Segment::Data { tensor: 0, range: of_tensor.ok_or(FormatError::new(range.start(), past))? });
        self.place.push(range);
        Ok(())
    }
}
