//! Do ranks hold the same bytes?

use super::SourceFile;
use crate::source::Extents;

/// Whether all these entries (file, entry) are equal in dtype, shape and content. Reads the mapped bytes, copies nothing.
pub(super) fn agree(files: &[SourceFile<'_>], holders: &[(usize, usize)]) -> bool {
    let Some((&first, others)) = holders.split_first() else { return true };
    others.iter().all(|&other| same(files, first, other))
}

fn same(files: &[SourceFile<'_>], a: (usize, usize), b: (usize, usize)) -> bool {
    let (a_file, b_file) = (&files[a.0], &files[b.0]);
    let (a, b) = (&a_file.entries[a.1], &b_file.entries[b.1]);
    a.dtype == b.dtype && a.shape == b.shape && same_bytes(a_file.bytes, &a.extents, b_file.bytes, &b.extents)
}

fn same_bytes(a: &[u8], a_extents: &Extents, b: &[u8], b_extents: &Extents) -> bool {
    if a_extents.len() != b_extents.len() {
        return false;
    }
    a_extents.parts().iter().all(|&(at, range)| {
        let mut from = range.start();
        b_extents.locate(at, range.len()).all(|piece| {
            let left = crate::source::ByteRange::new(from, piece.len()).and_then(|r| r.of(a));
            from += piece.len();
            left.is_some() && left == piece.of(b)
        })
    })
}
