//! For tests: bytes that are mapped, or not in reach, as those of a store elsewhere are not.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::blob::{Blob, copy};
use crate::sys::FileError;

/// Bytes, and where how many of them were read.
#[derive(Debug, Default)]
pub struct MemoryBlob {
    bytes: Vec<u8>,
    reads: Mutex<Vec<(u64, usize)>>,
    /// Whether they are in reach.
    mapped: bool,
    /// How many of them can be read.
    good: usize,
}

impl MemoryBlob {
    /// Bytes that are in reach.
    pub fn mapped(bytes: Vec<u8>) -> Self {
        Self { mapped: true, ..Self::far(bytes) }
    }

    /// Bytes that can be read only.
    pub fn far(bytes: Vec<u8>) -> Self {
        Self { good: bytes.len(), bytes, reads: Mutex::default(), mapped: false }
    }

    /// As [`Self::far`], of which so many can be read.
    pub fn damaged(bytes: Vec<u8>, good: usize) -> Self {
        Self { good, ..Self::far(bytes) }
    }

    /// What was read until now: where, and how many bytes.
    pub fn reads(&self) -> Vec<(u64, usize)> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Blob for MemoryBlob {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn mapped(&self) -> Option<&[u8]> {
        self.mapped.then_some(&self.bytes)
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<(), FileError> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).push((at, buf.len()));
        copy(&self.bytes[..self.good], buf, at, Path::new("far"))
    }
}
