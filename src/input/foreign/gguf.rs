//! llama.cpp's files: one, or the numbered parts that `llama-gguf-split` makes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::listing::{GGUF, Listing, TORCH, extension, is_dir};
use super::{ForeignFault, InputError, numbered};

/// Whether the checkpoint at a path is llama.cpp's, by the names of files only.
///
/// # Errors
/// Nothing is there, or it cannot be listed.
pub fn holds_gguf(path: &Path) -> Result<bool, InputError> {
    if !is_dir(path)? {
        return Ok(extension(path) == Some(GGUF));
    }
    let listing = Listing::of(path)?;
    let has = |wanted: &[&str]| {
        listing.files.iter().any(|name| extension(Path::new(name)).is_some_and(|found| wanted.contains(&found)))
    };
    Ok(has(&[GGUF]) && !has(&TORCH) && !has(&["safetensors", "ckpt"]))
}

/// What the name of a part begins with, its number and how many parts there are: `model-00001-of-00003.gguf`.
fn part(name: &str) -> Option<(&str, u64, u64)> {
    let before = name.strip_suffix(GGUF)?.strip_suffix('.')?;
    // Number and total have five digits each.
    let stem =
        &before[..before.len().checked_sub("-00001-of-00003".len()).filter(|at| before.is_char_boundary(*at))?];
    numbered::part_of(name, stem, GGUF).map(|(number, total)| (stem, number, total))
}

/// The only model of a directory. `None`: there is none of llama.cpp's.
pub(super) fn only_one(listing: &Listing<'_>) -> Result<Option<Vec<PathBuf>>, InputError> {
    let files: Vec<&String> = listing.files.iter().filter(|name| extension(Path::new(name)) == Some(GGUF)).collect();
    let models: BTreeSet<(&str, u64)> =
        files.iter().map(|name| part(name).map_or((name.as_str(), 1), |(stem, _, total)| (stem, total))).collect();
    match (files.first(), models.len()) {
        (None, _) => Ok(None),
        (Some(first), 1) => listing.parts_of(first).map(Some),
        _ => {
            let names = files.into_iter().cloned().collect();
            Err(InputError::Several { dir: listing.dir.to_owned(), names })
        }
    }
}

impl Listing<'_> {
    /// All parts of the model that a file is of; the file alone, where it is no part.
    pub(super) fn parts_of(&self, name: &str) -> Result<Vec<PathBuf>, InputError> {
        let Some((stem, _, total)) = part(name) else { return Ok(vec![self.dir.join(name)]) };
        let parts: BTreeMap<u64, String> = (self.files.iter())
            .filter_map(|file| match part(file)? {
                (other, number, of) if (other, of) == (stem, total) => Some((number, file.clone())),
                _ => None,
            })
            .collect();
        let missing = numbered::missing(total, &parts, |number| format!("{stem}-{number:05}-of-{total:05}.{GGUF}"));
        if !missing.is_empty() {
            return Err(self.fault(ForeignFault::Missing(missing)));
        }
        Ok(parts.values().map(|file| self.dir.join(file)).collect())
    }
}
