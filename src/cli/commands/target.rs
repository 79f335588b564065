//! Where the target goes, and whether it may.

use std::path::{Path, PathBuf};

use crate::Error;
use crate::engine::{Durability, Publish, Staging};
use crate::formats::mindspore::write_strategy;
use crate::layout::TensorLayout;
use crate::sys;

/// The nearest directory above a path that exists, with links resolved, and the path below it.
fn resolve(path: &Path) -> PathBuf {
    let mut below = Vec::new();
    let mut above = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    loop {
        if let Ok(real) = above.canonicalize() {
            return below.iter().rev().fold(real, |path, name| path.join(name));
        }
        let Some(name) = above.file_name().map(ToOwned::to_owned) else { return path.to_owned() };
        below.push(name);
        above.pop();
    }
}

/// The target must not replace the source, nor stand where it would be taken for a part of it.
pub(super) fn keep_apart(target: &Path, source: &Path) -> Result<(), Error> {
    let (target_at, source_at) = (resolve(target), resolve(source));
    if target_at.starts_with(&source_at) || source_at.starts_with(&target_at) {
        return Err(Error::TargetIsSource { target: target.to_owned(), source_path: source.to_owned() });
    }
    Ok(())
}

/// Only what a conversion made (ours or the original's) may be replaced: a directory in which every name is one that a
/// conversion gives.
pub(super) fn replaceable(target: &Path, ours: impl Fn(&str) -> bool) -> Result<(), Error> {
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
    name.starts_with("rank_")
        || ["manifest.json", "model.safetensors.index.json", "param_name_map.json"].contains(&name)
        || (name.starts_with("model") && Path::new(name).extension().is_some_and(|e| e == "safetensors"))
}

/// Bytes free where a path is, or is to be.
pub(super) fn free_bytes(path: &Path) -> Result<u64, Error> {
    let mut dir = resolve(path);
    while !dir.is_dir() && dir.pop() {}
    Ok(sys::available_bytes(&dir)?)
}

/// Strategy files, ready to be published. `None` where the same files are there already.
pub(super) fn stage_strategies(
    dir: &Path,
    ranks: usize,
    layouts: &[(String, TensorLayout)],
    publish: Publish,
    durability: Durability,
) -> Result<Option<Staging>, Error> {
    let bytes = write_strategy(layouts, 0);
    let name = |rank: usize| format!("ckpt_strategy_rank_{rank}.ckpt");
    if dir.symlink_metadata().is_ok() {
        let count = std::fs::read_dir(dir).map_or(0, Iterator::count);
        let same = count == ranks
            && (0..ranks).all(|rank| {
                let path = dir.join(name(rank));
                path.metadata().is_ok_and(|m| m.len() == bytes.len() as u64)
                    && std::fs::read(&path).is_ok_and(|b| b == bytes)
            });
        if same {
            return Ok(None);
        }
        if publish == Publish::New {
            return Err(Error::OtherStrategies(dir.to_owned()));
        }
    }
    replaceable(dir, |name| name.starts_with("ckpt_strategy_rank_"))?;
    let staging = Staging::new(dir, publish, durability)?;
    for rank in 0..ranks {
        staging.write(&name(rank), &bytes)?;
    }
    Ok(Some(staging))
}
