//! Do ranks hold the same bytes?

use super::SourceFile;
use crate::source::Extents;

/// How many bytes are compared before more are read ahead.
const FIRST_LOOK: u64 = 64 << 10;

/// Whether no two of these entries (file, entry) are equal.
pub(super) fn all_differ(files: &[SourceFile<'_>], holders: &[(usize, usize)]) -> bool {
    let later = |i: usize| holders[i + 1..].iter();
    (0..holders.len()).all(|i| later(i).all(|&other| !same(files, holders[i], other)))
}

/// Whether all bytes of an entry are the same, as in a tensor that was never filled.
pub(super) fn is_constant(file: &SourceFile<'_>, entry: usize) -> bool {
    let mut parts = file.entries[entry].extents.parts().iter().filter_map(|(_, range)| range.of(file.bytes));
    let Some(first) = parts.clone().next().and_then(|part| part.first()) else { return true };
    parts.all(|part| part.iter().all(|byte| byte == first))
}

/// Whether all these entries (file, entry) are equal in dtype, shape and content. Reads the mapped bytes, copies nothing.
pub(super) fn agree(files: &[SourceFile<'_>], holders: &[(usize, usize)]) -> bool {
    let Some((&first, others)) = holders.split_first() else { return true };
    others.iter().all(|&other| same(files, first, other))
}

fn same(files: &[SourceFile<'_>], a: (usize, usize), b: (usize, usize)) -> bool {
    let (a_file, b_file) = (&files[a.0], &files[b.0]);
    let (a, b) = (&a_file.entries[a.1], &b_file.entries[b.1]);
    if a.dtype != b.dtype || a.shape != b.shape {
        return false;
    }
    // A look at the beginning spares reading ahead where the two differ at once, as blocks of one tensor do.
    let begins = |file: &SourceFile<'_>, extents: &Extents| {
        extents.locate(0, FIRST_LOOK).next().and_then(|range| range.of(file.bytes)).map(<[u8]>::to_vec)
    };
    let (a_begins, b_begins) = (begins(a_file, &a.extents), begins(b_file, &b.extents));
    if a_begins.as_ref().map(Vec::len) == b_begins.as_ref().map(Vec::len) && a_begins != b_begins {
        return false;
    }
    for (file, extents) in [(a_file, &a.extents), (b_file, &b.extents)] {
        if let Some(ahead) = file.ahead {
            extents.parts().iter().for_each(|(_, range)| ahead.will_read(*range));
        }
    }
    same_bytes(a_file.bytes, &a.extents, b_file.bytes, &b.extents)
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
