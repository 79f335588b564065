//! The files of a source checkpoint, parsed.

use std::path::PathBuf;

use crate::formats::Entry;

/// One file of a source checkpoint: whose it is, its bytes (a mapping, as a rule) and what its header lists.
#[derive(Clone, Debug)]
pub struct SourceFile<'a> {
    /// Where it lies.
    pub path: PathBuf,
    /// The rank whose parameters it holds.
    pub rank: u32,
    /// The whole file.
    pub bytes: &'a [u8],
    /// Its tensors, in file order.
    pub entries: Vec<Entry>,
}

/// The number of ranks of a checkpoint: one more than the highest.
pub fn rank_count(files: &[SourceFile<'_>]) -> u32 {
    files.iter().map(|f| f.rank + 1).max().unwrap_or(0)
}
