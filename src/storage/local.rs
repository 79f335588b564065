//! Files of this machine, and of servers that it has mounted.

use std::path::Path;
use std::sync::Arc;

use super::blob::{Blob, Store, copy};
use crate::sys::{FileError, Mapping, StableInputs};

/// A file that is mapped.
pub use crate::sys::Mapping as LocalBlob;

/// The files that a path leads to.
#[derive(Clone, Copy, Debug)]
pub struct Local {
    promise: StableInputs,
}

impl Local {
    /// Files of which it is promised that they stay what they are.
    pub fn new(promise: StableInputs) -> Self {
        Self { promise }
    }
}

impl Store for Local {
    type Blob = LocalBlob;

    fn open(&self, path: &Path) -> Result<Arc<LocalBlob>, FileError> {
        Ok(Arc::new(Mapping::open(path, self.promise)?))
    }
}

impl Blob for Mapping {
    fn len(&self) -> u64 {
        (**self).len() as u64
    }

    fn mapped(&self) -> Option<&[u8]> {
        Some(self)
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<(), FileError> {
        copy(self, buf, at, self.path())?;
        self.check()
    }

    fn check(&self) -> Result<(), FileError> {
        Mapping::check(self)
    }
}
