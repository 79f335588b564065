//! Whether a file is still what it was when it was mapped: its size, its times and its name.
//!
//! No write leaves the modification time alone, and that cannot be set back without the change time going on. Two limits
//! remain: times move in steps (of some milliseconds on local disks, of a second on some servers), so a write right after the
//! file was mapped can escape where the file had been written in the same step; and what a process writes by way of a shared
//! mapping is dated when it first touches a page.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, StatxFlags, statx};

/// How a file differs from what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is longer or shorter.
    Size {
        /// Bytes that it had.
        from: u64,
        /// Bytes that it has.
        to: u64,
    },
    /// It was written to.
    Modified,
    /// Size and modification time are the same, the change time is not.
    Touched,
    /// The file is the same, but was removed, renamed or replaced by another of its name. A process that reads the open file reads what
    /// it always was.
    Replaced,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { from, to } => write!(f, "it had {from} bytes, and has {to} now"),
            Self::Modified => f.write_str("it was written to (its modification time differs)"),
            Self::Touched => f.write_str(
                "its change time (ctime) differs, its size and modification time do not: it was written to and its \
                 modification time set back, or only its mode, owner or attributes were changed; which of them cannot be \
                 known",
            ),
            Self::Replaced => f.write_str("it was removed or replaced"),
        }
    }
}

/// What a file was like when it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    links: u64,
    pub len: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// What an open file is like now. The access time is left out: reading changes it.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        // A client of a server may have kept what it knew: it is made to ask. One that cannot be made to returns what it knows.
        let _ = statx(file, "", AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC, StatxFlags::BASIC_STATS);
        let meta = file.metadata()?;
        Ok(Self {
            device: meta.dev(),
            inode: meta.ino(),
            links: meta.nlink(),
            len: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }

    /// Device and inode.
    pub(super) fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// What a file that was `self` when it was opened differs in now. `path`: the name by which it was opened.
    pub(super) fn change(&self, file: &File, path: &Path) -> io::Result<Option<Change>> {
        let now = Self::of(file)?;
        let named = std::fs::metadata(path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.identity());
        Ok(self.differs(&now, named))
    }

    /// `named`: whether the path still names the file.
    fn differs(&self, now: &Self, named: bool) -> Option<Change> {
        if now.len != self.len {
            return Some(Change::Size { from: self.len, to: now.len });
        }
        if now.modified != self.modified {
            return Some(Change::Modified);
        }
        if !named {
            return Some(Change::Replaced);
        }
        // Links are made and removed without anybody writing to the file; that moves the change time too.
        (now.changed != self.changed && now.links == self.links).then_some(Change::Touched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_differs_in_is_what_was_done_to_it() {
        let was = Stamp { device: 1, inode: 2, links: 1, len: 10, modified: (100, 5), changed: (100, 5) };
        let now = |change: fn(&mut Stamp)| {
            let mut stamp = was;
            change(&mut stamp);
            stamp
        };
        for (now, named, expected) in [
            (was, true, None),
            (now(|s| s.len = 4), true, Some(Change::Size { from: 10, to: 4 })),
            (now(|s| (s.modified, s.changed) = ((100, 6), (100, 6))), true, Some(Change::Modified)),
            // Also where the time went back.
            (now(|s| (s.modified, s.changed) = ((99, 0), (100, 6))), true, Some(Change::Modified)),
            (now(|s| s.changed = (100, 6)), true, Some(Change::Touched)),
            (now(|s| (s.changed, s.links) = ((100, 6), 2)), true, None),
            (now(|s| (s.changed, s.links) = ((100, 6), 0)), false, Some(Change::Replaced)),
            // Written to, then replaced.
            (now(|s| (s.modified, s.links) = ((100, 6), 0)), false, Some(Change::Modified)),
        ] {
            assert_eq!(was.differs(&now, named), expected, "{now:?} {named}");
        }
    }
}
