//! Output files and directories: every error names the path, every close is checked.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FallocateFlags, OFlags, RenameFlags};

use super::close::{close, write_through};
use super::dir::{Dir, HeldFile};
use super::file_error::{FileError, FileOp};

/// Opens a file for reading. Anything but a regular file is refused before it is opened: a pipe would wait for ever.
pub fn open_regular(path: &Path) -> Result<File, FileError> {
    let meta = std::fs::metadata(path).map_err(FileError::of(FileOp::Open, path))?;
    if !meta.is_file() {
        return Err(FileError::of(FileOp::Open, path)(io::Error::other("not a regular file")));
    }
    #[expect(clippy::disallowed_methods, reason = "this is where files are opened; the error names the path")]
    File::open(path).map_err(FileError::of(FileOp::Open, path))
}

/// Opens a file for reading past the page cache.
pub(super) fn open_direct(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(direct_flag()).open(path)
}

fn direct_flag() -> i32 {
    i32::try_from(OFlags::DIRECT.bits()).unwrap_or(0)
}

/// A file being written, by direct I/O where the file system allows it.
#[derive(Debug)]
pub struct OutFile {
    /// Its name in its directory.
    name: PathBuf,
    path: PathBuf,
    plain: File,
    direct: Option<File>,
    /// The length of the whole.
    len: u64,
    /// Where in the file the part begins that is written, and the length of the whole. `None`: all of it is written.
    part: Option<FilePart>,
}

/// A part of a file that several processes write together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilePart {
    /// Where the part begins.
    pub at: u64,
    /// The length of the whole file.
    pub of: u64,
}

impl OutFile {
    /// Creates a file that must not exist yet and reserves `len` bytes for it.
    pub fn create(dir: &Dir, name: &str, len: u64, direct: bool) -> Result<Self, FileError> {
        Self::make(dir, name, len, direct, None)
    }

    /// Opens a part of a file, which is made with its whole length where it is not there yet. No bytes are lost by it.
    pub fn open_part(dir: &Dir, name: &str, part: FilePart, direct: bool) -> Result<Self, FileError> {
        Self::make(dir, name, part.of, direct, Some(part))
    }

    fn make(dir: &Dir, name: &str, len: u64, direct: bool, part: Option<FilePart>) -> Result<Self, FileError> {
        let (name, path) = (PathBuf::from(name), dir.path().join(name));
        let exclusive = if part.is_some() { OFlags::empty() } else { OFlags::EXCL };
        let plain = dir.file(&name, OFlags::CREATE | exclusive).map_err(FileError::of(FileOp::Create, &path))?;
        match rustix::fs::fallocate(plain.as_fd(), FallocateFlags::empty(), 0, len.max(1)) {
            Ok(()) => {}
            // No such call on this file system: a sparse file of that length serves.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                plain.set_len(len).map_err(FileError::of(FileOp::Reserve, &path))?;
            }
            Err(e) => return Err(FileError::errno(FileOp::Reserve, &path)(e)),
        }
        // Refused by some file systems; then everything goes through the page cache.
        let direct = if direct { dir.file(&name, OFlags::DIRECT).ok() } else { None };
        Ok(Self { name, path, plain, direct, len, part })
    }

    /// Where in the file the part begins that is written; 0 where that is the whole.
    pub fn base(&self) -> u64 {
        self.part.map_or(0, |part| part.at)
    }

    /// How many of `count` bytes that are written at `at` are the file's: the last block is written whole and cut off later.
    pub fn own_bytes(&self, at: u64, count: u64) -> u64 {
        count.min(self.len.saturating_sub(at))
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The descriptor that writes past the page cache, if there is one.
    pub fn direct(&self) -> Option<&File> {
        self.direct.as_ref()
    }

    /// The descriptor that writes through the page cache.
    pub fn plain(&self) -> &File {
        &self.plain
    }

    /// Writes through the page cache.
    pub fn write_plain(&self, bytes: &[u8], at: u64) -> Result<(), FileError> {
        self.plain.write_all_at(bytes, at).map_err(FileError::of(FileOp::Write, &self.path))
    }

    /// As [`Self::write_plain`], of bytes that the kernel cannot read from where they are. They are read here, where a mapping that
    /// cannot be read takes note of it.
    pub fn write_copied(&self, bytes: &[u8], at: u64) -> Result<(), FileError> {
        let (mut at, mut copy) = (at, Vec::new());
        for piece in bytes.chunks(1 << 20) {
            copy.clear();
            copy.extend_from_slice(piece);
            self.write_plain(&copy, at)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Cuts the file to its length, flushes it if `durable`, and closes it, looking at every result: on network file systems
    /// a failed close is lost data. `dir`: where it was made.
    pub fn finish(self, dir: &Dir, len: u64, durable: bool) -> Result<HeldFile, FileError> {
        let len = self.part.map_or(len, |part| part.of);
        self.plain.set_len(len).map_err(FileError::of(FileOp::Write, &self.path))?;
        if durable {
            self.plain.sync_data().map_err(FileError::of(FileOp::Sync, &self.path))?;
        }
        let held = dir.hold(&self.name, &self.plain, len)?;
        for file in [self.direct, Some(self.plain)].into_iter().flatten() {
            close(file, &self.path)?;
        }
        Ok(held)
    }
}

/// Writes a small file that must not exist yet, flushed if `durable`.
pub fn write_small(
    path: &Path,
    durable: bool,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), FileError> {
    let file = File::options().write(true).create_new(true).open(path).map_err(FileError::of(FileOp::Create, path))?;
    write_through(file, path, durable, fill, |_, _| Ok(()))
}

/// Reads a file of at most `limit` bytes.
pub fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let error = FileError::of(FileOp::Read, path);
    let refused = |len| {
        error(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{len} bytes, more than the {limit} that such a file may have"),
        ))
    };
    let file = open_regular(path)?;
    let len = file.metadata().map_err(error)?.len();
    if len > limit {
        return Err(refused(len));
    }
    // It may grow while it is read, and some files (below /proc) state no length.
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(error)?;
    if bytes.len() as u64 > limit { Err(refused(bytes.len() as u64)) } else { Ok(bytes) }
}

/// Makes a directory and its parents. Returns those that were made, outermost first.
pub fn create_dir(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut made: Vec<PathBuf> =
        path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).map(Path::to_owned).collect();
    made.reverse();
    match std::fs::create_dir_all(path) {
        Ok(()) => Ok(made),
        Err(e) => {
            // Some of them may have been made.
            made.retain(|dir| dir.is_dir());
            remove_empty_dirs(&made);
            Err(FileError::of(FileOp::Create, path)(e))
        }
    }
}

/// Removes directories that were made for nothing, innermost first. One that holds something by now stays.
pub fn remove_empty_dirs(made: &[PathBuf]) {
    for dir in made.iter().rev() {
        if std::fs::remove_dir(dir).is_err() {
            break;
        }
    }
}

/// Whether the process may make files in a directory.
pub fn is_writable(dir: &Path) -> bool {
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok()
}

/// Lets the process have as many files open as it is allowed to at all: a rank file needs two descriptors.
pub fn raise_open_files_limit() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    // Where it is refused the old limit stays, and the first file beyond it is an error that names it.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
}

/// Removes a directory and all that is in it; one that is not there is no error.
pub fn remove_dir(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(FileError::of(FileOp::Remove, path)(e)),
        _ => Ok(()),
    }
}

/// Flushes a directory, so that names made in it last.
pub fn sync_dir(path: &Path) -> Result<(), FileError> {
    #[expect(clippy::disallowed_methods, reason = "this is where files are opened; the error names the path")]
    let dir = File::open(path).map_err(FileError::of(FileOp::Open, path))?;
    dir.sync_all().map_err(FileError::of(FileOp::Sync, path))
}

/// Renames to a name that must be free. The caller syncs the directories.
pub fn rename_new(from: &Path, to: &Path) -> Result<(), FileError> {
    let error = FileError::errno(FileOp::Rename, to);
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // The file system knows no flags: the name was looked up immediately before.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {
            if to.symlink_metadata().is_ok() {
                return Err(error(rustix::io::Errno::EXIST));
            }
            rustix::fs::rename(from, to).map_err(error)
        }
        other => other.map_err(error),
    }
}

/// Swaps two directories in one step, where the file system can. `false`: it cannot, nothing was done.
pub fn rename_exchange(a: &Path, b: &Path) -> Result<bool, FileError> {
    match rustix::fs::renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => Ok(false),
        Err(e) => Err(FileError::errno(FileOp::Rename, b)(e)),
    }
}

/// Bytes that can still be written to the file system of a directory.
pub fn available_bytes(dir: &Path) -> Result<u64, FileError> {
    let stat = rustix::fs::statvfs(dir).map_err(FileError::errno(FileOp::Stat, dir))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Bytes that removing what is at a path gives back: of files that have no name elsewhere.
pub fn occupied_bytes(path: &Path) -> u64 {
    let Ok(meta) = path.symlink_metadata() else { return 0 };
    if meta.is_dir() {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        return entries.map(|entry| occupied_bytes(&entry.path())).sum();
    }
    // stat(2) counts in these, whatever the file system's blocks are.
    if meta.nlink() == 1 { meta.blocks() * 512 } else { 0 }
}
