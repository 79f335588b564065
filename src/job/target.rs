//! Where the targets go, and whether they may.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::ours::{foreign_files, foreign_strategies};
use super::strategy_name::strategy_name;
use crate::Error;
use crate::engine::{Crc64, Durability, EngineError, Publish, Staging, clear_leftovers};
use crate::formats::mindspore::write_strategy;
use crate::layout::TensorLayout;
use crate::sys;

/// A path with links resolved, as far as it exists, followed by the rest.
fn resolve(path: &Path) -> Result<PathBuf, Error> {
    let absolute = std::path::absolute(path).map_err(|e| Error::Usage(format!("{}: {e}", path.display())))?;
    let mut below: Vec<&OsStr> = Vec::new();
    let mut above = absolute.as_path();
    loop {
        if let Ok(real) = above.canonicalize() {
            return Ok(below.iter().rev().fold(real, |path, name| path.join(name)));
        }
        // Where `..` leads after a directory that does not exist cannot be known before it is made.
        let (Some(name), Some(parent)) = (above.file_name(), above.parent()) else {
            return Err(Error::Usage(format!("{}: `..` after a directory that does not exist", path.display())));
        };
        below.push(name);
        above = parent;
    }
}

/// A target must not replace an input, nor be where it would be taken for a part of one, nor hold another target.
pub(super) fn keep_apart(targets: &[&Path], inputs: &[&Path]) -> Result<(), Error> {
    for (index, target) in targets.iter().enumerate() {
        let target_at = resolve(target)?;
        for other in inputs.iter().chain(&targets[..index]) {
            let other_at = resolve(other)?;
            if target_at.starts_with(&other_at) || other_at.starts_with(&target_at) {
                return Err(Error::Overlap { target: target.to_path_buf(), other: other.to_path_buf() });
            }
        }
    }
    Ok(())
}

/// The directory in which a path is made first; it must be writable.
fn ground(path: &Path) -> Result<PathBuf, Error> {
    let mut dir = resolve(path)?;
    dir.pop();
    while dir.symlink_metadata().is_err() && dir.pop() {}
    if !dir.is_dir() {
        return Err(Error::CannotMake { target: path.to_owned(), ground: dir });
    }
    if sys::is_writable(&dir) { Ok(dir) } else { Err(Error::NotWritable(dir)) }
}

/// Replacing a target must cost no input: not one whose name leads into the target, by links of any kind, nor one that has no
/// name outside it. A file that has another name elsewhere (a hard link) survives there.
pub(super) fn keep_inputs(targets: &[&Path], inputs: &[PathBuf]) -> Result<(), Error> {
    for target in targets {
        let Ok(real_target) = target.canonicalize() else { continue };
        let mut names: HashMap<(u64, u64), u64> = HashMap::new();
        count_names(&real_target, &mut names);
        for input in inputs {
            let (Ok(meta), Ok(real)) = (input.metadata(), input.canonicalize()) else { continue };
            let all = names.get(&(meta.dev(), meta.ino())).is_some_and(|count| *count >= meta.nlink());
            if all || real.starts_with(&real_target) {
                return Err(Error::InputInTarget { target: target.to_path_buf(), input: input.clone(), real });
            }
        }
    }
    Ok(())
}

/// How many names each file below a directory has there. Links are not followed: removing a directory removes them only.
fn count_names(dir: &Path, names: &mut HashMap<(u64, u64), u64>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => count_names(&entry.path(), names),
            Ok(meta) => *names.entry((meta.dev(), meta.ino())).or_default() += 1,
            Err(_) => {}
        }
    }
}

/// Bytes that are free where a target is to be made.
pub(super) fn free(target: &Path) -> Result<u64, Error> {
    Ok(sys::available_bytes(&ground(target)?)?)
}

/// Whether a target may be made: free or replaceable, in a writable place. Returns the bytes that are free there.
pub(super) fn check(target: &Path, publish: Publish) -> Result<u64, Error> {
    refuse_link(target)?;
    match publish {
        Publish::Replace => replaceable(target)?,
        Publish::New if target.symlink_metadata().is_ok() => {
            return Err(EngineError::TargetExists(target.to_owned()).into());
        }
        Publish::New => {}
    }
    free(target)
}

/// Whether only what a conversion made, ours or the original's, would be replaced. Another program may put a file there while a
/// conversion runs, so this is asked again before it publishes.
pub(super) fn replaceable(target: &Path) -> Result<(), Error> {
    let files = foreign(target, foreign_files)?;
    if files.is_empty() { Ok(()) } else { Err(Error::ForeignFiles { target: target.to_owned(), files }) }
}

/// What `look` finds in a directory, if it is there.
fn foreign(dir: &Path, look: fn(&Path) -> std::io::Result<Vec<String>>) -> Result<Vec<String>, Error> {
    refuse_link(dir)?;
    match dir.symlink_metadata() {
        Err(_) => Ok(Vec::new()),
        Ok(meta) if !meta.is_dir() => Err(Error::ForeignTarget(dir.to_owned())),
        Ok(_) => look(dir).map_err(|_| Error::ForeignTarget(dir.to_owned())),
    }
}

/// Publishing would replace a link, not what it leads to.
fn refuse_link(target: &Path) -> Result<(), Error> {
    match target.read_link() {
        Ok(to) => {
            let to = target.canonicalize().unwrap_or(to);
            Err(Error::TargetLink { target: target.to_owned(), to })
        }
        Err(_) => Ok(()),
    }
}

/// The checksum of a strategy file, as a manifest has it.
pub(super) fn strategy_sum(bytes: &[u8]) -> String {
    format!("crc64nvme:{}", Crc64::of(bytes))
}

/// Strategy files that a conversion writes.
#[derive(Debug)]
pub(super) struct Strategies {
    dir: PathBuf,
    ranks: usize,
    bytes: Vec<u8>,
}

impl Strategies {
    /// One file for each rank, all alike, in `dir`. `None` where there is nothing to write.
    pub(super) fn new(dir: PathBuf, ranks: usize, layouts: &[(String, TensorLayout)]) -> Option<Self> {
        (!layouts.is_empty()).then(|| Self { dir, ranks, bytes: write_strategy(layouts, 0) })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn len(&self) -> u64 {
        (self.bytes.len() * self.ranks) as u64
    }

    /// The checksum of each of them, as a manifest has it.
    pub(super) fn sum(&self) -> String {
        strategy_sum(&self.bytes)
    }

    /// The files, by their names in the directory: all have the same bytes.
    pub(super) fn files(&self) -> (impl Iterator<Item = String> + '_, &[u8]) {
        ((0..self.ranks).map(strategy_name), &self.bytes)
    }

    /// Whether exactly these files are there already.
    fn are_there(&self) -> bool {
        let count = std::fs::read_dir(&self.dir).map_or(0, Iterator::count);
        let len = self.bytes.len() as u64;
        let same =
            |rank| sys::read_small(&self.dir.join(strategy_name(rank)), len).is_ok_and(|there| there == self.bytes);
        count == self.ranks && (0..self.ranks).all(same)
    }

    /// Whether they may be written; those that are there already need not be.
    pub(super) fn check(&self, publish: Publish) -> Result<(), Error> {
        if self.are_there() {
            return Ok(());
        }
        refuse_link(&self.dir)?;
        if publish == Publish::New && self.dir.symlink_metadata().is_ok() {
            return Err(Error::OtherStrategies(self.dir.clone()));
        }
        let files = foreign(&self.dir, foreign_strategies)?;
        if !files.is_empty() {
            return Err(Error::ForeignStrategies { dir: self.dir.clone(), files });
        }
        free(&self.dir).map(|_| ())
    }

    /// The files under a temporary name. `None` where they are there already.
    pub(super) fn stage(&self, publish: Publish, durability: Durability) -> Result<Option<Staging>, EngineError> {
        if self.are_there() {
            // What cannot be removed here is removed by the next run.
            let _ = clear_leftovers(&self.dir);
            return Ok(None);
        }
        let mut staging = Staging::new(&self.dir, publish, durability)?;
        for rank in 0..self.ranks {
            staging.write(&strategy_name(rank), |to| to.write_all(&self.bytes))?;
        }
        Ok(Some(staging))
    }
}
