//! Bytes to metadata and back: the headers of checkpoint files, and the strategy files.
//!
//! Invariant: nothing here opens a file, copies tensor data, or trusts a length. A parser gets the whole file as a byte
//! slice (a mapping, as a rule) and answers where each tensor lies; a writer answers which header bytes stand where.

mod budget;
mod crc;
mod detect;
mod error;
pub mod gguf;
mod json;
mod json_cost;
mod lfs;
pub mod limits;
mod magic;
pub mod mindspore;
mod output;
pub mod pytorch;
pub mod safetensors;

pub use budget::Budget;
pub use crc::StatedCrc;
pub use detect::detect;
pub use error::{FormatError, FormatFault};
pub use json_cost::json_cost;
pub use lfs::lfs_pointer;
pub use output::{Checksum, ChecksumKind, Encoding, FileLayout, Segment, TensorToWrite};

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

/// The container format of a checkpoint file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FormatKind {
    /// MindSpore's protobuf `.ckpt`.
    Ckpt,
    /// Hugging Face's safetensors.
    Safetensors,
    /// PyTorch's zip archive or its legacy form.
    PyTorch,
    /// llama.cpp's container. It is read only.
    Gguf,
}

impl FormatKind {
    /// The file name extension, without the dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Ckpt => "ckpt",
            Self::Safetensors => "safetensors",
            Self::PyTorch => "bin",
            Self::Gguf => "gguf",
        }
    }
}
