//! What can be seen of the place where a file lies: its file system, its disk, what direct I/O asks for there.
//!
//! Everything here is an observation. Where the system does not say, the result is `None`, never an error: what follows from
//! not knowing is decided elsewhere.

use std::fmt;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};

/// The kind of a file system, by the magic number that statfs(2) gives (`linux/magic.h`; those of Lustre, GPFS, `BeeGFS`,
/// `OrangeFS` and `PanFS` by what coreutils' `stat -f` knows them by).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileSystem {
    /// ext2, ext3, ext4: one number for all.
    Ext,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
    /// Files in memory: tmpfs, ramfs.
    Memory,
    /// Layers over other file systems, as in a container.
    Overlay,
    /// Files of another machine, with the name of the protocol.
    Network(&'static str),
    /// A file system in user space; virtiofs says the same number.
    Fuse,
    /// Any other, by its number.
    Other(u64),
}

/// The numbers and what they mean.
const MAGICS: [(u64, FileSystem); 21] = [
    (0xef53, FileSystem::Ext),
    (0x5846_5342, FileSystem::Xfs),
    (0x9123_683e, FileSystem::Btrfs),
    (0x0102_1994, FileSystem::Memory),
    (0x8584_58f6, FileSystem::Memory),
    (0x794c_7630, FileSystem::Overlay),
    (0x6573_5546, FileSystem::Fuse),
    (0x6969, FileSystem::Network("nfs")),
    (0xff53_4d42, FileSystem::Network("cifs")),
    (0xfe53_4d42, FileSystem::Network("smb")),
    (0x517b, FileSystem::Network("smb")),
    (0x0bd0_0bd0, FileSystem::Network("lustre")),
    (0x00c3_6400, FileSystem::Network("ceph")),
    (0x4750_4653, FileSystem::Network("gpfs")),
    (0x1983_0326, FileSystem::Network("beegfs")),
    (0x0102_1997, FileSystem::Network("9p")),
    (0x5346_414f, FileSystem::Network("afs")),
    (0x6b41_4653, FileSystem::Network("afs")),
    (0x7375_7245, FileSystem::Network("coda")),
    (0x2003_0528, FileSystem::Network("orangefs")),
    (0xaad7_aaea, FileSystem::Network("panfs")),
];

impl FileSystem {
    /// The kind that a magic number means.
    pub fn of_magic(magic: u64) -> Self {
        MAGICS.iter().find(|(known, _)| *known == magic).map_or(Self::Other(magic), |(_, kind)| *kind)
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ext => f.write_str("ext4"),
            Self::Xfs => f.write_str("xfs"),
            Self::Btrfs => f.write_str("btrfs"),
            Self::Memory => f.write_str("tmpfs"),
            Self::Overlay => f.write_str("overlay"),
            Self::Network(name) => f.write_str(name),
            Self::Fuse => f.write_str("fuse"),
            Self::Other(magic) => write!(f, "a file system of kind {magic:#x}"),
        }
    }
}

/// What direct I/O asks for on a file (`STATX_DIOALIGN`, Linux 6.1), in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DirectAlign {
    /// Alignment of addresses.
    pub memory: u32,
    /// Alignment of offsets and lengths.
    pub offset: u32,
}

/// What can be seen of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The kind of file system; `None` where it cannot be queried.
    pub file_system: Option<FileSystem>,
    /// The device number of the file system.
    pub device: Option<u64>,
    /// What direct I/O asks for; `None` where the file system does not say.
    pub align: Option<DirectAlign>,
    /// Whether the disk says that it rotates; `None` where there is no disk, or one that does not know.
    pub rotational: Option<bool>,
}

impl Place {
    /// Looks at a file that is there.
    pub fn of_file(path: &Path) -> Self {
        Self::look(path, || align(&rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::DIOALIGN).ok()?))
    }

    /// Looks at a directory in which files are to be made, or the nearest one above it that is there. What direct I/O asks for
    /// is reported for files only: a nameless one is made and gone again, where the file system and its permissions allow that.
    pub fn of_directory(path: &Path) -> Self {
        let there = path.ancestors().find(|p| !p.as_os_str().is_empty() && p.is_dir()).unwrap_or(Path::new("."));
        Self::look(there, || {
            let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::open(there, flags, Mode::RUSR | Mode::WUSR).ok()?);
            align(&rustix::fs::statx(file.as_fd(), c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?)
        })
    }

    fn look(path: &Path, align: impl FnOnce() -> Option<DirectAlign>) -> Self {
        // The magic number is 32 bits wide, whatever the type of the field.
        let magic = |s: rustix::fs::StatFs| u64::try_from(s.f_type & 0xffff_ffff).unwrap_or(0);
        let device = std::fs::metadata(path).ok().map(|meta| meta.dev());
        Self {
            file_system: rustix::fs::statfs(path).ok().map(|stat| FileSystem::of_magic(magic(stat))),
            device,
            align: align(),
            rotational: device.and_then(rotational),
        }
    }
}

fn align(answer: &rustix::fs::Statx) -> Option<DirectAlign> {
    let told = StatxFlags::from_bits_retain(answer.stx_mask).contains(StatxFlags::DIOALIGN);
    // Zeros say that there is no direct I/O, or (btrfs) that the file system does not report it.
    let known = told && answer.stx_dio_offset_align != 0;
    known.then_some(DirectAlign { memory: answer.stx_dio_mem_align, offset: answer.stx_dio_offset_align })
}

/// What a block device says of itself in sysfs. Disks of a virtual machine (virtio, Xen) say that they rotate unless configured
/// otherwise, so that their word counts for nothing.
fn rotational(device: u64) -> Option<bool> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let node = std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let path = node.to_string_lossy();
    if path.contains("/virtio") || path.contains("/vbd-") {
        return None;
    }
    // A partition has no queue of its own.
    let told = [node.join("queue/rotational"), node.parent()?.join("queue/rotational")];
    let text = told.iter().find_map(|path| std::fs::read_to_string(path).ok())?;
    match text.trim() {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_places_are_told_apart() {
        assert_eq!(FileSystem::of_magic(0xef53), FileSystem::Ext);
        assert_eq!(FileSystem::of_magic(0x0102_1997), FileSystem::Network("9p"));
        assert_eq!(FileSystem::of_magic(0x1234), FileSystem::Other(0x1234));
        assert_eq!(FileSystem::of_magic(0x1234).to_string(), "a file system of kind 0x1234");
        // /dev/shm or /proc: the kernel's own, wherever the test runs.
        assert_eq!(Place::of_file(Path::new("/proc/self/status")).file_system, Some(FileSystem::Other(0x9fa0)));
        let nowhere = Place::of_file(Path::new("/nowhere/at/all"));
        assert_eq!((nowhere.file_system, nowhere.device, nowhere.align), (None, None, None));
    }

    #[test]
    fn a_directory_that_is_not_there_yet_is_like_the_one_above_it() {
        let dir = tempfile::tempdir().unwrap();
        let (there, below) = (Place::of_directory(dir.path()), Place::of_directory(&dir.path().join("a/b/c")));
        assert_eq!(there, below);
        assert!(there.file_system.is_some() && there.device.is_some());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "looking leaves nothing behind");
    }
}
