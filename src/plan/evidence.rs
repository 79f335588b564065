//! What planning must know of contents: facts, not bytes.
//!
//! A plan is made of headers. A few questions remain that headers leave open, and they arise while it is made, each from the answer
//! to the one before; the reader of the sources answers them when they arise, and what it cannot read is an error.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;

use crate::formats::Entry;
use crate::sys::FileError;

/// A tensor of a file: the index of the file among those that are planned, and of the entry in it.
pub type InFile = (usize, usize);

/// Knows what sources hold.
pub trait Evidence {
    /// Whether two tensors are the same bytes.
    ///
    /// # Errors
    /// A source that cannot be read.
    fn same(&self, one: InFile, other: InFile) -> Result<bool, Unread>;

    /// Whether all bytes of a tensor are the same, as in one that was never filled.
    ///
    /// # Errors
    /// A source that cannot be read.
    fn is_constant(&self, tensor: InFile) -> Result<bool, Unread>;

    /// The fingerprint of the first `len` bytes of a tensor, or of all where it has fewer.
    ///
    /// # Errors
    /// A source that cannot be read.
    fn beginning(&self, tensor: InFile, len: u64) -> Result<Option<u64>, Unread>;
}

/// A number that equal bytes have alike. `None`: they are all the same, which is no evidence of anything.
pub fn fingerprint(bytes: &[u8]) -> Option<u64> {
    let first = bytes.first()?;
    if bytes.iter().all(|byte| byte == first) {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    Some(hasher.finish())
}

/// A source that could not be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct Unread(Arc<FileError>);

impl Unread {
    /// What the system says.
    pub fn into_file_error(self) -> FileError {
        let again = |shared: Arc<FileError>| {
            let (kind, said) = (shared.source.kind(), shared.source.to_string());
            let source = io::Error::new(kind, said);
            FileError { op: shared.op, path: shared.path.clone(), source }
        };
        Arc::try_unwrap(self.0).unwrap_or_else(again)
    }
}

impl From<FileError> for Unread {
    fn from(error: FileError) -> Self {
        Self(Arc::new(error))
    }
}

impl PartialEq for Unread {
    /// Whether it is the same failure.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Unread {}

/// Files that are in memory as a whole.
#[derive(Debug)]
pub(super) struct InMemory<'a>(pub Vec<(&'a [u8], &'a [Entry])>);

impl InMemory<'_> {
    /// All bytes of a tensor. `None`: the file is shorter.
    fn content(&self, (file, entry): InFile) -> Option<Vec<u8>> {
        let (bytes, entries) = self.0.get(file)?;
        let parts = entries.get(entry)?.extents.parts();
        parts.iter().map(|(_, range)| range.of(bytes)).collect::<Option<Vec<_>>>().map(|parts| parts.concat())
    }
}

impl Evidence for InMemory<'_> {
    fn same(&self, one: InFile, other: InFile) -> Result<bool, Unread> {
        let content = self.content(one);
        Ok(content.is_some() && content == self.content(other))
    }

    fn is_constant(&self, tensor: InFile) -> Result<bool, Unread> {
        let content = self.content(tensor).unwrap_or_default();
        Ok(content.iter().all(|byte| *byte == content[0]))
    }

    fn beginning(&self, tensor: InFile, len: u64) -> Result<Option<u64>, Unread> {
        let mut content = self.content(tensor).unwrap_or_default();
        content.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        Ok(fingerprint(&content))
    }
}
