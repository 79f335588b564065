//! Mapping and parsing one file of a checkpoint.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value as Json;

use super::counters::{self, Counters};
use super::{InputError, Opening, quantised_file};
use crate::formats::gguf::{self, GgufFile};
use crate::formats::pytorch::{self, TensorView};
use crate::formats::{Budget, Entry, FormatError, FormatFault, FormatKind, StatedCrc, detect, mindspore, safetensors};
use crate::source::Extents;
use crate::sys::Mapping;

/// A file of a checkpoint.
#[derive(Debug)]
pub struct LoadedFile {
    /// Its rank.
    pub rank: u32,
    /// Its bytes.
    pub mapping: Arc<Mapping>,
    /// Its tensors, in file order.
    pub entries: Vec<Entry>,
    /// Its format.
    pub format: FormatKind,
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

fn pytorch_file(rank: u32, path: &Path, mapping: Arc<Mapping>, budget: &Budget) -> Result<LoadedFile, InputError> {
    let file = pytorch::read_within(&mapping, budget).map_err(|source| quantised_file::fault(path, source))?;
    let mut strides = Vec::with_capacity(file.tensors.len());
    let mut entries = Vec::with_capacity(file.tensors.len());
    for TensorView { name, dtype, shape, strides: steps, span, .. } in file.tensors {
        entries.push(Entry { name, dtype, shape, extents: Extents::contiguous(span) });
        strides.push(steps);
    }
    let others = file.others.into_iter().map(|other| (other.name, other.kind)).collect();
    let format = FormatKind::PyTorch;
    let counters = Counters::default();
    let metadata = Vec::new();
    Ok(LoadedFile { rank, mapping, entries, format, crc: None, strides, others, metadata, counters })
}

fn gguf_file(rank: u32, path: &Path, mapping: Arc<Mapping>, budget: &Budget) -> Result<LoadedFile, InputError> {
    let read = gguf::read_within(&mapping, budget);
    let GgufFile { entries, metadata } = read.map_err(|source| quantised_file::fault(path, source))?;
    let (format, counters) = (FormatKind::Gguf, Counters::default());
    let (strides, others) = (Vec::new(), Vec::new());
    Ok(LoadedFile { rank, mapping, entries, format, crc: None, strides, others, metadata, counters })
}

/// Maps and parses a file.
pub(super) fn load(rank: u32, path: &Path, opening: Opening<'_>) -> Result<LoadedFile, InputError> {
    let mapping = Arc::new(Mapping::open(path, opening.promise)?);
    let parsed = parsed(rank, path, Arc::clone(&mapping), opening.budget);
    // Before anything is said of a header that may be zeros for want of a disk.
    mapping.check()?;
    let file = parsed?;
    // A header is a few pages, but of a cached file the kernel maps 2 MiB for each page that is touched: with a record for every
    // tensor that is most of the file (measured: 837 MB for 408 tensors).
    file.mapping.release(0, file.mapping.len() as u64);
    Ok(file)
}

fn parsed(rank: u32, path: &Path, mapping: Arc<Mapping>, budget: &Budget) -> Result<LoadedFile, InputError> {
    let error = |source: FormatError| quantised_file::fault(path, source);
    let format = detect(&mapping).ok_or_else(|| {
        let what = if mapping.is_empty() {
            FormatFault::Empty
        } else {
            FormatFault::NotThisFormat("neither a MindSpore .ckpt nor a safetensors file")
        };
        error(FormatError::new(0, what))
    })?;
    let (entries, crc) = match format {
        FormatKind::Ckpt => {
            let file = mindspore::scan_within(&mapping, budget).map_err(error)?;
            (file.entries, file.crc.map(StatedCrc::Trailer))
        }
        FormatKind::Safetensors => {
            let file = safetensors::read_within(&mapping, budget).map_err(error)?;
            (file.entries, file.crc.map(StatedCrc::Metadata))
        }
        FormatKind::PyTorch => return pytorch_file(rank, path, mapping, budget),
        FormatKind::Gguf => return gguf_file(rank, path, mapping, budget),
    };
    let (strides, others, metadata) = (Vec::new(), Vec::new(), Vec::new());
    let counters = counters::counters(&mapping, &entries);
    Ok(LoadedFile { rank, mapping, entries, format, crc, strides, others, metadata, counters })
}
