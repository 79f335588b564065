//! The dialects of MindSpore's networks in the families' tables.

use crate::model::scheme::{Row, Scheme};
use crate::model::{Family, Role};

/// The dialect in which every parameter has a name of its own.
pub(super) const PLAIN: &str = "mindformers";

/// The dialect of this name of each family that has it.
pub(super) fn schemes(
    families: &[&'static Family],
    name: &str,
) -> impl Iterator<Item = (&'static Family, &'static Scheme)> {
    families.iter().filter_map(move |family| Some((*family, family.scheme(name)?)))
}

/// Whether a row is of a linear layer's weights, one or several.
pub(super) fn is_linear(family: &Family, row: &Row) -> bool {
    row.params().all(|param| family.params()[usize::from(param)].role == Role::Linear)
}
