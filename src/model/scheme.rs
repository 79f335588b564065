//! Schemes: the names under which files hold parameters, and how a stored tensor is made of them.

use super::companion::Companion;
use super::index::Key;
use super::lookup::{Hit, Lookup, Patterns};
use super::param::{Axis, Dims};
use super::pattern::{Captures, Pattern};

/// The axis that `{e}` in a name is an index of.
pub(super) const EXPERT: &str = "Expert";

/// A parameter in a row of a scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PackPart {
    /// The parameter.
    pub param: u16,
    /// The file's dimensions, where they are not the canonical ones.
    pub dims: Option<Dims>,
}

/// How a stored tensor is made of parameters: for each index of the outer axes in turn, the parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pack {
    /// The axes that lead in every part. Empty: the parts follow one another whole.
    pub outer: Vec<Axis>,
    /// The stored dimension in which the parts are joined.
    pub dim: usize,
    /// The parts; one where the tensor is a parameter by itself.
    pub parts: Vec<PackPart>,
}

/// What a name is: a parameter, or several in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The names.
    pub pattern: Pattern,
    pub(super) pack: Pack,
}

impl Row {
    /// The parameters in it, by their place in [`Family::params`](super::Family::params).
    pub fn params(&self) -> impl Iterator<Item = u16> + '_ {
        self.pack.parts.iter().map(|part| part.param)
    }
}

/// A dialect: the names under which files hold the parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// Its name: `hf`, `mindformers/grouped`.
    pub name: String,
    /// Its rows. Where a parameter has two names, the first is that of networks for several cards, the other that for one.
    pub rows: Vec<Row>,
    index: Lookup,
}

impl Scheme {
    pub(super) fn new(name: String, rows: Vec<Row>) -> Self {
        Self { name, rows, index: Lookup::default() }
    }

    /// The row of a name, and what the name captures.
    pub fn find(&self, name: &str) -> Option<(&Row, Captures)> {
        self.place(name).map(|hit| (&self.rows[hit.row], hit.captures))
    }

    /// The same, with the place of the row.
    pub(super) fn place(&self, name: &str) -> Option<Hit> {
        self.patterns().hits(Key::of(name), name).next()
    }

    fn patterns(&self) -> &Patterns {
        self.index.get(|| self.rows.iter().map(|row| &row.pattern))
    }

    /// The rows whose layers a name may be of the companions of, and the companions.
    pub(super) fn companions_by_index<'a>(
        &'a self,
        name: &str,
    ) -> impl Iterator<Item = (&'a Row, Captures, &'static Companion)> {
        let hits = self.patterns().companion_hits(Key::of(name), name);
        hits.map(|(hit, companion)| (&self.rows[hit.row], hit.captures, companion))
    }

    /// The row that holds a parameter.
    pub fn row_of(&self, param: u16) -> Option<&Row> {
        self.rows.iter().find(|row| row.params().any(|found| found == param))
    }
}

/// A name of a scheme, the row that it is of and what it captures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// The name.
    pub name: String,
    /// The row.
    pub row: &'a Row,
    /// The captures.
    pub captures: Captures,
}
