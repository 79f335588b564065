//! MindSpore's `.ckpt` as one of the formats.

use super::ckpt::scan_within;
use super::ckpt_writer::{CkptOptions, layout};
use crate::formats::format::{Format, Of, ScanError, Scanned, Writing, whole};
use crate::formats::{Budget, FileLayout, FormatError, StatedCrc, TensorToWrite, magic};
use crate::storage::Blob;

/// MindSpore's protobuf `.ckpt`.
#[derive(Debug)]
pub struct Ckpt;

impl Format for Ckpt {
    fn title(&self) -> &'static str {
        "MindSpore .ckpt"
    }

    fn extension(&self) -> &'static str {
        "ckpt"
    }

    fn begins(&self, file: &[u8]) -> bool {
        magic::is_ckpt(file)
    }

    fn scan(&self, file: &dyn Blob, budget: &Budget) -> Result<Scanned, ScanError> {
        let found = scan_within(whole(file, budget, &mut Vec::new())?, budget)?;
        Ok(Scanned { entries: found.entries, crc: found.crc.map(StatedCrc::Trailer), ..Scanned::default() })
    }

    fn layout(&self, tensors: &[TensorToWrite], how: Writing) -> Result<FileLayout, FormatError> {
        layout(tensors, CkptOptions { padding: how.padding, crc: how.crc, ..CkptOptions::default() })
    }

    fn of(&self) -> Of {
        Of::Ranks
    }

    fn writes_crc(&self) -> bool {
        true
    }
}
