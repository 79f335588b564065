//! Publishing: a directory gets its final name in one step, when everything in it is finished.

use std::fs::File;
use std::io::Write;
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

/// What an interrupted run had left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftovers {
    /// Nothing.
    None,
    /// Unfinished files, now removed.
    Removed,
    /// The old target under another name, now put back.
    Restored,
}

/// A directory under a temporary name beside its final one. Dropped before [`Self::publish`], it is removed, as are the
/// parents that were made for it.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    target: PathBuf,
    lock_path: PathBuf,
    /// Held as long as the directory is ours; the kernel lets it go when the process dies.
    lock: Option<File>,
    /// Parents that were made.
    made: Vec<PathBuf>,
    publish: Publish,
    durability: Durability,
    leftovers: Leftovers,
}

/// A directory that has its final name. What it replaced is kept until [`Self::keep`].
#[derive(Debug)]
pub struct Published {
    staging: Staging,
    replaced: Option<PathBuf>,
}

/// Clears what a run that died after publishing a target may have left beside it: its lock, and what it had replaced.
pub fn clear_leftovers(target: &Path) {
    let name = target.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let dir = parent(target).join(format!(".{name}.partial"));
    let lock_path = parent(target).join(format!(".{name}.lock"));
    // What cannot be removed here is removed by the next run.
    if lock_path.exists()
        && let Ok(Some(lock)) = sys::lock(&lock_path)
    {
        let _ = sys::remove_dir(&dir);
        let _ = sys::remove_dir(&dir.with_extension("old"));
        let _ = std::fs::remove_file(&lock_path);
        drop(lock);
    }
}

impl Staging {
    /// Makes the directory, and its parents. Leftovers of a run that died are removed or put back; those of one that lives
    /// are an error.
    pub fn new(target: &Path, publish: Publish, durability: Durability) -> Result<Self, EngineError> {
        let name = target.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let parent = parent(target);
        if publish == Publish::New && target.symlink_metadata().is_ok() {
            return Err(EngineError::TargetExists(target.to_owned()));
        }
        let made = sys::create_dir(parent)?;
        let dir = parent.join(format!(".{name}.partial"));
        let lock_path = parent.join(format!(".{name}.lock"));
        let lock = match sys::lock(&lock_path) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Err(EngineError::TargetBusy(target.to_owned())),
            Err(e) => {
                sys::remove_empty_dirs(&made);
                return Err(e.into());
            }
        };
        let target = target.to_owned();
        let mut staging =
            Self { dir, target, lock_path, lock: Some(lock), made, publish, durability, leftovers: Leftovers::None };
        staging.take_over()?;
        Ok(staging)
    }

    /// Clears what a run that died has left, and makes the directory.
    fn take_over(&mut self) -> Result<(), EngineError> {
        if self.dir.symlink_metadata().is_ok() {
            sys::remove_dir(&self.dir)?;
            self.leftovers = Leftovers::Removed;
        }
        let old = self.old();
        if old.symlink_metadata().is_ok() {
            if self.target.symlink_metadata().is_ok() {
                sys::remove_dir(&old)?;
                self.leftovers = Leftovers::Removed;
            } else {
                // It died between the two renames of a file system that cannot swap.
                sys::rename_new(&old, &self.target)?;
                self.leftovers = Leftovers::Restored;
                if self.publish == Publish::New {
                    return Err(EngineError::TargetExists(self.target.clone()));
                }
            }
        }
        sys::create_dir(&self.dir)?;
        Ok(())
    }

    /// Where the old target stands while the new one takes its name, on file systems that cannot swap.
    fn old(&self) -> PathBuf {
        self.dir.with_extension("old")
    }

    /// The temporary directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What an interrupted run had left.
    pub fn leftovers(&self) -> Leftovers {
        self.leftovers
    }

    /// Writes a small file.
    pub fn write(
        &self,
        name: &str,
        fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<(), EngineError> {
        let path = self.dir.join(name);
        sys::create_dir(parent(&path))?;
        Ok(sys::write_small(&path, self.durability == Durability::Synced, fill)?)
    }

    /// Flushes the directories and gives the whole its final name.
    ///
    /// # Errors
    /// Where that fails the target is what it was.
    pub fn publish(self) -> Result<Published, EngineError> {
        let durable = self.durability == Durability::Synced;
        if durable {
            sync_tree(&self.dir)?;
        }
        let there = self.target.symlink_metadata().is_ok();
        if there && self.publish == Publish::New {
            return Err(EngineError::TargetExists(self.target.clone()));
        }
        let replaced = if !there {
            sys::rename_new(&self.dir, &self.target)?;
            None
        } else if sys::rename_exchange(&self.dir, &self.target)? {
            Some(self.dir.clone())
        } else {
            let old = self.old();
            sys::rename_new(&self.target, &old)?;
            if let Err(e) = sys::rename_new(&self.dir, &self.target) {
                // Back to what was. If that fails too, the next run puts it back.
                let _ = sys::rename_new(&old, &self.target);
                return Err(e.into());
            }
            Some(old)
        };
        let mut published = Published { staging: self, replaced };
        if durable && let Err(e) = sys::sync_dir(parent(&published.staging.target)) {
            published.restore();
            return Err(e.into());
        }
        Ok(published)
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

impl Published {
    /// Lets go of what was replaced. Answers where it still is, if it could not be removed.
    pub fn keep(mut self) -> Option<PathBuf> {
        self.staging.made.clear();
        let replaced = self.replaced.take();
        let stuck = replaced.filter(|old| sys::remove_dir(old).is_err());
        self.staging.release();
        stuck
    }

    /// Takes the publication back, as far as that can be done.
    pub fn undo(mut self) {
        self.restore();
    }

    fn restore(&mut self) {
        // What fails here leaves both directories, under names that the next run knows.
        let _ = match self.replaced.take() {
            None => sys::rename_new(&self.staging.target, &self.staging.dir),
            Some(old) if old == self.staging.dir => sys::rename_exchange(&old, &self.staging.target).map(|_| ()),
            Some(old) => sys::rename_new(&self.staging.target, &self.staging.dir)
                .and_then(|()| sys::rename_new(&old, &self.staging.target)),
        };
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // Nothing was published. What cannot be removed here is removed by the next run.
            let _ = sys::remove_dir(&self.dir);
            self.release();
            sys::remove_empty_dirs(&self.made);
        }
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Flushes a directory and all directories in it, so that the names in them last.
pub fn sync_tree(dir: &Path) -> Result<(), EngineError> {
    let error = |source| sys::FileError { op: sys::FileOp::Sync, path: dir.to_owned(), source };
    for entry in std::fs::read_dir(dir).map_err(error)? {
        let entry = entry.map_err(error)?;
        if entry.file_type().map_err(error)?.is_dir() {
            sync_tree(&entry.path())?;
        }
    }
    Ok(sys::sync_dir(dir)?)
}
