//! Which way the bytes of a run went.

use std::ops::AddAssign;

use serde::Serialize;

/// Which way bytes went. The first four are bytes of the target and make up all that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
pub struct Ways {
    /// Written straight from the mapped sources.
    pub mapped: u64,
    /// Read past the page cache and written unchanged.
    pub past_cache: u64,
    /// Put together in a buffer: copies, headers, padding.
    pub gathered: u64,
    /// Converted to another dtype.
    pub converted: u64,
    /// Bytes of the sources that were read ahead of gathers and conversions, past the page cache.
    pub read_ahead: u64,
    /// Bytes of the sources that gathers and conversions took from what was read ahead, each as often as it was taken.
    pub from_read_ahead: u64,
}

impl AddAssign for Ways {
    fn add_assign(&mut self, other: Self) {
        self.mapped += other.mapped;
        self.past_cache += other.past_cache;
        self.gathered += other.gathered;
        self.converted += other.converted;
        self.read_ahead += other.read_ahead;
        self.from_read_ahead += other.from_read_ahead;
    }
}

/// What is known of a chunk that was put together.
#[derive(Debug, Default)]
pub(super) struct Filled {
    /// Finite values that became infinite, by the tensor of the file.
    pub overflowed: Vec<(usize, u64)>,
    /// Which way its bytes went.
    pub ways: Ways,
}
