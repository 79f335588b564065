//! The files of a source checkpoint, parsed.

use std::path::PathBuf;

use crate::formats::Entry;

/// One file of a source checkpoint: whose it is and what its header lists. Of its bytes a plan knows no more than the
/// [`Evidence`](super::Evidence) that it is handed.
#[derive(Clone, Debug)]
pub struct SourceFile<'a> {
    /// Where it lies.
    pub path: PathBuf,
    /// The rank whose parameters it holds.
    pub rank: u32,
    /// How many bytes it has.
    pub len: u64,
    /// Its tensors, in file order.
    pub entries: &'a [Entry],
}

/// Whether any tensor is quantised by blocks. All floating-point numbers of such files are read as singles, so that what was left
/// in another type can be joined and compared with the others.
pub(super) fn hold_blocks(files: &[SourceFile<'_>]) -> bool {
    files.iter().flat_map(|file| file.entries).any(|entry| entry.dtype.block().0 > 1)
}

/// The number of ranks of a checkpoint: one more than the highest.
pub fn rank_count(files: &[SourceFile<'_>]) -> u32 {
    files.iter().map(|f| f.rank.saturating_add(1)).max().unwrap_or(0)
}
