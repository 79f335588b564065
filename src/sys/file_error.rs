//! What went wrong with a file: what was tried, on which, and what the system said.

use std::path::{Path, PathBuf};
use std::{fmt, io};

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileOp {
    /// Open.
    Open,
    /// Make a file or directory.
    Create,
    /// Ask for length or kind.
    Stat,
    /// Map into memory.
    Map,
    /// Read.
    Read,
    /// Reserve space.
    Reserve,
    /// Write.
    Write,
    /// Flush to the disk.
    Sync,
    /// Close.
    Close,
    /// Rename.
    Rename,
    /// Remove.
    Remove,
    /// Lock.
    Lock,
}

impl fmt::Display for FileOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Create => "make",
            Self::Stat => "examine",
            Self::Map => "map",
            Self::Read => "read",
            Self::Reserve => "reserve room for",
            Self::Write => "write",
            Self::Sync => "flush",
            Self::Close => "close",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::Lock => "lock",
        })
    }
}

/// A failed operation on a file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} {}: {source}", .path.display())]
pub struct FileError {
    /// What was tried.
    pub op: FileOp,
    /// On which file or directory.
    pub path: PathBuf,
    /// The system's error.
    pub source: io::Error,
}

impl FileError {
    /// Whether the file is not what it was named for, and the machine did all it could.
    pub fn is_input(&self) -> bool {
        matches!(self.op, FileOp::Open | FileOp::Read | FileOp::Stat)
            && matches!(self.source.kind(), io::ErrorKind::NotFound | io::ErrorKind::FileTooLarge)
    }

    pub(super) fn of(op: FileOp, path: &Path) -> impl Fn(io::Error) -> Self + Copy + '_ {
        move |source| Self { op, path: path.to_owned(), source }
    }

    pub(super) fn errno(op: FileOp, path: &Path) -> impl Fn(rustix::io::Errno) -> Self + Copy + '_ {
        move |source| Self { op, path: path.to_owned(), source: source.into() }
    }
}
