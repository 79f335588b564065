//! What in the place of a target conversions made, and may therefore be replaced. All else belongs to the user, whatever its name.

use std::io;
use std::path::Path;

use super::strategy_name::{strategy_name, strategy_rank};
use crate::formats::mindspore::is_rewritten_alike;
use crate::input::{Contents, MANIFEST, rank_of, strategy_bytes};
use crate::sys;

/// What is in a checkpoint directory that no conversion made. With a manifest of ours that is all that it does not list with
/// the length that it has; without one the scripts that this program replaces made `rank_<r>/checkpoint_<r>`, and no more.
pub(super) fn foreign_files(target: &Path) -> io::Result<Vec<String>> {
    let contents = Contents::of(target);
    let mut found = Vec::new();
    let ours = |name: &str, len: Option<u64>| match (&contents, len) {
        (Some(contents), Some(len)) => name == MANIFEST || contents.lists(name, len),
        (Some(contents), None) => contents.lists_below(name),
        (None, Some(_)) => is_original(name),
        (None, None) => rank_of(name).is_some(),
    };
    strangers(target, "", &ours, &mut found)?;
    found.sort();
    Ok(found)
}

/// The only files that the original scripts write.
fn is_original(name: &str) -> bool {
    let Some(rank) = name.split_once('/').and_then(|(dir, _)| rank_of(dir)) else { return false };
    ["ckpt", "safetensors"].iter().any(|extension| name == format!("rank_{rank}/checkpoint_{rank}.{extension}"))
}

/// Looks below a directory. `ours`: whether a file of that length, or a directory (`None`), is a conversion's. A link never is.
fn strangers(
    dir: &Path,
    above: &str,
    ours: &impl Fn(&str, Option<u64>) -> bool,
    found: &mut Vec<String>,
) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        let name = entry.file_name();
        let path = format!("{above}{}", name.to_string_lossy());
        let len = meta.is_file().then_some(meta.len());
        if name.to_str().is_none() || !(meta.is_dir() || meta.is_file()) || !ours(&path, len) {
            found.push(path);
        } else if meta.is_dir() {
            strangers(&entry.path(), &format!("{path}/"), ours, found)?;
        }
    }
    Ok(())
}

/// What is in a directory of strategies that no conversion made. Conversions give every rank the same bytes, which are those
/// that writing what they say gives again; MindSpore's own files, which name its operators, are never that.
pub(super) fn foreign_strategies(dir: &Path) -> io::Result<Vec<String>> {
    let mut first: Option<Vec<u8>> = None;
    let mut found = Vec::new();
    let mut entries = std::fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let named = entry.metadata()?.is_file() && strategy_rank(&path).is_some_and(|rank| strategy_name(rank) == name);
        let ours = named
            && match &first {
                Some(first) => sys::read_small(&path, first.len() as u64).is_ok_and(|bytes| bytes == *first),
                None => match strategy_bytes(&path) {
                    Ok(bytes) if is_rewritten_alike(&bytes) => {
                        first = Some(bytes);
                        true
                    }
                    _ => false,
                },
            };
        if !ours {
            found.push(name);
        }
    }
    Ok(found)
}
