//! What can be read from, wherever it is.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::sys::{FileError, FileOp};

/// Bytes of a fixed length that can be read at any place.
pub trait Blob: fmt::Debug + Send + Sync {
    /// How many bytes there are.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of the bytes, where they are addresses of this process. They may be zeros where they could not be read, which
    /// [`Self::check`] reports.
    fn mapped(&self) -> Option<&[u8]>;

    /// Reads all of `buf` from the bytes at `at`.
    ///
    /// # Errors
    /// What the system says; bytes past the end.
    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<(), FileError>;

    /// Whether all that was read until now is what the blob holds.
    ///
    /// # Errors
    /// What could not be read.
    fn check(&self) -> Result<(), FileError> {
        Ok(())
    }
}

/// A place that blobs are in.
pub trait Store {
    /// Its kind of blob.
    type Blob: Blob;

    /// Opens a blob.
    ///
    /// # Errors
    /// What the system says.
    fn open(&self, path: &Path) -> Result<Arc<Self::Blob>, FileError>;
}

/// Copies all of `buf` from bytes that are in reach.
pub(super) fn copy(bytes: &[u8], buf: &mut [u8], at: u64, path: &Path) -> Result<(), FileError> {
    let from = usize::try_from(at).ok().and_then(|at| bytes.get(at..at.checked_add(buf.len())?));
    let end = || FileError { op: FileOp::Read, path: path.to_owned(), source: io::ErrorKind::UnexpectedEof.into() };
    buf.copy_from_slice(from.ok_or_else(end)?);
    Ok(())
}
