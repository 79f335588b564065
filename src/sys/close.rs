//! The end of writing: every close is checked.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::IntoRawFd;
use std::path::Path;

use super::file_error::{FileError, FileOp};

/// Closes a file; what the system says then counts.
pub(super) fn close(file: File, path: &Path) -> Result<(), FileError> {
    let fd = file.into_raw_fd();
    // SAFETY: `into_raw_fd` gave up the only owner of `fd`, so it is open and nothing else closes it; `close` is called once.
    if unsafe { libc::close(fd) } == 0 {
        return Ok(());
    }
    Err(FileError::of(FileOp::Close, path)(io::Error::last_os_error()))
}

/// Fills a file, flushes it if `durable`, looks at it with `finish` (which gets its length), and closes it.
pub(super) fn write_through<T>(
    file: File,
    path: &Path,
    durable: bool,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    finish: impl FnOnce(&File, u64) -> Result<T, FileError>,
) -> Result<T, FileError> {
    let mut buffered = io::BufWriter::new(file);
    fill(&mut buffered).map_err(FileError::of(FileOp::Write, path))?;
    let file = buffered.into_inner().map_err(|e| FileError::of(FileOp::Write, path)(e.into_error()))?;
    if durable {
        file.sync_data().map_err(FileError::of(FileOp::Sync, path))?;
    }
    let len = file.metadata().map_err(FileError::of(FileOp::Stat, path))?.len();
    let finished = finish(&file, len)?;
    close(file, path)?;
    Ok(finished)
}
