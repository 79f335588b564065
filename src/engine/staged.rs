//! Publishing: a directory gets its final name in one step, when everything in it is finished.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::{Durability, EngineError};
use crate::sys;

/// What to do with a target that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// Refuse.
    New,
    /// Replace it, in one step where the file system can.
    Replace,
}

/// A directory under a temporary name beside its final one. Dropped before [`Self::publish`], it is removed.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    target: PathBuf,
    lock_path: PathBuf,
    /// Held as long as the directory is ours; the kernel lets it go when the process dies.
    lock: Option<File>,
    publish: Publish,
    durability: Durability,
    /// Whether leftovers of an interrupted run were removed.
    removed_leftovers: bool,
}

impl Staging {
    /// Makes the directory, and its parents. Leftovers of a run that died are removed; those of one that lives are an error.
    pub fn new(target: &Path, publish: Publish, durability: Durability) -> Result<Self, EngineError> {
        if publish == Publish::New && target.symlink_metadata().is_ok() {
            return Err(EngineError::TargetExists(target.to_owned()));
        }
        let name = target.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let parent = parent(target);
        sys::create_dir(parent)?;
        let dir = parent.join(format!(".{name}.partial"));
        let lock_path = parent.join(format!(".{name}.lock"));
        let Some(lock) = sys::lock(&lock_path)? else {
            return Err(EngineError::TargetBusy(target.to_owned()));
        };
        let removed_leftovers = dir.symlink_metadata().is_ok();
        sys::remove_dir(&dir)?;
        sys::create_dir(&dir)?;
        let target = target.to_owned();
        Ok(Self { dir, target, lock_path, lock: Some(lock), publish, durability, removed_leftovers })
    }

    /// The temporary directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether leftovers of an interrupted run were removed.
    pub fn removed_leftovers(&self) -> bool {
        self.removed_leftovers
    }

    /// Writes a small file.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), EngineError> {
        let path = self.dir.join(name);
        sys::create_dir(parent(&path))?;
        Ok(sys::write_small(&path, bytes, self.durability == Durability::Synced)?)
    }

    /// Flushes the directories and gives the whole its final name.
    pub fn publish(mut self) -> Result<(), EngineError> {
        let durable = self.durability == Durability::Synced;
        if durable {
            sync_tree(&self.dir)?;
        }
        let there = self.target.symlink_metadata().is_ok();
        if there && self.publish == Publish::New {
            return Err(EngineError::TargetExists(self.target.clone()));
        }
        if there && sys::rename_exchange(&self.dir, &self.target)? {
            // The old content now has the temporary name.
            sys::remove_dir(&self.dir)?;
        } else if there {
            let old = self.dir.with_extension("old");
            sys::remove_dir(&old)?;
            sys::rename_new(&self.target, &old)?;
            sys::rename_new(&self.dir, &self.target)?;
            sys::remove_dir(&old)?;
        } else {
            sys::rename_new(&self.dir, &self.target)?;
        }
        if durable {
            sys::sync_dir(parent(&self.target))?;
        }
        self.release();
        Ok(())
    }

    /// Removes the lock file, then lets the lock go.
    fn release(&mut self) {
        if let Some(lock) = self.lock.take() {
            // It is empty; one that stays behind is taken by the next run.
            let _ = std::fs::remove_file(&self.lock_path);
            drop(lock);
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // Nothing was published. What cannot be removed here is removed by the next run.
            let _ = sys::remove_dir(&self.dir);
            self.release();
        }
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync_tree(dir: &Path) -> Result<(), EngineError> {
    let error = |source| sys::FileError { op: sys::FileOp::Sync, path: dir.to_owned(), source };
    for entry in std::fs::read_dir(dir).map_err(error)? {
        let entry = entry.map_err(error)?;
        if entry.file_type().map_err(error)?.is_dir() {
            sync_tree(&entry.path())?;
        }
    }
    Ok(sys::sync_dir(dir)?)
}
