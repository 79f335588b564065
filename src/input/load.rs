//! Mapping and parsing the files of a checkpoint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::counters::{self, Counters};
use super::saves::{WhichSave, discover_training};
use super::{CheckpointFiles, InputError, RankGaps, discover, quantised};
use crate::formats::pytorch::{self, TensorView};
use crate::formats::{Entry, FormatError, FormatFault, FormatKind, StatedCrc, detect, mindspore, safetensors};
use crate::plan::SourceFile;
use crate::source::Extents;
use crate::sys::{Change, Mapping, StableInputs};

/// A checkpoint: its files mapped, their headers parsed. No tensor was touched.
#[derive(Debug)]
pub struct Input {
    /// In the order of ranks.
    pub files: Vec<LoadedFile>,
    /// The format, which all files share.
    pub format: FormatKind,
    /// Why this save of several was taken, where that needs saying.
    pub why: Option<String>,
}

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
    /// What it says of the moment at which it was saved.
    pub(super) counters: Counters,
}

impl Input {
    /// Finds, maps and parses a checkpoint.
    pub fn open(path: &Path, gaps: RankGaps, promise: StableInputs) -> Result<Self, InputError> {
        Self::of_files(path, discover(path, gaps)?, promise)
    }

    /// Finds, maps and parses one save of a training run.
    ///
    /// # Errors
    /// As [`Self::open`]; where the save that is meant is not clear, or not there in every rank, those that can be named are
    /// listed.
    pub fn open_training(path: &Path, which: WhichSave<'_>, promise: StableInputs) -> Result<Self, InputError> {
        let (files, why) = discover_training(path, which, promise)?;
        Ok(Self { why, ..Self::of_files(path, files, promise)? })
    }

    /// Whether every file is of the rank in whose directory it is, and all are of one save.
    ///
    /// # Errors
    /// A file that is named for another rank; counters that disagree.
    pub fn check_ranks(&self) -> Result<(), InputError> {
        counters::check_ranks(&self.files)
    }

    fn of_files(path: &Path, found: CheckpointFiles, promise: StableInputs) -> Result<Self, InputError> {
        let CheckpointFiles { files: paths, index } = found;
        let mut files: Vec<LoadedFile> = Vec::with_capacity(paths.len());
        for (rank, path) in paths {
            let file = load(rank, &path, promise)?;
            if let Some(first) = files.first().filter(|first| first.format != file.format) {
                let (a, b) = (first.mapping.path().to_owned(), path);
                let (ckpt, safetensors) = if first.format == FormatKind::Ckpt { (a, b) } else { (b, a) };
                return Err(InputError::MixedFormats { ckpt, safetensors });
            }
            files.push(file);
        }
        if let Some((path, map)) = index {
            check_index(&path, &map, &files)?;
        }
        let format = files.first().map(|f| f.format).ok_or_else(|| InputError::NoCheckpoint(path.to_owned()))?;
        if format == FormatKind::PyTorch {
            return Err(InputError::IsForeign(path.to_owned()));
        }
        Ok(Self { files, format, why: None })
    }

    /// The files as the plan wants them.
    pub fn source_files(&self) -> Vec<SourceFile<'_>> {
        let file = |f: &LoadedFile| f.mapping.path().to_owned();
        self.files
            .iter()
            .map(|f| SourceFile {
                path: file(f),
                rank: f.rank,
                bytes: &f.mapping,
                entries: &f.entries,
                ahead: Some(&*f.mapping),
            })
            .collect()
    }

    /// The mappings, in the order of the files.
    pub fn mappings(&self) -> Vec<Arc<Mapping>> {
        self.files.iter().map(|f| Arc::clone(&f.mapping)).collect()
    }
}

fn pytorch_file(rank: u32, path: &Path, mapping: Mapping) -> Result<LoadedFile, InputError> {
    let file = pytorch::read(&mapping).map_err(|source| quantised::fault(path, source))?;
    let mut strides = Vec::with_capacity(file.tensors.len());
    let mut entries = Vec::with_capacity(file.tensors.len());
    for TensorView { name, dtype, shape, strides: steps, span, .. } in file.tensors {
        entries.push(Entry { name, dtype, shape, extents: Extents::contiguous(span) });
        strides.push(steps);
    }
    let others = file.others.into_iter().map(|other| (other.name, other.kind)).collect();
    let format = FormatKind::PyTorch;
    let counters = Counters::default();
    Ok(LoadedFile { rank, mapping: Arc::new(mapping), entries, format, crc: None, strides, others, counters })
}

/// Maps and parses a file.
pub(super) fn load(rank: u32, path: &Path, promise: StableInputs) -> Result<LoadedFile, InputError> {
    let file = parsed(rank, path, promise)?;
    // A header is a few pages, but of a cached file the kernel maps 2 MiB for each page that is touched: with a record for every
    // tensor that is most of the file (measured: 837 MB for 408 tensors).
    file.mapping.release(0, file.mapping.len() as u64);
    Ok(file)
}

fn parsed(rank: u32, path: &Path, promise: StableInputs) -> Result<LoadedFile, InputError> {
    let mapping = Mapping::open(path, promise)?;
    let error = |source: FormatError| quantised::fault(path, source);
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
            let file = mindspore::scan(&mapping).map_err(error)?;
            (file.entries, file.crc.map(StatedCrc::Trailer))
        }
        FormatKind::Safetensors => {
            let file = safetensors::read(&mapping).map_err(error)?;
            (file.entries, file.crc.map(StatedCrc::Metadata))
        }
        FormatKind::PyTorch => return pytorch_file(rank, path, mapping),
    };
    let (strides, others) = (Vec::new(), Vec::new());
    let counters = counters::counters(&mapping, &entries);
    Ok(LoadedFile { rank, mapping: Arc::new(mapping), entries, format, crc, strides, others, counters })
}

/// Reads a file once and compares its CRC with the one that it states.
pub fn check_crc(file: &LoadedFile) -> Result<(), InputError> {
    let Some(stated) = &file.crc else { return Ok(()) };
    file.mapping.read_through();
    let verified = stated
        .verify(&file.mapping, &file.entries)
        .map_err(|source| InputError::Format { path: file.mapping.path().to_owned(), source: source.into() });
    file.mapping.release(0, file.mapping.len() as u64);
    verified
}

/// Whether all files still are what they were when they were mapped. Returns those that are, but were removed or replaced by
/// others of their name: what was read is of the ones that were mapped.
///
/// # Errors
/// The first file that was written to, or may have been.
pub fn check_unchanged(mappings: &[Arc<Mapping>]) -> Result<Vec<PathBuf>, InputError> {
    let mut replaced = Vec::new();
    for mapping in mappings {
        let path = || mapping.path().to_owned();
        match mapping.change()? {
            None => {}
            Some(Change::Replaced) => replaced.push(path()),
            Some(change) => return Err(InputError::Changed { path: path(), change }),
        }
    }
    Ok(replaced)
}

/// Every tensor must lie in the file that the index names, and every name of the index must be there.
fn check_index(index: &Path, map: &BTreeMap<String, String>, files: &[LoadedFile]) -> Result<(), InputError> {
    let mut held: BTreeMap<&str, PathBuf> = BTreeMap::new();
    for file in files {
        for entry in &file.entries {
            held.insert(&entry.name, file.mapping.path().to_owned());
        }
    }
    let file_of = |name: &str| held.get(name).and_then(|p| p.file_name()).map(|n| n.to_string_lossy().into_owned());
    let wrong: Vec<String> =
        map.iter().filter(|(name, file)| file_of(name).as_ref() != Some(file)).map(|(n, _)| n.clone()).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let why = format!("{} not in the file that the index names", crate::plan::list(&wrong));
    Err(InputError::Index { index: index.to_owned(), why })
}
