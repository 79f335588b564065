//! What reading a checkpoint takes.

use crate::formats::Budget;
use crate::sys::StableInputs;

/// What reading a checkpoint takes: a promise, and memory for what its headers list.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// That the files stay what they are.
    pub promise: StableInputs,
    /// The memory that all headers together may take.
    pub budget: &'a Budget,
}
