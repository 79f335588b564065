//! What a container of checkpoints is: how its files begin, what they list, how they are written.

use std::fmt;

use serde_json::Value as Json;

use super::{Budget, Entry, FileLayout, FormatError, StatedCrc, TensorToWrite};
use crate::storage::Blob;
use crate::sys::FileError;

/// What a file lists.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Scanned {
    /// Its tensors, in file order.
    pub entries: Vec<Entry>,
    /// The checksum that it states of itself.
    pub crc: Option<StatedCrc>,
    /// The strides in elements of entries that are not row-major, entry by entry; empty where all are.
    pub strides: Vec<Option<Vec<u64>>>,
    /// What is among the tensors and is none: name and kind.
    pub others: Vec<(String, &'static str)>,
    /// What a format that describes the model says of it, key by key.
    pub metadata: Vec<(String, Json)>,
}

/// Whose checkpoints consist of files of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// MindSpore's: a rank's file may be one.
    Ranks,
    /// PyTorch's.
    PyTorch,
    /// llama.cpp's.
    LlamaCpp,
}

/// Why a file could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// What is wrong with its bytes.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What a format is read of that has no header at the beginning: all of the file. One that is not mapped is read into memory, as far
/// as that is allowed.
pub(super) fn whole<'a>(file: &'a dyn Blob, budget: &Budget, read: &'a mut Vec<u8>) -> Result<&'a [u8], ScanError> {
    if let Some(all) = file.mapped() {
        return Ok(all);
    }
    budget.take_at(0, file.len())?;
    read.resize(usize::try_from(file.len()).unwrap_or(usize::MAX), 0);
    file.read_at(read, 0)?;
    Ok(read)
}

/// How a file is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writing {
    /// Whether it may be padded so that data can be written straight from the source.
    pub padding: bool,
    /// Whether it gets a checksum, in a format that [has one](Format::writes_crc).
    pub crc: bool,
    /// Whose program reads it, where the format says that.
    pub reader: Reader,
}

/// Whose program reads a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// MindSpore.
    MindSpore,
    /// PyTorch.
    PyTorch,
}

/// A container of checkpoints. A new one is a file with this trait and a line of [`FORMATS`](super::FORMATS).
///
/// Nothing here opens a file, trusts a length or takes more memory than it is given.
pub trait Format: fmt::Debug + Sync {
    /// What it is called, which no other is.
    fn title(&self) -> &'static str;

    /// The file name extension, without the dot.
    fn extension(&self) -> &'static str;

    /// Whether the bytes begin one, damaged or encrypted ones included, so that [`Self::scan`] can say what is wrong.
    fn begins(&self, file: &[u8]) -> bool;

    /// Lists the tensors of a file. Of one that is not mapped no more is read than the format makes necessary.
    ///
    /// # Errors
    /// A damaged or contradictory file, or one that lists more than there is memory for; one that cannot be read.
    fn scan(&self, file: &dyn Blob, budget: &Budget) -> Result<Scanned, ScanError>;

    /// The segments of a file that holds the tensors in the given order.
    ///
    /// # Errors
    /// Tensors that the format cannot hold.
    fn layout(&self, tensors: &[TensorToWrite], how: Writing) -> Result<FileLayout, FormatError>;

    /// Whose checkpoints consist of such files; what several programs read is MindSpore's.
    fn of(&self) -> Of;

    /// What a file of a whole model is called, without number and extension.
    fn stem(&self) -> &'static str {
        "model"
    }

    /// Whether a checksum can be written while its bytes are.
    fn writes_crc(&self) -> bool {
        false
    }

    /// Whether MindSpore reads a whole model in numbered files of it, with an index.
    fn is_numbered(&self) -> bool {
        false
    }
}

impl PartialEq for dyn Format {
    fn eq(&self, other: &Self) -> bool {
        self.title() == other.title()
    }
}

impl Eq for dyn Format {}
