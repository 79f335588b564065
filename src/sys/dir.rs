//! Directories held open: what is made or read in one is in that very directory, whatever becomes of its name.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, Stat};

use super::close::write_through;
use super::file_error::{FileError, FileOp};

/// A directory held open.
#[derive(Debug)]
pub struct Dir {
    path: PathBuf,
    fd: OwnedFd,
    id: (u64, u64),
}

/// A finished file in a [`Dir`], held so that its inode is given to no other, without being open for reading or writing.
#[derive(Debug)]
pub struct HeldFile {
    name: PathBuf,
    len: u64,
    fd: OwnedFd,
}

/// Which file it is: device and inode.
fn id(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// The rights that files and directories are made with, less what the process's mask takes away.
fn mode(bits: u32) -> Mode {
    Mode::from_raw_mode(bits)
}

impl Dir {
    /// Makes a directory whose name must be free, and holds it.
    pub fn make(path: &Path) -> Result<Self, FileError> {
        rustix::fs::mkdirat(CWD, path, mode(0o777)).map_err(FileError::errno(FileOp::Create, path))?;
        Self::open(path)
    }

    /// Holds a directory. One that is reached through a link in its last component is refused.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let error = FileError::errno(FileOp::Open, path);
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(error)?;
        let id = id(&rustix::fs::fstat(&fd).map_err(error)?);
        Ok(Self { path: path.to_owned(), fd, id })
    }

    /// The name that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a name is this directory's.
    pub fn is_at(&self, path: &Path) -> bool {
        rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| id(&stat) == self.id)
    }

    /// Locks the directory for as long as it is held, where the file system can lock directories. `false`: another process has
    /// locked it.
    pub fn lock(&self) -> bool {
        // Some network file systems lock only what is open for writing, which no directory is.
        rustix::fs::flock(&self.fd, FlockOperation::NonBlockingLockExclusive) != Err(rustix::io::Errno::WOULDBLOCK)
    }

    /// Makes the directories above a name in this one.
    pub fn make_above(&self, name: &Path) -> Result<(), FileError> {
        let mut above: Vec<&Path> = name.ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty()).collect();
        above.reverse();
        for dir in above {
            match rustix::fs::mkdirat(&self.fd, dir, mode(0o777)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(e) => return Err(FileError::errno(FileOp::Create, &self.path.join(dir))(e)),
            }
        }
        Ok(())
    }

    /// Opens a file for writing.
    pub(super) fn file(&self, name: &Path, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::WRONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.fd, name, flags, mode(0o666))?.into())
    }

    /// Holds a file that is finished and about to be closed.
    pub(super) fn hold(&self, name: &Path, file: &File, len: u64) -> Result<HeldFile, FileError> {
        let path = self.path.join(name);
        let error = FileError::errno(FileOp::Stat, &path);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty()).map_err(error)?;
        let (held, written) = (rustix::fs::fstat(&fd).map_err(error)?, rustix::fs::fstat(file.as_fd()).map_err(error)?);
        if id(&held) != id(&written) {
            return Err(FileError { op: FileOp::Stat, path, source: replaced() });
        }
        Ok(HeldFile { name: name.to_owned(), len, fd })
    }

    /// Whether a finished file is still there under its name, and as long as it was.
    ///
    /// # Errors
    /// Where it is not: it was removed, replaced, or cut.
    pub fn check(&self, file: &HeldFile) -> Result<(), FileError> {
        let path = self.path.join(&file.name);
        let error = FileError::errno(FileOp::Stat, &path);
        let there = rustix::fs::statat(&self.fd, &file.name, AtFlags::SYMLINK_NOFOLLOW).map_err(error)?;
        let held = rustix::fs::fstat(&file.fd).map_err(error)?;
        if id(&there) == id(&held) && u64::try_from(there.st_size) == Ok(file.len) {
            return Ok(());
        }
        Err(FileError { op: FileOp::Stat, path, source: replaced() })
    }

    /// Writes a small file that must not exist yet, flushed if `durable`.
    pub fn write_small(
        &self,
        name: &str,
        durable: bool,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<HeldFile, FileError> {
        let (name, path) = (Path::new(name), self.path.join(name));
        let error = |source| FileError { op: FileOp::Create, path: path.clone(), source };
        let file = self.file(name, OFlags::CREATE | OFlags::EXCL).map_err(error)?;
        write_through(file, &path, durable, fill, |file, len| self.hold(name, file, len))
    }
}

fn replaced() -> io::Error {
    io::Error::other("it was replaced or cut while this conversion ran")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_in_a_directory_stays_in_it_when_its_name_goes_to_another() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("dir");
        let dir = Dir::make(&path).unwrap();
        assert!(Dir::make(&path).is_err());
        let first = dir.write_small("first", false, |to| to.write_all(b"1")).unwrap();
        dir.check(&first).unwrap();
        std::fs::create_dir(root.path().join("moved")).unwrap();
        let moved = root.path().join("moved/dir");
        super::super::rename_new(&path, &moved).unwrap();
        std::fs::create_dir(&path).unwrap();
        dir.make_above(Path::new("a/b/c")).unwrap();
        assert!(moved.join("a/b").is_dir() && !path.join("a").exists());
        assert!(dir.is_at(&moved) && !dir.is_at(&path));
        dir.check(&first).unwrap();
        // Another file of that name, though of the same length.
        std::fs::remove_file(moved.join("first")).unwrap();
        assert!(dir.check(&first).is_err());
        std::fs::write(moved.join("first"), "1").unwrap();
        assert!(dir.check(&first).is_err());
        // Removed, it takes nothing any more.
        std::fs::remove_dir_all(&moved).unwrap();
        assert!(dir.write_small("second", false, |to| to.write_all(b"2")).is_err());
        assert!(!moved.exists());
    }

    #[test]
    fn a_directory_is_locked_once() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("dir");
        let dir = Dir::make(&path).unwrap();
        assert!(dir.lock());
        assert!(!Dir::open(&path).unwrap().lock());
        drop(dir);
        assert!(Dir::open(&path).unwrap().lock());
    }
}
