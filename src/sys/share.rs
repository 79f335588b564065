//! Letting two files share blocks on the disk, where the file system can (`FICLONERANGE`).

use std::io;
use std::os::fd::AsRawFd;

use super::{Mapping, OutFile};

/// Makes `to ..` of a file the same blocks as `from ..` of a source, `len` bytes of them, all multiples of the file system's
/// block. No data are moved; a later write to either file leaves the other alone. The kernel flushes what is not on the disk yet
/// of these ranges, and waits for direct I/O on both files: nothing may be in flight that only this thread can complete.
///
/// # Errors
/// What the kernel says, and then nothing is changed: EOPNOTSUPP, ENOTTY (no such file system), EXDEV (two of them), EINVAL
/// (another block size).
pub fn clone_range(source: &Mapping, from: u64, file: &OutFile, to: u64, len: u64) -> io::Result<()> {
    let source = source.plain().ok_or(io::ErrorKind::Unsupported)?;
    let range = libc::file_clone_range {
        src_fd: i64::from(source.as_raw_fd()),
        src_offset: from,
        src_length: len,
        dest_offset: to,
    };
    // SAFETY: ioctl_ficlonerange(2) reads one `file_clone_range` at the address that it is given and keeps nothing of it; `range`
    // lives until it returns. Both descriptors are open for as long as `source` and `file` are borrowed. It changes files, no
    // memory: the mapping of the source is of another file, and stays what it was.
    let answer = unsafe { libc::ioctl(file.plain().as_raw_fd(), libc::FICLONERANGE, &raw const range) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
