//! Strategy files: one file, or a directory of them.

use std::path::{Path, PathBuf};

use super::InputError;
use crate::formats::Budget;
use crate::formats::limits::MAX_SIDE_FILE_BYTES;
use crate::formats::mindspore::{StrategyFile, read_strategy_within};
use crate::plan::StrategySet;
use crate::sys::{FileError, FileOp, open_regular, read_small};

/// A strategy and the files that it was read from.
#[derive(Clone, Debug)]
pub struct StrategySource {
    /// The strategy.
    pub set: StrategySet,
    /// The files.
    pub files: Vec<PathBuf>,
}

/// Reads a strategy file, or all strategy files of a directory: one for each rank or stage, or one merged file.
pub fn load_strategies(path: &Path, budget: &Budget) -> Result<StrategySource, InputError> {
    let files = strategy_files(path, budget)?;
    let paths = files.iter().map(|(path, _)| path.clone()).collect();
    let set = StrategySet::new(files)
        .map_err(|source| InputError::Strategy { path: path.to_owned(), source: source.into() })?;
    Ok(StrategySource { set, files: paths })
}

/// The strategy files at a path: it, or those in it, in the order of their names.
pub fn strategy_paths(path: &Path) -> Result<Vec<PathBuf>, InputError> {
    let error = |source| FileError { op: FileOp::Open, path: path.to_owned(), source };
    let meta = std::fs::metadata(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => InputError::NotFound(path.to_owned()),
        _ => error(e).into(),
    })?;
    if !meta.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(path).map_err(error)? {
        let path = entry.map_err(error)?.path();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        let strategy = path.extension().is_some_and(|e| e == "ckpt" || e == "json");
        if strategy && !hidden && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        // The original's `-is` names the directory above `strategy/`.
        let below = path.join("strategy");
        if below.is_dir() {
            return strategy_paths(&below);
        }
        return Err(InputError::NoStrategy(path.to_owned()));
    }
    Ok(paths)
}

/// Reads the strategy files at a path, in the order of their names.
pub fn strategy_files(path: &Path, budget: &Budget) -> Result<Vec<(PathBuf, StrategyFile)>, InputError> {
    let read = |path: PathBuf| {
        let bytes = strategy_bytes(&path)?;
        let file = read_strategy_within(&bytes, budget)
            .map_err(|source| InputError::Format { path: path.clone(), source: source.into() })?;
        Ok((path, file))
    };
    strategy_paths(path)?.into_iter().map(read).collect()
}

/// The bytes of a strategy file.
pub fn strategy_bytes(path: &Path) -> Result<Vec<u8>, InputError> {
    Ok(read_small(path, MAX_SIDE_FILE_BYTES)?)
}

/// Whether a path is a strategy rather than a checkpoint, recognised by the first bytes of the file, or of the first such file in
/// a directory.
pub fn is_strategy(path: &Path) -> Result<bool, InputError> {
    let error = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => InputError::NotFound(path.to_owned()),
        _ => FileError { op: FileOp::Open, path: path.to_owned(), source }.into(),
    };
    if !std::fs::metadata(path).map_err(error)?.is_dir() {
        return begins_like_a_strategy(path);
    }
    let mut candidates: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(path).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.is_file() && path.extension().is_some_and(|e| e == "ckpt" || e == "json") {
            candidates.push(path);
        }
    }
    candidates.sort();
    match candidates.iter().find(|p| p.extension().is_some_and(|e| e == "ckpt")).or(candidates.first()) {
        Some(first) => begins_like_a_strategy(first),
        None => Ok(path.join("strategy").is_dir() && !path.join("rank_0").is_dir()),
    }
}

fn begins_like_a_strategy(path: &Path) -> Result<bool, InputError> {
    use std::io::Read;
    let file = open_regular(path)?;
    let mut start = Vec::new();
    // MindSpore's JSON begins with its keys in order, the layouts first or second.
    let error = |source| FileError { op: FileOp::Read, path: path.to_owned(), source };
    file.take(4096).read_to_end(&mut start).map_err(error)?;
    let json = start.starts_with(b"{") && start.windows(8).any(|w| w == b"parallel" || w == b"current_");
    // Field 1 of a strategy is a number, of a checkpoint a record.
    // The header length of a safetensors file may begin with that byte too; its JSON follows at the ninth.
    let safetensors = start.get(8) == Some(&b'{');
    Ok((start.first() == Some(&0x08) && !safetensors) || json)
}
