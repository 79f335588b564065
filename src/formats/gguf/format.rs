//! llama.cpp's GGUF as one of the formats.

use super::read_within;
use crate::formats::format::{Format, Of, ScanError, Scanned, Writing, whole};
use crate::formats::{Budget, FileLayout, FormatError, FormatFault, TensorToWrite, magic};
use crate::storage::Blob;

/// llama.cpp's container. It is read only.
#[derive(Debug)]
pub struct Gguf;

impl Format for Gguf {
    fn title(&self) -> &'static str {
        "GGUF"
    }

    fn extension(&self) -> &'static str {
        "gguf"
    }

    fn begins(&self, file: &[u8]) -> bool {
        magic::is_gguf(file)
    }

    fn scan(&self, file: &dyn Blob, budget: &Budget) -> Result<Scanned, ScanError> {
        let found = read_within(whole(file, budget, &mut Vec::new())?, budget)?;
        Ok(Scanned { entries: found.entries, metadata: found.metadata, ..Scanned::default() })
    }

    fn layout(&self, _tensors: &[TensorToWrite], _how: Writing) -> Result<FileLayout, FormatError> {
        Err(FormatError::new(0, FormatFault::NotThisFormat("GGUF files are not written")))
    }

    fn of(&self) -> Of {
        Of::LlamaCpp
    }
}
