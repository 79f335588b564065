//! From a path to the files of a checkpoint. Only names are read, no contents (but for an index).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::InputError;
use crate::formats::safetensors;
use crate::plan::MAX_RANKS;
use crate::sys::{FileError, FileOp, read_small};

/// The files of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointFiles {
    /// Rank and path, in the order of ranks.
    pub files: Vec<(u32, PathBuf)>,
    /// The index of a whole-model directory: tensor name to file name.
    pub index: Option<(PathBuf, BTreeMap<String, String>)>,
}

/// Whether rank directories may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RankGaps {
    /// Every rank must be there.
    Refused,
    /// Ranks may be missing where a strategy shows that others hold the same; that is checked later.
    Allowed,
}

/// Index files, in the order in which they are looked for.
const INDEXES: [&str; 2] = ["model.safetensors.index.json", "param_name_map.json"];
/// What MindSpore's `unified_safetensors` puts beside the indexed files: parameters that belong to no strategy.
const HYPER_PARAMETERS: &str = "hyper_param.safetensors";
/// The largest index that is read.
const MAX_INDEX: u64 = 256 << 20;

/// Finds the files of a checkpoint: a file, a directory with `rank_<n>` directories, or a directory with one model in it.
///
/// # Errors
/// Where anything is missing, in the way, or not the only one of its kind: nothing is picked by chance.
pub fn discover(path: &Path, gaps: RankGaps) -> Result<CheckpointFiles, InputError> {
    let Some(dirs) = rank_dirs(path, gaps)? else {
        if path.is_dir() {
            return one_model(path, &list_dir(path)?);
        }
        return Ok(CheckpointFiles { files: vec![(0, path.to_owned())], index: None });
    };
    let mut files = Vec::with_capacity(dirs.len());
    for RankDir { rank, path: dir, names } in dirs {
        match names.as_slice() {
            [] => return Err(InputError::NoCheckpoint(dir)),
            [one] => files.push((rank, dir.join(one))),
            _ => return Err(InputError::Several { dir, names }),
        }
    }
    Ok(CheckpointFiles { files, index: None })
}

/// A directory `rank_<n>` and the checkpoint files in it.
pub(super) struct RankDir {
    pub rank: u32,
    pub path: PathBuf,
    pub names: Vec<String>,
}

/// The rank directories at a path, in the order of ranks. `None`: it is a file, or a directory without any.
pub(super) fn rank_dirs(path: &Path, gaps: RankGaps) -> Result<Option<Vec<RankDir>>, InputError> {
    let meta = std::fs::metadata(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => InputError::NotFound(path.to_owned()),
        _ => FileError { op: FileOp::Open, path: path.to_owned(), source }.into(),
    })?;
    if !meta.is_dir() {
        return Ok(None);
    }
    let mut ranks: BTreeMap<u32, PathBuf> = BTreeMap::new();
    let mut stray = Vec::new();
    for (name, is_dir) in &list_dir(path)? {
        match rank_of(name).filter(|_| *is_dir) {
            Some(rank) => {
                ranks.insert(rank, path.join(name));
            }
            None if *is_dir && holds_strategies(&path.join(name)) => {}
            None if *is_dir || is_checkpoint(name) => stray.push(name.clone()),
            None => {}
        }
    }
    let Some((&last, _)) = ranks.last_key_value() else { return Ok(None) };
    if !stray.is_empty() {
        return Err(InputError::Stray { dir: path.to_owned(), names: stray });
    }
    // A directory named rank_60000 must not make a list as long.
    let missing: Vec<String> =
        (0..=last).filter(|r| !ranks.contains_key(r)).take(64).map(|r| format!("rank_{r}")).collect();
    if gaps == RankGaps::Refused && !missing.is_empty() {
        return Err(InputError::MissingRanks { dir: path.to_owned(), missing, last });
    }
    let mut dirs = Vec::with_capacity(ranks.len());
    for (rank, path) in ranks {
        let files = list_dir(&path)?.into_iter().filter(|(name, is_dir)| !is_dir && is_checkpoint(name));
        dirs.push(RankDir { rank, names: files.map(|(name, _)| name).collect(), path });
    }
    Ok(Some(dirs))
}

/// The directories in one that hold a checkpoint each, by their names; the first few.
pub fn checkpoints_below(dir: &Path) -> Vec<PathBuf> {
    let holds_one = |path: &PathBuf| {
        list_dir(path).is_ok_and(|all| {
            all.iter().any(|(name, is_dir)| if *is_dir { rank_of(name).is_some() } else { is_checkpoint(name) })
        })
    };
    let all = list_dir(dir).unwrap_or_default();
    all.into_iter()
        .filter(|(name, is_dir)| *is_dir && !name.starts_with('.'))
        .map(|(name, _)| dir.join(name))
        .filter(holds_one)
        .take(8)
        .collect()
}

/// Whether a directory is that of the ranks' strategies, which lies beside them where a target is mounted.
fn holds_strategies(dir: &Path) -> bool {
    let is_strategy = |(name, is_dir): &(String, bool)| !is_dir && name.starts_with("ckpt_strategy_rank_");
    dir.ends_with("strategy") && list_dir(dir).is_ok_and(|all| !all.is_empty() && all.iter().all(is_strategy))
}

/// A directory that holds one model: one file, or several with an index.
fn one_model(dir: &Path, listing: &[(String, bool)]) -> Result<CheckpointFiles, InputError> {
    let files: Vec<&String> =
        listing.iter().filter(|(n, is_dir)| !is_dir && is_checkpoint(n)).map(|(n, _)| n).collect();
    let index = INDEXES.iter().find(|name| listing.iter().any(|(n, is_dir)| n == *name && !is_dir));
    let Some(index) = index else {
        return match files.as_slice() {
            [] => Err(InputError::NoCheckpoint(dir.to_owned())),
            [one] => Ok(CheckpointFiles { files: vec![(0, dir.join(one))], index: None }),
            _ => Err(InputError::Several { dir: dir.to_owned(), names: files.into_iter().cloned().collect() }),
        };
    };
    let path = dir.join(index);
    let map = safetensors::read_index(&read_small(&path, MAX_INDEX)?)
        .map_err(|source| InputError::Format { path: path.clone(), source: source.into() })?;
    let mut named: BTreeSet<&str> = map.values().map(String::as_str).collect();
    if files.iter().any(|f| *f == HYPER_PARAMETERS) {
        named.insert(HYPER_PARAMETERS);
    }
    let there: BTreeSet<&str> = files.iter().map(|f| f.as_str()).collect();
    let wrong = |names: Vec<String>, why: &str| InputError::Index {
        index: path.clone(),
        why: format!("{} {why}", crate::plan::list(&names)),
    };
    let absent: Vec<String> = named.difference(&there).map(|s| (*s).to_owned()).collect();
    if !absent.is_empty() {
        return Err(wrong(absent, "named in the index, but not there"));
    }
    // A shard that no index names is a leftover of another save, or the index is: neither may be guessed.
    let unnamed: Vec<String> = there.difference(&named).map(|s| (*s).to_owned()).collect();
    if !unnamed.is_empty() {
        return Err(wrong(unnamed, "there, but not named in the index"));
    }
    let files = named.into_iter().map(|name| (0, dir.join(name))).collect();
    Ok(CheckpointFiles { files, index: Some((path, map)) })
}

/// Names in a directory and whether each is a directory, sorted; hidden ones left out.
pub(super) fn list_dir(dir: &Path) -> Result<Vec<(String, bool)>, InputError> {
    let error = |source| FileError { op: FileOp::Read, path: dir.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(error)? {
        let entry = entry.map_err(error)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        // Follows links: rank directories are often links to other disks.
        names.push((name, entry.path().is_dir()));
    }
    names.sort();
    Ok(names)
}

/// The rank that a directory's name gives. A number beyond any checkpoint's ranks is none.
pub fn rank_of(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("rank_")?;
    let canonical = digits == "0" || !digits.starts_with('0');
    let rank: u32 = (canonical && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())??;
    (u64::from(rank) < MAX_RANKS).then_some(rank)
}

pub(super) fn is_checkpoint(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|e| e == "ckpt" || e == "safetensors")
}
