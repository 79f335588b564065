//! The files of a source checkpoint, parsed.

use std::path::PathBuf;

use crate::formats::Entry;
use crate::source::ReadAhead;

/// One file of a source checkpoint: whose it is, its bytes (a mapping, as a rule) and what its header lists.
#[derive(Clone)]
pub struct SourceFile<'a> {
    /// Where it lies.
    pub path: PathBuf,
    /// The rank whose parameters it holds.
    pub rank: u32,
    /// The whole file.
    pub bytes: &'a [u8],
    /// Its tensors, in file order.
    pub entries: &'a [Entry],
    /// Who is told which bytes will be read soon, where that helps.
    pub ahead: Option<&'a dyn ReadAhead>,
}

impl std::fmt::Debug for SourceFile<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("SourceFile");
        shown
            .field("path", &self.path)
            .field("rank", &self.rank)
            .field("entries", &self.entries)
            .finish_non_exhaustive()
    }
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
