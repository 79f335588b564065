//! Files in memory (`/dev/shm`) that have no name until all of them is there, so that nothing is left of one that is not finished.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use super::file_error::{FileError, FileOp};

/// Where POSIX shared memory is, on Linux.
pub const SHARED_MEMORY: &str = "/dev/shm";

/// A file without a name, to be written by any thread.
#[derive(Debug)]
pub struct Nameless {
    file: File,
    path: PathBuf,
}

impl Nameless {
    /// A new file, which will be at `path`.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(path: &Path) -> Result<Self, FileError> {
        let error = FileError::errno(FileOp::Create, path);
        let dir = path.parent().unwrap_or(path);
        let mode = Mode::from_raw_mode(0o666);
        let file = rustix::fs::open(dir, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode).map_err(error)?;
        Ok(Self { file: file.into(), path: path.to_owned() })
    }

    /// Writes bytes `at ..`.
    ///
    /// # Errors
    /// What the system says: mostly that there is no space.
    pub fn write(&self, bytes: &[u8], at: u64) -> Result<(), FileError> {
        self.file.write_all_at(bytes, at).map_err(FileError::of(FileOp::Write, &self.path))
    }

    /// Gives it its name. `replace`: also where that is another's.
    ///
    /// # Errors
    /// What the system says: that the name is taken, where nothing is replaced.
    pub fn publish(self, replace: bool) -> Result<(), FileError> {
        if !replace {
            return self.link(&self.path);
        }
        let mut name = std::ffi::OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(format!(".{}", std::process::id()));
        let aside = self.path.with_file_name(name);
        // A process of the same number has left it that was killed here.
        let _ = std::fs::remove_file(&aside);
        self.link(&aside)?;
        rustix::fs::rename(&aside, &self.path).map_err(FileError::errno(FileOp::Rename, &self.path)).inspect_err(|_| {
            let _ = std::fs::remove_file(&aside);
        })
    }

    fn link(&self, path: &Path) -> Result<(), FileError> {
        // By its number: without it only root may.
        let own = format!("/proc/self/fd/{}", self.file.as_fd().as_raw_fd());
        let linked = rustix::fs::linkat(CWD, own, CWD, path, AtFlags::SYMLINK_FOLLOW);
        linked.map_err(|e| FileError { op: FileOp::Create, path: path.to_owned(), source: io::Error::from(e) })
    }
}
