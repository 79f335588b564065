//! A checkpoint: all of its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::loaded_file::{LoadedFile, load};
use super::saves::{WhichSave, discover_training};
use super::{CheckpointFiles, InputError, Opening, RankGaps, discover, save_name};
use crate::formats::{FormatRef, Of};
use crate::model::naming::SAVE_MARKS;
use crate::plan::SourceFile;
use crate::storage::LocalBlob;
use crate::sys::Change;

/// A checkpoint: its files mapped, their headers parsed. No tensor was touched.
#[derive(Debug)]
pub struct Input {
    /// In the order of ranks.
    pub files: Vec<LoadedFile>,
    /// The format, which all files share.
    pub format: FormatRef,
    /// Why this save of several was taken, where that needs saying.
    pub why: Option<String>,
}

impl Input {
    /// Finds, maps and parses a checkpoint.
    pub fn open(path: &Path, gaps: RankGaps, opening: Opening<'_>) -> Result<Self, InputError> {
        Self::of_files(path, discover(path, gaps)?, opening)
    }

    /// Finds, maps and parses one save of a training run.
    ///
    /// # Errors
    /// As [`Self::open`]; where the save that is meant is not clear, or not there in every rank, those that can be named are
    /// listed.
    pub fn open_training(path: &Path, which: WhichSave<'_>, opening: Opening<'_>) -> Result<Self, InputError> {
        let (files, why) = discover_training(path, which, opening)?;
        Ok(Self { why, ..Self::of_files(path, files, opening)? })
    }

    /// Whether every file is of the rank in whose directory it is, and all are of one save.
    ///
    /// # Errors
    /// A file that is named for another rank; counters that disagree.
    pub fn check_ranks(&self) -> Result<(), InputError> {
        check_ranks(&self.files)
    }

    fn of_files(path: &Path, found: CheckpointFiles, opening: Opening<'_>) -> Result<Self, InputError> {
        let CheckpointFiles { files: paths, index } = found;
        let mut files: Vec<LoadedFile> = Vec::with_capacity(paths.len());
        for (rank, path) in paths {
            let file = load(rank, &path, opening)?;
            if let Some(first) = files.first().filter(|first| first.format != file.format) {
                let first = (first.mapping.path().to_owned(), first.format.extension());
                return Err(InputError::MixedFormats { first, other: (path, file.format.extension()) });
            }
            files.push(file);
        }
        if let Some((path, map)) = index {
            check_index(&path, &map, &files)?;
        }
        let format = files.first().map(|f| f.format).ok_or_else(|| InputError::NoCheckpoint(path.to_owned()))?;
        match format.of() {
            Of::Ranks => {}
            Of::PyTorch => return Err(InputError::IsForeign(path.to_owned())),
            Of::LlamaCpp => return Err(InputError::IsGguf(path.to_owned())),
        }
        Ok(Self { files, format, why: None })
    }

    /// The files as the plan needs them.
    pub fn source_files(&self) -> Vec<SourceFile<'_>> {
        let file = |f: &LoadedFile| f.mapping.path().to_owned();
        self.files
            .iter()
            .map(|f| SourceFile { path: file(f), rank: f.rank, len: f.mapping.len() as u64, entries: &f.entries })
            .collect()
    }

    /// Whether any tensor is quantised by blocks, so that its bytes are not those of its elements.
    pub fn holds_blocks(&self) -> bool {
        self.files.iter().flat_map(|file| &file.entries).any(|entry| entry.dtype.block().0 > 1)
    }

    /// The mappings, in the order of the files.
    pub fn mappings(&self) -> Vec<Arc<LocalBlob>> {
        self.files.iter().map(|f| Arc::clone(&f.mapping)).collect()
    }
}

/// Whether all files still are what they were when they were mapped. Returns those that are, but were removed or replaced by
/// others of their name: what was read is of the ones that were mapped.
///
/// # Errors
/// The first file that was written to, or may have been, or that could not be read.
pub fn check_unchanged(mappings: &[Arc<LocalBlob>]) -> Result<Vec<PathBuf>, InputError> {
    let mut replaced = Vec::new();
    for mapping in mappings {
        let path = || mapping.path().to_owned();
        mapping.check()?;
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

/// Every file must be that of the rank in whose directory it is, and all of one save.
pub(super) fn check_ranks(files: &[LoadedFile]) -> Result<(), InputError> {
    for file in files {
        if let Some((named, rank)) = save_name::contradiction(file.mapping.path()) {
            return Err(InputError::OtherRank { path: file.mapping.path().to_owned(), named, rank });
        }
    }
    for name in SAVE_MARKS {
        let mut ranks: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for file in files {
            if let Some(value) = file.counters.get(name) {
                ranks.entry(value).or_default().push(file.rank);
            }
        }
        if ranks.len() > 1 {
            let mut values: Vec<(String, Vec<u32>)> =
                ranks.into_iter().map(|(value, ranks)| (value.to_owned(), ranks)).collect();
            values.sort_by_key(|(_, ranks)| ranks.first().copied());
            return Err(InputError::OtherSave { name, values });
        }
    }
    Ok(())
}
