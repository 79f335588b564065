//! Sizes from shapes.
use super::error::ModelError;
use super::family::{Family, Row};
use super::param::{Axis, Sizes};
use super::pattern::Captures;

/// A fact.
#[derive(Clone, Debug)]
pub struct Fact<'a> {
    /// row
    pub row: &'a Row,
    /// captures
    pub captures: Captures,
    /// dims
    pub dims: Vec<u64>,
}
/// Solved.
#[derive(Clone, Debug)]
pub struct Solved {
    /// sizes
    pub sizes: Sizes,
    /// open
    pub open: Vec<Axis>,
}
impl Family {
    /// solve
    pub fn solve(&self, _facts: &[Fact<'_>], _known: &[(Axis, u64)]) -> Result<Solved, ModelError> {
        Err(ModelError::TooLarge("stub".into()))
    }
    /// depends
    pub fn depends_on(&self, _row: &Row, _open: &[Axis]) -> bool {
        false
    }
}
