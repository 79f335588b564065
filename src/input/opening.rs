//! What reading a checkpoint takes.

use crate::formats::Budget;
use crate::storage::Local;

/// What reading a checkpoint takes: a store that it is in, and memory for what its headers list.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// What opens its files.
    pub store: Local,
    /// The memory that all headers together may take.
    pub budget: &'a Budget,
}
