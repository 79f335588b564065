//! Publishing: a directory gets its final name in one step, when everything in it is finished.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::leftovers::Place;
use super::{Durability, EngineError, Leftovers};
use crate::sys::{self, Dir, HeldFile, Lock};

/// What to do with a target that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// Refuse.
    New,
    /// Replace it, in one step where the file system can.
    Replace,
}

/// A directory under a temporary name beside its final one. Dropped before it is published, it is removed, as are the parents
/// that were made for it.
///
/// It is held open, and never made again: where its name goes to another directory (it was removed by hand) or one of its
/// files is not what was written, nothing is published.
#[derive(Debug)]
pub struct Staging {
    place: Place,
    /// `None` until it is made.
    dir: Option<Dir>,
    /// Held as long as the directory is ours; the kernel lets it go when the process dies.
    lock: Option<Lock>,
    /// Parents that were made.
    made: Vec<PathBuf>,
    publish: Publish,
    durability: Durability,
    leftovers: Leftovers,
    restored: bool,
    /// What was written in it.
    files: Vec<HeldFile>,
}

/// A directory that is whole and flushed; only its name is missing.
#[derive(Debug)]
pub struct Ready(Staging);

/// A directory that has its final name. What it replaced is kept until [`Self::keep`].
#[derive(Debug)]
pub struct Published {
    staging: Staging,
    replaced: Option<PathBuf>,
}

impl Staging {
    /// Makes the directory, and its parents. Leftovers of a run that died are removed or put back; those of one that lives
    /// are an error.
    pub fn new(target: &Path, publish: Publish, durability: Durability) -> Result<Self, EngineError> {
        if publish == Publish::New && target.symlink_metadata().is_ok() {
            return Err(EngineError::TargetExists(target.to_owned()));
        }
        let place = Place::new(target);
        let made = sys::create_dir(place.ground())?;
        let lock = match place.lock() {
            Ok(lock) => lock,
            Err(e) => {
                sys::remove_empty_dirs(&made);
                return Err(e);
            }
        };
        let mut staging = Self {
            place,
            dir: None,
            lock: Some(lock),
            made,
            publish,
            durability,
            leftovers: Leftovers::default(),
            restored: false,
            files: Vec::new(),
        };
        staging.take_over()?;
        Ok(staging)
    }

    /// Clears what a run that died has left, and makes the directory.
    fn take_over(&mut self) -> Result<(), EngineError> {
        let Place { target, dir, old, .. } = &self.place;
        self.leftovers = self.place.clear()?;
        if old.symlink_metadata().is_ok() {
            // It died between the two renames of a file system that cannot swap.
            sys::rename_new(old, target)?;
            self.restored = true;
            if self.publish == Publish::New {
                return Err(EngineError::TargetExists(target.clone()));
            }
        }
        let dir = Dir::make(dir)?;
        if !dir.lock() {
            return Err(EngineError::TargetBusy(target.clone()));
        }
        self.dir = Some(dir);
        Ok(())
    }

    /// The temporary directory.
    pub fn dir(&self) -> Result<&Dir, EngineError> {
        self.dir.as_ref().ok_or_else(|| self.vanished())
    }

    /// What an interrupted run had left, now removed.
    pub fn leftovers(&self) -> &Leftovers {
        &self.leftovers
    }

    /// Whether an interrupted run had left the old target under another name, so that it was put back.
    pub fn has_restored(&self) -> bool {
        self.restored
    }

    /// What stopped a run that writes here: where the directory has vanished, that and not the first file that was missed.
    pub fn explain(&self, error: EngineError) -> EngineError {
        match error {
            EngineError::File(_) if !self.is_there() => self.vanished(),
            other => other,
        }
    }

    fn vanished(&self) -> EngineError {
        EngineError::Vanished(self.place.dir.clone())
    }

    /// Whether the directory is still the one that was made.
    fn is_there(&self) -> bool {
        self.dir.as_ref().is_some_and(|dir| dir.is_at(&self.place.dir))
    }

    /// Writes a small file.
    pub fn write(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<(), EngineError> {
        if !self.is_there() {
            return Err(self.vanished());
        }
        let file = self.dir()?.write_small(name, self.durability == Durability::Synced, fill)?;
        self.files.push(file);
        Ok(())
    }

    /// Flushes the directories, and proves that all that was written is there. `files`: what was written beside [`Self::write`].
    ///
    /// # Errors
    /// Where a file or the directory is not what was written.
    pub fn ready(mut self, files: Vec<HeldFile>) -> Result<Ready, EngineError> {
        self.files.extend(files);
        if !self.is_there() {
            return Err(self.vanished());
        }
        if self.durability == Durability::Synced {
            sync_tree(&self.place.dir)?;
        }
        self.check()?;
        Ok(Ready(self))
    }

    fn check(&self) -> Result<(), EngineError> {
        let dir = self.dir()?;
        for file in &self.files {
            dir.check(file)?;
        }
        if self.is_there() { Ok(()) } else { Err(self.vanished()) }
    }

    /// Removes the lock file, then lets the lock go.
    fn release(&mut self) {
        if let Some(lock) = self.lock.take() {
            lock.remove();
        }
    }
}

impl Ready {
    /// Gives the whole its final name.
    ///
    /// # Errors
    /// Where that fails the target is what it was.
    pub fn publish(self) -> Result<Published, EngineError> {
        let staging = self.0;
        let Place { target, dir, old, .. } = &staging.place;
        staging.check()?;
        let there = target.symlink_metadata().is_ok();
        if there && staging.publish == Publish::New {
            return Err(EngineError::TargetExists(target.clone()));
        }
        let replaced = if !there {
            sys::rename_new(dir, target)?;
            None
        } else if sys::rename_exchange(dir, target)? {
            Some(dir.clone())
        } else {
            sys::rename_new(target, old)?;
            if let Err(e) = sys::rename_new(dir, target) {
                // Back to what was. If that fails too, the next run puts it back.
                let _ = sys::rename_new(old, target);
                return Err(e.into());
            }
            Some(old.clone())
        };
        // The name may have gone to another directory since it was looked at.
        let ours = staging.dir()?.is_at(target);
        let durable = staging.durability == Durability::Synced;
        let mut published = Published { staging, replaced };
        if !ours {
            published.restore();
            return Err(published.staging.vanished());
        }
        if durable && let Err(e) = sys::sync_dir(published.staging.place.ground()) {
            published.restore();
            return Err(e.into());
        }
        Ok(published)
    }
}

impl Published {
    /// Lets go of what was replaced. Returns where it still is, if it could not be removed.
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
        let Place { target, dir, .. } = &self.staging.place;
        // What fails here leaves both directories, under names that the next run knows.
        let _ = match self.replaced.take() {
            None => sys::rename_new(target, dir),
            Some(old) if old == *dir => sys::rename_exchange(&old, target).map(|_| ()),
            Some(old) => sys::rename_new(target, dir).and_then(|()| sys::rename_new(&old, target)),
        };
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // Nothing was published. What cannot be removed here is removed by the next run; what is another's stays.
            if self.is_there() {
                let _ = sys::remove_dir(&self.place.dir);
            }
            self.release();
            sys::remove_empty_dirs(&self.made);
        }
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
