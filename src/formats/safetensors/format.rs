//! Hugging Face's safetensors as one of the formats.

use super::header::{LENGTH_BYTES, header_end, read_head};
use super::header_writer::layout;
use crate::formats::format::{Format, Of, Reader, ScanError, Scanned, Writing};
use crate::formats::{Budget, FileLayout, FormatError, StatedCrc, TensorToWrite, magic};
use crate::storage::{Blob, Head};

/// Hugging Face's safetensors.
#[derive(Debug)]
pub struct Safetensors;

impl Format for Safetensors {
    fn title(&self) -> &'static str {
        "safetensors"
    }

    fn extension(&self) -> &'static str {
        "safetensors"
    }

    fn begins(&self, file: &[u8]) -> bool {
        magic::is_safetensors(file)
    }

    fn scan(&self, file: &dyn Blob, budget: &Budget) -> Result<Scanned, ScanError> {
        let mut head = Head::of(file);
        let wanted = header_end(head.to(LENGTH_BYTES as u64)?);
        let mut loan = budget.loan();
        if file.mapped().is_none() {
            loan.take_at(0, wanted.min(file.len()))?;
        }
        let found = read_head(head.to(wanted)?, file.len(), budget)?;
        Ok(Scanned { entries: found.entries, crc: found.crc.map(StatedCrc::Metadata), ..Scanned::default() })
    }

    fn layout(&self, tensors: &[TensorToWrite], how: Writing) -> Result<FileLayout, FormatError> {
        let reader = match how.reader {
            Reader::MindSpore => "ms",
            Reader::PyTorch => "pt",
        };
        layout(tensors, &[("format".to_owned(), reader.to_owned())])
    }

    fn of(&self) -> Of {
        Of::Ranks
    }

    fn is_numbered(&self) -> bool {
        true
    }
}
