//! What of a directory a conversion wrote, by the manifest that it left there: nothing else is this program's to replace.

use std::collections::{HashMap, HashSet};
use std::io::{BufReader, Read};
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::MANIFEST;
use super::made::{Head, Listed, Tool, VERSION};
use crate::sys;

/// Bytes of a manifest that are read. It is not held: only what it lists is.
const MOST: u64 = 4 << 30;

/// The files that a manifest lists, with their lengths.
#[derive(Debug)]
pub struct Contents {
    files: HashMap<String, u64>,
    /// The directories in which they are.
    dirs: HashSet<String>,
}

#[derive(Deserialize)]
struct Listing {
    manifest_version: u64,
    tool: Tool,
    files: Vec<Listed>,
}

impl Contents {
    /// What the manifest in a directory lists. `None` where there is none of ours, or one that cannot be read.
    pub fn of(dir: &Path) -> Option<Self> {
        let Listing { manifest_version, tool, files } = parse(&dir.join(MANIFEST))?;
        if !is_ours(&Head { manifest_version, tool }) {
            return None;
        }
        let files: HashMap<String, u64> = files.into_iter().map(|file| (file.path, file.length)).collect();
        let above = |path: &String| {
            Path::new(path).ancestors().skip(1).filter_map(Path::to_str).map(str::to_owned).collect::<Vec<_>>()
        };
        let dirs = files.keys().flat_map(above).collect();
        Some(Self { files, dirs })
    }

    /// Whether it lists a file of that length.
    pub fn lists(&self, path: &str, len: u64) -> bool {
        self.files.get(path) == Some(&len)
    }

    /// Whether it lists a file in that directory, or below it.
    pub fn lists_below(&self, dir: &str) -> bool {
        self.dirs.contains(dir)
    }
}

/// Whether a path is a manifest that this program wrote, itself and not by a link.
pub fn is_manifest(path: &Path) -> bool {
    parse::<Head>(path).is_some_and(|head| is_ours(&head))
}

fn is_ours(head: &Head) -> bool {
    head.manifest_version == VERSION && head.tool.name == env!("CARGO_PKG_NAME")
}

fn parse<T: DeserializeOwned>(manifest: &Path) -> Option<T> {
    if !manifest.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
        return None;
    }
    let file = sys::open_regular(manifest).ok()?;
    serde_json::from_reader(BufReader::new(file.take(MOST))).ok()
}
