//! How the elements of a tensor are made of what its shards hold, where they are not exactly that.

use super::op::{Arithmetic, Width};
use crate::tensor::Dtype;

/// The factors of an adapter that is merged into a weight, by index among the catalog's vectors, and what their product is
/// multiplied by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    pub a: usize,
    pub b: usize,
    pub scale: f32,
}

/// How a tensor's elements are quantised. Indices are of the catalog's vectors.
#[derive(Clone, Debug)]
pub(super) struct Quantise {
    /// What the shards hold.
    pub from: Dtype,
    pub width: Width,
    /// How many neighbouring columns of a row have one scale, where not all of them do.
    pub group: Option<u64>,
    pub arithmetic: Arithmetic,
    pub scales: usize,
    pub multiply: Option<usize>,
    pub divide: Option<usize>,
}
