//! The checksums that checkpoint files state of themselves (`save_checkpoint(crc_check=True)`).

use super::{Entry, FormatError, FormatFault, mindspore, safetensors};

/// A checksum that a file states of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatedCrc {
    /// The trailer of a `.ckpt`.
    Trailer(mindspore::CrcTrailer),
    /// `crc_num` in the metadata of a safetensors file.
    Metadata(u32),
}

impl StatedCrc {
    /// Compares it with the bytes, all of which are read. `file`: all bytes of the file; `entries`: its tensors.
    ///
    /// # Errors
    /// [`FormatFault::CrcMismatch`]; [`FormatFault::Truncated`] where trailer or entries are another file's.
    pub fn verify(&self, file: &[u8], entries: &[Entry]) -> Result<(), FormatError> {
        match self {
            Self::Trailer(trailer) => mindspore::verify_crc(file, trailer),
            Self::Metadata(stated) => {
                let actual = safetensors::crc(file, entries)?;
                if actual == *stated {
                    return Ok(());
                }
                Err(FormatError::new(
                    0,
                    FormatFault::CrcMismatch { stated: *stated, actual, where_stated: "`crc_num` in its metadata" },
                ))
            }
        }
    }
}
