//! Hugging Face's safetensors as one of the formats.

use super::header::read_within;
use super::header_writer::layout;
use crate::formats::format::{Format, Reader, Scanned, Writing};
use crate::formats::{Budget, FileLayout, FormatError, StatedCrc, TensorToWrite, magic};

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

    fn scan(&self, file: &[u8], budget: &Budget) -> Result<Scanned, FormatError> {
        let found = read_within(file, budget)?;
        Ok(Scanned { entries: found.entries, crc: found.crc.map(StatedCrc::Metadata), ..Scanned::default() })
    }

    fn layout(&self, tensors: &[TensorToWrite], how: Writing) -> Result<FileLayout, FormatError> {
        let reader = match how.reader {
            Reader::MindSpore => "ms",
            Reader::PyTorch => "pt",
        };
        layout(tensors, &[("format".to_owned(), reader.to_owned())])
    }

    fn is_of_ranks(&self) -> bool {
        true
    }

    fn is_numbered(&self) -> bool {
        true
    }
}
