//! Hugging Face's safetensors files, in the strict form that MindSpore's own reader accepts, and their index files.
//!
//! Facts come from the format's description and from `mindspore` 2.10.0, whose reader expects the header's entries in
//! offset order, contiguous from 0 up to the end of the file, and takes any number of spaces as padding.

mod crc;
mod dtype;
mod format;
mod header;
mod header_writer;
mod index;

pub use crc::summed;
pub use format::Safetensors;
pub use header::read;
pub use header_writer::layout;
pub use index::{read as read_index, write as write_index};

/// The key of the string map that is no tensor.
const METADATA: &str = "__metadata__";

/// The metadata value by which MindSpore marks a parameter as `qint4x2`.
const INT4_MARK: &str = "Int4";
