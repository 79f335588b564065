//! Where the targets go, and whether they may.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::engine::{Durability, EngineError, Publish, Staging};
use crate::formats::mindspore::write_strategy;
use crate::input::is_companion;
use crate::layout::TensorLayout;
use crate::sys;

/// A path with links resolved, as far as it exists, and the rest behind it.
fn resolve(path: &Path) -> Result<PathBuf, Error> {
    let absolute = std::path::absolute(path).map_err(|e| Error::Usage(format!("{}: {e}", path.display())))?;
    let mut below: Vec<&OsStr> = Vec::new();
    let mut above = absolute.as_path();
    loop {
        if let Ok(real) = above.canonicalize() {
            return Ok(below.iter().rev().fold(real, |path, name| path.join(name)));
        }
        // Where `..` leads behind a directory that does not exist cannot be known before it is made.
        let (Some(name), Some(parent)) = (above.file_name(), above.parent()) else {
            return Err(Error::Usage(format!("{}: `..` behind a directory that does not exist", path.display())));
        };
        below.push(name);
        above = parent;
    }
}

/// A target must not replace an input, nor stand where it would be taken for a part of one, nor hold another target.
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

/// Whether a target may be made: free or replaceable, in a writable place. Answers the bytes that are free there.
pub(super) fn check(target: &Path, publish: Publish, ours: impl Fn(&str) -> bool) -> Result<u64, Error> {
    match publish {
        Publish::Replace => replaceable(target, ours)?,
        Publish::New if target.symlink_metadata().is_ok() => {
            return Err(EngineError::TargetExists(target.to_owned()).into());
        }
        Publish::New => {}
    }
    Ok(sys::available_bytes(&ground(target)?)?)
}

/// Only what a conversion made (ours or the original's) may be replaced: a directory in which every name is one that a
/// conversion gives.
fn replaceable(target: &Path, ours: impl Fn(&str) -> bool) -> Result<(), Error> {
    let Ok(meta) = target.symlink_metadata() else { return Ok(()) };
    let foreign = || Error::ForeignTarget(target.to_owned());
    if !meta.is_dir() {
        return Err(foreign());
    }
    let names = std::fs::read_dir(target).map_err(|_| foreign())?;
    for name in names {
        let name = name.map_err(|_| foreign())?.file_name();
        if !ours(&name.to_string_lossy()) {
            return Err(foreign());
        }
    }
    Ok(())
}

/// Names that a conversion gives in a checkpoint directory.
pub(super) fn is_checkpoint_name(name: &str) -> bool {
    let stem = name.starts_with("model") || name.starts_with("pytorch_model");
    let tensors = Path::new(name).extension().is_some_and(|e| e == "safetensors" || e == "bin");
    name.starts_with("rank_")
        || ["manifest.json", "param_name_map.json"].contains(&name)
        || (stem && (tensors || name.ends_with(".index.json")))
        || is_companion(name)
}

/// Strategy files that a conversion writes.
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

    fn name(rank: usize) -> String {
        format!("ckpt_strategy_rank_{rank}.ckpt")
    }

    /// Whether just these files are there already.
    fn are_there(&self) -> bool {
        let count = std::fs::read_dir(&self.dir).map_or(0, Iterator::count);
        let len = self.bytes.len() as u64;
        let same = |rank| sys::read_small(&self.dir.join(Self::name(rank)), len).is_ok_and(|there| there == self.bytes);
        count == self.ranks && (0..self.ranks).all(same)
    }

    /// Whether they may be written; those that are there already need not be.
    pub(super) fn check(&self, publish: Publish) -> Result<(), Error> {
        if self.are_there() {
            return Ok(());
        }
        if publish == Publish::New && self.dir.symlink_metadata().is_ok() {
            return Err(Error::OtherStrategies(self.dir.clone()));
        }
        check(&self.dir, publish, |name| name.starts_with("ckpt_strategy_rank_")).map(|_| ())
    }

    /// The files under a temporary name. `None` where they are there already.
    pub(super) fn stage(&self, publish: Publish, durability: Durability) -> Result<Option<Staging>, Error> {
        if self.are_there() {
            return Ok(None);
        }
        let staging = Staging::new(&self.dir, publish, durability)?;
        for rank in 0..self.ranks {
            staging.write(&Self::name(rank), |to| to.write_all(&self.bytes))?;
        }
        Ok(Some(staging))
    }
}
