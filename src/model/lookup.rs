//! The patterns of names, and those of the companions of their layers, found by one hash.

use std::sync::OnceLock;

use super::companion::{Companion, companions};
use super::index::{Index, Key};
use super::pattern::{Captures, Pattern};

/// The index of some patterns, made when it is first wanted. It follows from them, so it is neither copied nor compared.
#[derive(Debug, Default)]
pub(super) struct Lookup(OnceLock<Patterns>);

impl Lookup {
    pub(super) fn get<'a, I: Iterator<Item = &'a Pattern>>(&self, patterns: impl FnOnce() -> I) -> &Patterns {
        self.0.get_or_init(|| Patterns::new(patterns()))
    }
}

impl Clone for Lookup {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Lookup {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Lookup {}

/// A pattern that a name is of, or whose layer it is of a companion of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    /// Its place among the patterns.
    pub row: usize,
    pub captures: Captures,
}

/// Patterns by the names that are of them.
#[derive(Debug)]
pub(super) struct Patterns {
    /// Each pattern, and where it ends in `.weight` that of the layer: the pattern without this.
    all: Vec<(Pattern, Option<Pattern>)>,
    rows: Index<u16>,
    /// The row, and the place of the companion among [`companions`].
    companions: Index<(u16, u16)>,
}

impl Patterns {
    pub(super) fn new<'a>(patterns: impl Iterator<Item = &'a Pattern>) -> Self {
        let all: Vec<_> = patterns.map(|pattern| (pattern.clone(), pattern.without(".weight"))).collect();
        let numbered = || (0..=u16::MAX).zip(&all);
        let of_layer = |(row, (_, layer)): (u16, &(Pattern, Option<Pattern>))| {
            let key = layer.as_ref().map(Pattern::key);
            let of = move |(at, companion): (u16, &Companion)| {
                let mut key = key?;
                key.write(".");
                key.write(&companion.tail);
                Some((key, (row, at)))
            };
            (0..=u16::MAX).zip(companions()).filter_map(of)
        };
        Self {
            rows: Index::new(numbered().map(|(row, (pattern, _))| (pattern.key(), row))),
            companions: Index::new(numbered().flat_map(of_layer)),
            all,
        }
    }

    /// The patterns that a name of this key is of.
    pub(super) fn hits(&self, key: Key, name: &str) -> impl Iterator<Item = Hit> {
        self.rows.candidates(key).filter_map(|row| {
            let row = usize::from(row);
            self.all[row].0.matches(name).map(|captures| Hit { row, captures })
        })
    }

    /// The patterns whose layers' companions a name of this key is of, and the companions.
    pub(super) fn companion_hits(&self, key: Key, name: &str) -> impl Iterator<Item = (Hit, &'static Companion)> {
        self.companions.candidates(key).filter_map(|(row, at)| {
            let row = usize::from(row);
            let companion = companions().get(usize::from(at))?;
            let (captures, rest) = self.all[row].1.as_ref()?.begins(name)?;
            let fits = rest.strip_prefix('.') == Some(&companion.tail);
            fits.then_some((Hit { row, captures }, companion))
        })
    }
}
