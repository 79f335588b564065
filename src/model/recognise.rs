//! Whose names these are: the scheme that explains the most of them.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::family::Family;
use super::scheme::{Row, Scheme};

/// How well a scheme explains the names of a checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Recognition<'a> {
    /// The family.
    pub family: &'a Family,
    /// The dialect.
    pub scheme: &'a Scheme,
    /// Names that it explains.
    pub explained: usize,
    /// Its rows of which there is no name.
    pub unused: usize,
}

impl<'a> Recognition<'a> {
    /// How well a scheme explains these names.
    pub(super) fn of(family: &'a Family, scheme: &'a Scheme, names: &BTreeSet<&str>) -> Self {
        let mut used = vec![false; scheme.rows.len()];
        let mut explained = 0;
        for name in names {
            if let Some(hit) = scheme.place(name) {
                explained += 1;
                used[hit.row] = true;
            }
        }
        let required = |row: &Row| row.params().any(|at| !family.params()[usize::from(at)].optional);
        let unused = used.iter().zip(&scheme.rows).filter(|(used, row)| !**used && required(row)).count();
        Self { family, scheme, explained, unused }
    }
}

/// The schemes that explain the most names and of those the ones with the fewest rows unused; several where the names do not
/// decide, none where no scheme explains any.
pub fn recognise<'a>(families: impl IntoIterator<Item = &'a Family>, names: &BTreeSet<&str>) -> Vec<Recognition<'a>> {
    let mut found: Vec<Recognition<'a>> = Vec::new();
    for family in families {
        for scheme in &family.schemes {
            // A scheme that a family only inherited is its base's, which is before it.
            if found.iter().all(|r| r.scheme != scheme) {
                found.push(Recognition::of(family, scheme, names));
            }
        }
    }
    best(found, |r| (r.explained, Reverse(r.unused)), |r| r.explained)
}

/// Those of the highest rank that explain anything.
pub(super) fn best<T, R: Ord>(mut all: Vec<T>, rank: impl Fn(&T) -> R, explained: impl Fn(&T) -> usize) -> Vec<T> {
    let highest = all.iter().map(&rank).max();
    all.retain(|found| explained(found) > 0 && Some(rank(found)) == highest);
    all
}
