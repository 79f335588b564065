//! Where an unfinished target is kept, and what a run that died has left there.
//!
//! ```text
//! .NAME.lock       held by the run that makes NAME
//! .NAME.partial/   unfinished; what NAME was, once it is replaced in one step
//! .NAME.old/       what NAME was, on file systems that cannot swap
//! .NAME.gone/      being removed
//! ```

use std::path::{Path, PathBuf};

use super::EngineError;
use crate::sys::{self, Dir, Lock, Locked};

/// What a run that died has left of a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// The directories.
    pub paths: Vec<PathBuf>,
    /// Bytes that removing them gives back.
    pub bytes: u64,
}

/// The names beside a target that belong to the process that makes it.
#[derive(Debug)]
pub(super) struct Place {
    pub target: PathBuf,
    pub dir: PathBuf,
    pub old: PathBuf,
    gone: PathBuf,
    lock: PathBuf,
}

impl Place {
    pub(super) fn new(target: &Path) -> Self {
        let name = target.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let beside = |what: &str| parent(target).join(format!(".{name}.{what}"));
        Self {
            target: target.to_owned(),
            dir: beside("partial"),
            old: beside("old"),
            gone: beside("gone"),
            lock: beside("lock"),
        }
    }

    /// The directory above the target.
    pub(super) fn ground(&self) -> &Path {
        parent(&self.target)
    }

    /// Makes sure that no other run makes this target.
    pub(super) fn lock(&self) -> Result<Lock, EngineError> {
        match sys::lock(&self.lock)? {
            Locked::Ours(lock) => Ok(lock),
            Locked::Busy => Err(EngineError::TargetBusy(self.target.clone())),
            Locked::Unclear(by) => {
                Err(EngineError::LockUnclear { target: self.target.clone(), lock: self.lock.clone(), by })
            }
        }
    }

    /// What may be removed once the lock is held. The old target is not among it where there is no new one.
    fn removable(&self) -> Vec<&PathBuf> {
        let there = |path: &Path| path.symlink_metadata().is_ok();
        let replaced = there(&self.target).then_some(&self.old);
        [Some(&self.dir), Some(&self.gone), replaced].into_iter().flatten().filter(|path| there(path)).collect()
    }

    /// Whether a run is seen to be writing into the directory, though its lock may have been taken away.
    fn is_written(&self) -> bool {
        Dir::open(&self.dir).is_ok_and(|dir| !dir.lock())
    }

    /// Removes what a run that died has left. The caller holds the lock.
    pub(super) fn clear(&self) -> Result<Leftovers, EngineError> {
        let left = self.left();
        if self.dir.symlink_metadata().is_ok() {
            if self.is_written() {
                return Err(EngineError::TargetBusy(self.target.clone()));
            }
            // All at once: a process that still writes there unseen publishes nothing of it.
            sys::remove_dir(&self.gone)?;
            sys::rename_new(&self.dir, &self.gone)?;
        }
        for path in self.removable() {
            sys::remove_dir(path)?;
        }
        Ok(left)
    }

    fn left(&self) -> Leftovers {
        let removable = self.removable();
        Leftovers {
            bytes: removable.iter().map(|path| sys::occupied_bytes(path)).sum(),
            paths: removable.into_iter().cloned().collect(),
        }
    }
}

/// What a run that died has left of a target, so that the next one removes it. Nothing where a run may still be writing there.
pub fn leftovers(target: &Path) -> Leftovers {
    let place = Place::new(target);
    if place.removable().is_empty() || !sys::is_unlocked(&place.lock) || place.is_written() {
        return Leftovers::default();
    }
    place.left()
}

/// Removes what a run that died has left of a target, and its lock.
///
/// # Errors
/// Where a run may still be writing there, or something cannot be removed.
pub fn clear_leftovers(target: &Path) -> Result<Leftovers, EngineError> {
    let place = Place::new(target);
    if place.removable().is_empty() && place.lock.symlink_metadata().is_err() {
        return Ok(Leftovers::default());
    }
    let lock = place.lock()?;
    let cleared = place.clear();
    lock.remove();
    cleared
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
