//! Bytes to metadata and back: the headers of checkpoint files, and the strategy files.
//!
//! Invariant: nothing here opens a file, copies tensor data, trusts a length, or keeps more than its [`Budget`] has. A parser gets a
//! blob, or its bytes, and returns where each tensor lies; a writer returns which header bytes are where. Whatever differs from
//! format to format is a method of [`Format`].

mod budget;
mod crc;
mod error;
mod format;
pub mod gguf;
mod json;
mod json_cost;
mod lfs;
pub mod limits;
mod magic;
pub mod mindspore;
mod output;
pub mod pytorch;
mod registry;
pub mod safetensors;
mod summed;

pub use budget::Budget;
pub use crc::StatedCrc;
pub use error::{FormatError, FormatFault};
pub use format::{Format, Of, Reader, ScanError, Scanned, Writing};
pub use json_cost::json_cost;
pub use lfs::lfs_pointer;
pub use output::{Checksum, ChecksumKind, Encoding, FileLayout, Segment, TensorToWrite};
pub use registry::{CKPT, FORMATS, FormatRef, GGUF, PYTORCH, SAFETENSORS, detect};
pub use summed::Summed;

use crate::source::Extents;
use crate::tensor::{Dtype, Shape, TensorName};

/// One tensor as a checkpoint file lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The parameter's name.
    pub name: TensorName,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its dimensions in this file.
    pub shape: Shape,
    /// Where its bytes lie in the file. As long as dtype and shape say: the parsers refuse anything else.
    pub extents: Extents,
}
