//! Mapping and parsing one file of a checkpoint.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value as Json;

use super::counters::{self, Counters};
use super::{InputError, Opening, quantised_file};
use crate::formats::{Budget, Entry, FormatError, FormatFault, FormatRef, Of, ScanError, Scanned, StatedCrc, detect};
use crate::storage::{Head, LocalBlob, Store};

/// A file of a checkpoint.
#[derive(Debug)]
pub struct LoadedFile {
    /// Its rank.
    pub rank: u32,
    /// Its bytes.
    pub mapping: Arc<LocalBlob>,
    /// Its tensors, in file order.
    pub entries: Vec<Entry>,
    /// Its format.
    pub format: FormatRef,
    /// The checksum that MindSpore wrote into it, if it did.
    pub crc: Option<StatedCrc>,
    /// The strides in elements of entries that are not row-major (PyTorch's views), entry by entry; empty for other formats.
    pub strides: Vec<Option<Vec<u64>>>,
    /// Values among the tensors of a PyTorch state dict that are none: name and kind.
    pub others: Vec<(String, &'static str)>,
    /// The metadata of a GGUF file, key by key; empty for other formats.
    pub metadata: Vec<(String, Json)>,
    /// What it says of the moment at which it was saved.
    pub(super) counters: Counters,
}

/// Bytes by which the formats are recognised.
const FIRST: u64 = 4096;

/// Maps and parses a file.
pub(super) fn load(rank: u32, path: &Path, opening: Opening<'_>) -> Result<LoadedFile, InputError> {
    let mapping = opening.store.open(path)?;
    let parsed = parsed(rank, path, Arc::clone(&mapping), opening.budget);
    // Before anything is said of a header that may be zeros because a disk failed.
    mapping.check()?;
    let file = parsed?;
    // A header is a few pages, but of a cached file the kernel maps 2 MiB for each page that is touched: with a record for every
    // tensor that is most of the file (measured: 837 MB for 408 tensors).
    file.mapping.release(0, file.mapping.len() as u64);
    Ok(file)
}

fn parsed(rank: u32, path: &Path, mapping: Arc<LocalBlob>, budget: &Budget) -> Result<LoadedFile, InputError> {
    let error = |source: FormatError| quantised_file::fault(path, source);
    let format = detect(Head::of(&*mapping).to(FIRST)?).ok_or_else(|| {
        let what = if mapping.is_empty() {
            FormatFault::Empty
        } else {
            FormatFault::NotThisFormat("neither a MindSpore .ckpt nor a safetensors file")
        };
        error(FormatError::new(0, what))
    })?;
    let Scanned { entries, crc, strides, others, metadata } = format.scan(&*mapping, budget).map_err(|e| match e {
        ScanError::Format(e) => error(e),
        ScanError::File(e) => e.into(),
    })?;
    let counters = if format.of() == Of::Ranks { counters::counters(&mapping, &entries) } else { Counters::default() };
    Ok(LoadedFile { rank, mapping, entries, format, crc, strides, others, metadata, counters })
}
