//! A tree of files that were never written, shown read-only by the kernel (FUSE).
//!
//! `/dev/fuse` is spoken to without libfuse. Mounting is left to mount(2), and where that is not allowed to `fusermount3` or
//! `fusermount`, which most distributions install for users.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, ReplyOpen,
    ReplyStatfs, Request, Session, SessionACL,
};
use rustix::mount::UnmountFlags;

/// Where the kernel is spoken to.
const DEVICE: &str = "/dev/fuse";
/// Nothing in the tree ever changes.
const FOR_LONG: Duration = Duration::from_secs(24 * 60 * 60);
/// Requests that the kernel has under way for reading ahead.
const AHEAD: u16 = 64;
/// How far the kernel reads ahead of a sequential reader, where that can be set.
const WINDOW_KIB: u32 = 1024;
const BLOCK: u32 = 4096;

/// The largest read that the kernel asks for, unless it is configured otherwise (`fs.fuse.max_pages_limit`).
pub const LARGEST_READ: u64 = 1 << 20;

/// A file of a tree: its path from the root, with `/`, and its length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeFile {
    /// The path.
    pub path: String,
    /// The length in bytes.
    pub len: u64,
}

/// The source of the files' bytes.
pub trait Contents: Send + Sync + 'static {
    /// Reads bytes `at ..` of a file, all of which are in it. `None`: they cannot be read, and the reader is given EIO.
    fn read(&self, file: usize, at: u64, buf: &mut [u8]) -> Option<()>;
}

/// A tree that is mounted, and served by threads of this process until it is unmounted.
#[derive(Debug)]
pub struct MountedTree {
    at: PathBuf,
    session: BackgroundSession,
    /// Makes the kernel read farther ahead.
    _window: Option<JoinHandle<()>>,
}

impl MountedTree {
    /// Mounts a tree. `others`: whether other users may read it.
    ///
    /// # Errors
    /// What the system or `fusermount` says.
    pub fn new(
        files: &[TreeFile],
        contents: impl Contents,
        at: &Path,
        threads: usize,
        others: bool,
    ) -> io::Result<Self> {
        if let Err(e) = rustix::fs::stat(DEVICE) {
            return Err(io::Error::new(io::Error::from(e).kind(), format!("there is no {DEVICE}")));
        }
        let at = at.canonicalize()?;
        let name = env!("CARGO_PKG_NAME").to_owned();
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::RO,
            MountOption::NoAtime,
            MountOption::DefaultPermissions,
            MountOption::FSName(name.clone()),
            MountOption::Subtype(name),
        ];
        config.acl = if others { SessionACL::All } else { SessionACL::Owner };
        config.n_threads = Some(threads.max(1));
        config.clone_fd = true;
        let session =
            Session::new(Served { tree: Tree::new(files), contents }, &at, &config).map_err(in_words)?.spawn()?;
        // It asks for the root, and the threads that have been started reply.
        let root = at.clone();
        let window = std::thread::Builder::new().name("mounted".to_owned()).spawn(move || read_ahead(&root)).ok();
        Ok(Self { at, session, _window: window })
    }

    /// Whether it was unmounted, and the last process that had a file of it open has closed it.
    pub fn is_over(&self) -> bool {
        self.session.guard.is_finished()
    }

    /// Takes it out of sight. A process that has a file of it open is served until it closes it.
    pub fn unmount(&self) {
        if rustix::mount::unmount(&self.at, UnmountFlags::DETACH).is_ok() {
            return;
        }
        // What a user mounted by the help of `fusermount`, he unmounts by its help.
        for program in ["fusermount3", "fusermount"] {
            let done = Command::new(program).args(["-u", "-z", "-q", "--"]).arg(&self.at).status();
            if done.is_ok_and(|status| status.success()) {
                return;
            }
        }
    }

    /// Waits until it is over.
    ///
    /// # Errors
    /// What has ended it, if it was not unmounted.
    pub fn join(self) -> io::Result<()> {
        self.session.join()
    }
}

/// Where mount(2) is not allowed, a program is started that may not be there.
fn in_words(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::NotFound {
        return error;
    }
    let why = "only root may mount, and neither fusermount3 nor fusermount is installed";
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

/// The kernel reads 128 KiB ahead of a reader, as a rule. Only root may let it read farther; nothing depends on it.
fn read_ahead(root: &Path) {
    let Ok(meta) = root.metadata() else { return };
    let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    let _ = std::fs::write(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"), WINDOW_KIB.to_string());
}

/// Whether a path is a mount point whose process has ended without unmounting it.
pub fn is_left_mounted(path: &Path) -> bool {
    // What is known of the directory itself, the kernel still says.
    std::fs::read_dir(path).is_err_and(|e| e.raw_os_error() == Some(rustix::io::Errno::NOTCONN.raw_os_error()))
}

/// A node is known by its number, from 1 for the root.
#[derive(Debug)]
struct Tree {
    nodes: Vec<Node>,
    bytes: u64,
    since: SystemTime,
    owner: (u32, u32),
}

#[derive(Debug)]
struct Node {
    parent: usize,
    what: What,
}

#[derive(Debug)]
enum What {
    /// Its entries, by name.
    Directory(std::collections::BTreeMap<OsString, usize>),
    File {
        index: usize,
        len: u64,
    },
}

impl Tree {
    fn new(files: &[TreeFile]) -> Self {
        let directory = |parent| Node { parent, what: What::Directory(std::collections::BTreeMap::new()) };
        let owner = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let bytes = files.iter().map(|file| file.len).sum();
        let mut tree = Self { nodes: vec![directory(0)], bytes, since: SystemTime::now(), owner };
        for (index, file) in files.iter().enumerate() {
            let mut names = file.path.split('/').filter(|name| !name.is_empty()).peekable();
            let mut at = 0;
            while let Some(name) = names.next() {
                let next = tree.nodes.len();
                let What::Directory(entries) = &mut tree.nodes[at].what else { break };
                let known = *entries.entry(name.into()).or_insert(next);
                if known == next {
                    tree.nodes.push(if names.peek().is_some() {
                        directory(at)
                    } else {
                        Node { parent: at, what: What::File { index, len: file.len } }
                    });
                }
                at = known;
            }
        }
        tree
    }

    fn node(&self, ino: INodeNo) -> Option<(usize, &Node)> {
        let at = usize::try_from(u64::from(ino)).ok()?.checked_sub(1)?;
        Some((at, self.nodes.get(at)?))
    }

    fn number(at: usize) -> INodeNo {
        INodeNo(at as u64 + 1)
    }

    fn kind(&self, at: usize) -> FileType {
        match self.nodes[at].what {
            What::Directory(_) => FileType::Directory,
            What::File { .. } => FileType::RegularFile,
        }
    }

    fn attributes(&self, at: usize) -> FileAttr {
        let is_directory = |at: &usize| self.kind(*at) == FileType::Directory;
        let (size, perm, nlink) = match &self.nodes[at].what {
            What::Directory(entries) => {
                (0, 0o555, 2 + u32::try_from(entries.values().filter(|at| is_directory(at)).count()).unwrap_or(0))
            }
            What::File { len, .. } => (*len, 0o444, 1),
        };
        FileAttr {
            ino: Self::number(at),
            size,
            blocks: size.div_ceil(512),
            atime: self.since,
            mtime: self.since,
            ctime: self.since,
            crtime: self.since,
            kind: self.kind(at),
            perm,
            nlink,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: BLOCK,
            flags: 0,
        }
    }
}

/// What the kernel asks.
struct Served<C> {
    tree: Tree,
    contents: C,
}

thread_local! {
    /// What a thread reads to, as large as the largest read requested of it.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl<C: Contents> Filesystem for Served<C> {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // What the kernel does not have it does without.
        let _ = config.set_max_background(AHEAD);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.tree.node(parent) {
            Some((_, Node { what: What::Directory(entries), .. })) => match entries.get(name) {
                Some(&at) => reply.entry(&FOR_LONG, &self.tree.attributes(at), Generation(0)),
                None => reply.error(Errno::ENOENT),
            },
            Some(_) => reply.error(Errno::ENOTDIR),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.tree.node(ino) {
            Some((at, _)) => reply.attr(&FOR_LONG, &self.tree.attributes(at)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // The bytes are always the same: what the page cache has of them stays.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some((_, Node { what: What::File { index, len }, .. })) = self.tree.node(ino) else {
            return reply.error(Errno::EISDIR);
        };
        let wanted = len.saturating_sub(offset).min(u64::from(size));
        let Ok(wanted) = usize::try_from(wanted) else { return reply.error(Errno::EINVAL) };
        BUFFER.with_borrow_mut(|buffer| {
            if buffer.len() < wanted {
                buffer.resize(wanted, 0);
            }
            let buffer = &mut buffer[..wanted];
            if wanted == 0 || self.contents.read(*index, offset, buffer).is_some() {
                reply.data(buffer);
            } else {
                reply.error(Errno::EIO);
            }
        });
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let Some((at, Node { parent, what: What::Directory(entries) })) = self.tree.node(ino) else {
            return reply.error(Errno::ENOTDIR);
        };
        let own = [(OsStr::new("."), at), (OsStr::new(".."), *parent)];
        let all = own.into_iter().chain(entries.iter().map(|(name, at)| (name.as_os_str(), *at)));
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        for (place, (name, at)) in (1..).zip(all).skip(skipped) {
            if reply.add(Tree::number(at), place, self.tree.kind(at), name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (blocks, files) = (self.tree.bytes.div_ceil(u64::from(BLOCK)), self.tree.nodes.len() as u64);
        reply.statfs(blocks, 0, 0, files, 0, BLOCK, 255, BLOCK);
    }
}
