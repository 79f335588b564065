//! One process at a time: a lock file that names its holder, locked by the kernel where the file system can.
//!
//! Where it cannot (Lustre without `-o flock`, some FUSE) the file itself is the lock: one caller only makes it, and it is taken
//! over where its holder is seen to have ended: a process of this machine and boot.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::file::rename_new;
use super::file_error::{FileError, FileOp};
use super::marker::beside;
use super::network::host_name;
use super::process::ProcessId;

/// A lock, held until it is dropped or its process ends. [`Self::remove`] takes its file away first.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
}

/// How locking ended.
#[derive(Debug)]
pub enum Locked {
    /// The lock is held by this process.
    Ours(Lock),
    /// It is held by another process.
    Busy,
    /// Another process made the file, and whether it still runs cannot be seen from here. Its owner, as text.
    Unclear(String),
}

/// The process that made a lock file.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    host: String,
    space: String,
    pid: u32,
    began: u64,
    /// Whether the kernel holds the lock, which then ends with the process.
    kernel: bool,
}

impl Holder {
    fn own(kernel: bool) -> Self {
        let ProcessId { space, pid, began } = ProcessId::own();
        Self { host: host_name(), space, pid, began, kernel }
    }

    fn has_ended(&self) -> Option<bool> {
        ProcessId { space: self.space.clone(), pid: self.pid, began: self.began }.has_ended()
    }
}

/// What the kernel makes of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flock {
    Held,
    Busy,
    /// The file system has no locks.
    None,
}

fn flock(file: &File) -> Result<Flock, Errno> {
    match rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Flock::Held),
        Err(Errno::WOULDBLOCK) => Ok(Flock::Busy),
        Err(Errno::NOSYS | Errno::NOLCK | Errno::OPNOTSUPP) => Ok(Flock::None),
        Err(e) => Err(e),
    }
}

/// A holder's record is some 200 bytes.
const MAX_RECORD: u64 = 4096;
/// How often a lock that goes to others all the time is tried for.
const TRIES: usize = 100;

/// Locks a file, which is made if need be.
pub fn lock(path: &Path) -> Result<Locked, FileError> {
    lock_with(path, flock)
}

/// Whether no process holds a lock, or its holder has ended. Makes and changes nothing.
pub fn is_unlocked(path: &Path) -> bool {
    match open(path) {
        Ok(None) => true,
        Ok(Some(file)) => match flock(&file) {
            Ok(Flock::Held) => holder(&file).is_none_or(|by| by.kernel || by.has_ended() == Some(true)),
            Ok(Flock::None) => holder(&file).is_some_and(|by| by.has_ended() == Some(true)),
            Ok(Flock::Busy) | Err(_) => false,
        },
        Err(_) => false,
    }
}

fn lock_with(path: &Path, flock: impl Fn(&File) -> Result<Flock, Errno>) -> Result<Locked, FileError> {
    for _ in 0..TRIES {
        if let Some(lock) = make(path, &flock)? {
            return Ok(Locked::Ours(lock));
        }
        let Some(file) = open(path)? else { continue };
        let state = flock(&file).map_err(|e| FileError::errno(FileOp::Lock, path)(e))?;
        if state == Flock::Busy {
            return Ok(Locked::Busy);
        }
        let lock = Lock { path: path.to_owned(), file };
        // Its last holder may have removed it between our opening and our locking it.
        if !lock.is_there() {
            continue;
        }
        let holder = holder(&lock.file);
        // The kernel has let go of what it held; what it never held it cannot say anything of.
        let free = state == Flock::Held && holder.as_ref().is_none_or(|by| by.kernel);
        match holder.as_ref().map(Holder::has_ended) {
            _ if free => {}
            Some(Some(true)) => {}
            Some(Some(false)) => return Ok(Locked::Busy),
            Some(None) | None => return Ok(Locked::Unclear(who(holder.as_ref()))),
        }
        if state == Flock::Held {
            // As above.
            let _ = lock.sign(true);
            return Ok(Locked::Ours(lock));
        }
        lock.set_aside()?;
    }
    Ok(Locked::Busy)
}

/// The lock of a file that is not there yet. `None`: it is, or another process was faster.
fn make(path: &Path, flock: impl Fn(&File) -> Result<Flock, Errno>) -> Result<Option<Lock>, FileError> {
    let file = match File::options().read(true).write(true).create_new(true).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        Err(e) => return Err(FileError::of(FileOp::Create, path)(e)),
    };
    let lock = Lock { path: path.to_owned(), file };
    let state = match flock(&lock.file) {
        Ok(state) => state,
        Err(e) => {
            lock.remove();
            return Err(FileError::errno(FileOp::Lock, path)(e));
        }
    };
    if state == Flock::Busy || !lock.is_there() {
        return Ok(None);
    }
    match lock.sign(state == Flock::Held) {
        Err(e) if state == Flock::None => {
            lock.remove();
            Err(FileError::of(FileOp::Write, path)(e))
        }
        // What the kernel holds needs no signature, for which a full disk may have no space.
        _ => Ok(Some(lock)),
    }
}

/// Opens a lock file, following no link and without waiting. `None`: there is none.
fn open(path: &Path) -> Result<Option<File>, FileError> {
    let error = FileError::of(FileOp::Open, path);
    let odd = || error(io::Error::other("it should be a lock file, and is not a regular file"));
    match path.symlink_metadata() {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => return Err(odd()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(error(e)),
    }
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or(0);
    match File::options().read(true).write(true).custom_flags(flags).open(path) {
        Ok(file) if file.metadata().is_ok_and(|meta| meta.is_file()) => Ok(Some(file)),
        Ok(_) => Err(odd()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(error(e)),
    }
}

/// The process that made it; `None` where it does not say.
fn holder(file: &File) -> Option<Holder> {
    let mut bytes = Vec::new();
    (&mut &*file).take(MAX_RECORD).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn who(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "an unknown process".to_owned(), |by| format!("process {} on {}", by.pid, by.host))
}

impl Lock {
    /// Whether its file has its name.
    fn is_there(&self) -> bool {
        let id = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
        let Ok(ours) = self.file.metadata().map(id) else { return false };
        self.path.symlink_metadata().is_ok_and(|there| id(there) == ours)
    }

    fn sign(&self, kernel: bool) -> io::Result<()> {
        // Numbers and text, which JSON can always hold.
        let record = serde_json::to_vec(&Holder::own(kernel)).unwrap_or_default();
        self.file.set_len(0)?;
        self.file.write_all_at(&record, 0)
    }

    /// Takes away the file of a holder that has ended, so that it can be made anew.
    fn set_aside(self) -> Result<(), FileError> {
        let aside = beside(&self.path);
        if rename_new(&self.path, &aside).is_err() {
            // Another process was faster.
            return Ok(());
        }
        let moved = Lock { path: aside.clone(), file: self.file };
        if moved.is_there() {
            let _ = std::fs::remove_file(&aside);
            return Ok(());
        }
        // It is another process's, made in the meantime: it goes back.
        rename_new(&aside, &self.path)
    }

    /// Removes the file and lets the lock go. A file that another process put in its place stays.
    pub fn remove(self) {
        if self.is_there() {
            // One that stays is taken over by the next run.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file system without locks.
    #[expect(clippy::unnecessary_wraps, reason = "as the kernel's")]
    fn none(_: &File) -> Result<Flock, Errno> {
        Ok(Flock::None)
    }

    fn ended() -> Holder {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        // Whatever process has this number now began at another time.
        Holder { pid, began: 1, ..Holder::own(false) }
    }

    fn record(path: &Path, holder: &Holder) {
        std::fs::write(path, serde_json::to_vec(holder).unwrap()).unwrap();
    }

    #[test]
    fn without_locks_of_the_kernel_one_process_holds_it_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let Locked::Ours(first) = lock_with(&path, none).unwrap() else { panic!("it was free") };
        assert!(matches!(lock_with(&path, none).unwrap(), Locked::Busy));
        // Nor does a process get it for which the kernel locks (the same files mounted in another way).
        assert!(matches!(lock(&path).unwrap(), Locked::Busy));
        assert!(!is_unlocked(&path));
        first.remove();
        assert!(is_unlocked(&path));
        assert!(matches!(lock_with(&path, none).unwrap(), Locked::Ours(_)));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "something was left beside it");
    }

    #[test]
    fn a_lock_is_taken_over_where_its_holder_is_known_to_have_ended_and_only_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        record(&path, &ended());
        let Locked::Ours(lock) = lock_with(&path, none).unwrap() else { panic!("its holder has ended") };
        lock.remove();
        record(&path, &Holder { host: "node7".to_owned(), space: "elsewhere".to_owned(), ..ended() });
        match lock_with(&path, none).unwrap() {
            Locked::Unclear(who) => assert!(who.contains("on node7"), "{who}"),
            other => panic!("{other:?}"),
        }
        // What was never signed may be anybody's.
        std::fs::write(&path, "").unwrap();
        assert!(matches!(lock_with(&path, none).unwrap(), Locked::Unclear(_)));
    }

    #[test]
    fn the_kernel_lets_go_of_a_lock_with_its_process_wherever_that_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        for left in [None, Some(Holder { kernel: true, space: "elsewhere".to_owned(), ..ended() })] {
            std::fs::write(&path, left.map(|by| serde_json::to_vec(&by).unwrap()).unwrap_or_default()).unwrap();
            let Locked::Ours(held) = lock(&path).unwrap() else { panic!("nobody holds it") };
            assert!(matches!(lock(&path).unwrap(), Locked::Busy));
            held.remove();
        }
    }

    #[test]
    fn another_lock_of_that_name_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let Locked::Ours(first) = lock(&path).unwrap() else { panic!("it was free") };
        std::fs::remove_file(&path).unwrap();
        let Locked::Ours(second) = lock(&path).unwrap() else { panic!("it was free") };
        first.remove();
        assert!(matches!(lock(&path).unwrap(), Locked::Busy));
        second.remove();
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_lock_file_is_neither_followed_nor_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (fifo, link) = (dir.path().join("fifo"), dir.path().join("link"));
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &link).unwrap();
        for path in [fifo, link] {
            lock(&path).unwrap_err();
            assert!(!is_unlocked(&path));
        }
        assert!(!dir.path().join("elsewhere").exists());
    }
}
