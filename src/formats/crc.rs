//! The checksums that checkpoint files state of themselves (`save_checkpoint(crc_check=True)`).

use super::{Entry, FormatError, FormatFault, Summed, mindspore, safetensors};
use crate::source::ByteRange;

/// A checksum that a file states of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatedCrc {
    /// The trailer of a `.ckpt`.
    Trailer(mindspore::CrcTrailer),
    /// `crc_num` in the metadata of a safetensors file.
    Metadata(u32),
}

impl StatedCrc {
    /// What it is the sum of, in a file of `len` bytes with these tensors.
    ///
    /// # Errors
    /// [`FormatFault::Truncated`] where trailer or entries are another file's.
    pub fn summed(&self, len: u64, entries: &[Entry]) -> Result<Summed, FormatError> {
        match self {
            Self::Trailer(trailer) => {
                let mut summed = Summed::default();
                let field = "checksummed bytes";
                let past = FormatFault::Truncated { field, need: trailer.covered, have: len };
                let covered = ByteRange::new(0, trailer.covered).ok_or(FormatError::new(0, past))?;
                summed.range(field, covered, len)?;
                Ok(summed)
            }
            Self::Metadata(_) => safetensors::summed(len, entries),
        }
    }

    /// Compares it with the sum of the bytes.
    ///
    /// # Errors
    /// [`FormatFault::CrcMismatch`].
    pub fn compare(&self, actual: u32) -> Result<(), FormatError> {
        let (at, stated, where_stated) = match self {
            Self::Trailer(trailer) => (trailer.covered, trailer.stated, "its trailer"),
            Self::Metadata(stated) => (0, *stated, "`crc_num` in its metadata"),
        };
        if actual == stated {
            return Ok(());
        }
        Err(FormatError::new(at, FormatFault::CrcMismatch { stated, actual, where_stated }))
    }
}
