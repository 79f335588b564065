//! Hugging Face's sets of files: one, or numbered ones, with an index or without.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::listing::{ForeignIndex, Listing};
use super::{ForeignFault, InputError, numbered};
use crate::formats::safetensors;
use crate::sys::read_small;

/// How the files of a kind are called.
pub(super) struct SetNames {
    /// `<stem>.<extension>`, or `<stem>-<number>-of-<total>.<extension>`.
    pub stem: &'static str,
    pub extension: &'static str,
    pub index: &'static str,
}

pub(super) const SAFETENSORS: SetNames =
    SetNames { stem: "model", extension: "safetensors", index: "model.safetensors.index.json" };
pub(super) const BIN: SetNames =
    SetNames { stem: "pytorch_model", extension: "bin", index: "pytorch_model.bin.index.json" };

/// The largest index that is read; the parser's own limit is as much.
const MAX_INDEX: u64 = 64 << 20;

/// A whole set.
pub(super) struct Set {
    pub files: Vec<PathBuf>,
    pub index: Option<ForeignIndex>,
}

impl SetNames {
    fn whole(&self) -> String {
        format!("{}.{}", self.stem, self.extension)
    }

    fn part(&self, number: u64, total: u64) -> String {
        format!("{}-{number:05}-of-{total:05}.{}", self.stem, self.extension)
    }

    /// Whether a file is of this kind of set.
    fn has(&self, name: &str) -> bool {
        name == self.whole() || numbered::part_of(name, self.stem, self.extension).is_some()
    }
}

impl Listing<'_> {
    /// Whether there is anything of such a set.
    pub(super) fn set_exists(&self, names: &SetNames) -> bool {
        self.files.contains(names.index) || self.files.iter().any(|file| names.has(file))
    }

    /// The set of that kind, or `None` where there is nothing of it.
    pub(super) fn set(&self, names: &SetNames) -> Result<Option<Set>, InputError> {
        let there: BTreeSet<&str> = self.files.iter().map(String::as_str).filter(|file| names.has(file)).collect();
        if self.files.contains(names.index) {
            return self.indexed(names, &there).map(Some);
        }
        if there.is_empty() {
            return Ok(None);
        }
        let mut totals: BTreeMap<u64, BTreeMap<u64, String>> = BTreeMap::new();
        for file in &there {
            if let Some((number, total)) = numbered::part_of(file, names.stem, names.extension) {
                totals.entry(total).or_default().insert(number, (*file).to_owned());
            }
        }
        let whole = there.contains(names.whole().as_str());
        if totals.len() + usize::from(whole) > 1 {
            return Err(self.fault(ForeignFault::Mixed(there.into_iter().map(str::to_owned).collect())));
        }
        if let Some((&total, parts)) = totals.first_key_value() {
            let missing = numbered::missing(total, parts, |number| names.part(number, total));
            if !missing.is_empty() {
                return Err(self.fault(ForeignFault::Missing(missing)));
            }
        }
        Ok(Some(Set { files: there.into_iter().map(|file| self.dir.join(file)).collect(), index: None }))
    }

    /// The files that an index names. All must be there, and none of the set beside them: it would be another save's.
    fn indexed(&self, names: &SetNames, there: &BTreeSet<&str>) -> Result<Set, InputError> {
        let path = self.dir.join(names.index);
        // Refuses names that lead out of the directory.
        let map = safetensors::read_index(&read_small(&path, MAX_INDEX)?)
            .map_err(|source| InputError::Format { path: path.clone(), source: source.into() })?;
        let named: BTreeSet<&str> = map.values().map(String::as_str).collect();
        let text = |files: Vec<&str>| crate::plan::list(&files.into_iter().map(str::to_owned).collect::<Vec<_>>());
        let absent: Vec<&str> = named.iter().copied().filter(|file| !self.files.contains(*file)).collect();
        let unnamed: Vec<&str> = there.difference(&named).copied().collect();
        let why = if named.is_empty() {
            "it names no file".to_owned()
        } else if !absent.is_empty() {
            format!("{} named in the index, but not there", text(absent))
        } else if !unnamed.is_empty() {
            format!("{} there, but not named in the index", text(unnamed))
        } else {
            let files = named.into_iter().map(|file| self.dir.join(file)).collect();
            return Ok(Set { files, index: Some(ForeignIndex { path, map }) });
        };
        Err(InputError::Index { index: path, why })
    }
}
