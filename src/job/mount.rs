//! A target that is shown and not written: its directory, read-only, whose files are put together as they are read.
//!
//! ```text
//! Job ─ planned, checked, scales computed ─► OutputReader ─ shown below the mount point ─► read ─► sources looked at, bytes
//! ```
//!
//! Nothing is ever served that is not what the conversion would have written: the sources are looked at after each read, and once
//! one of them is not what it was, every read that needs it fails.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::observer::Observer;
use super::planned::Planned;
use super::spec::Job;
use super::unwritten::Unwritten;
use crate::Error;
use crate::engine::{CancelToken, OutputReader, RunSummary};
use crate::input::{MANIFEST, check_unchanged};
use crate::report::{PartOf, manifest};
use crate::sys::{self, Contents, FileSystem, LARGEST_READ, MountedTree, Place, TreeFile};

/// How often it is looked whether it is over.
const TICK: Duration = Duration::from_millis(50);
/// A server is not asked for each read whether a source is still what it was.
const SERVER: Duration = Duration::from_secs(1);

/// A target that is to be shown.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Mount {
    /// The conversion. Where its target would go, and how it would be written, makes no difference.
    pub job: Job,
    /// The mount point: an empty directory.
    pub at: PathBuf,
    /// Whether other users may read it.
    pub others: bool,
}

/// A target that is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Mounted {
    /// The mount point.
    pub target: PathBuf,
    /// Its files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Mount {
    /// Shows the target of a job at an empty directory, to nobody else.
    pub fn new(job: Job, at: impl Into<PathBuf>) -> Self {
        Self { job, at: at.into(), others: false }
    }

    /// Plans and mounts, calls `ready`, and serves until the target is unmounted or `cancel` asks for it. Whoever has a file open
    /// then is served until it is closed.
    ///
    /// # Errors
    /// As [`Job::plan`]; a source that is not what it should be; a mount point that is none,
    /// or a machine that does not mount.
    pub fn run(
        &self,
        observer: &dyn Observer,
        cancel: &CancelToken,
        ready: &mut dyn FnMut(&Mounted) -> Result<(), Error>,
    ) -> Result<(), Error> {
        check_point(&self.at)?;
        let job = self.job();
        let Unwritten { planned, mappings, config, summary } =
            Unwritten::of(&job, LARGEST_READ, |_| Ok(()), (observer, cancel))?;
        let (files, contents) = shown(&planned, &summary)?;
        let (say, said) = channel();
        let shown = Shown {
            sources: mappings.iter().map(|mapping| Watched::new(mapping.path())).collect(),
            outputs: OutputReader::new(planned.conversion.plan, mappings),
            contents,
            paths: files.iter().map(|file| file.path.clone()).collect(),
            said: Mutex::new(HashSet::new()),
            say: Mutex::new(say),
            begun: Instant::now(),
        };
        observer.before_writing()?;
        let at = |source| Error::CannotMount { at: self.at.clone(), source };
        let tree = MountedTree::new(&files, shown, &self.at, config.workers, self.others).map_err(at)?;
        let bytes = files.iter().map(|file| file.len).sum();
        if let Err(e) = ready(&Mounted { target: self.at.clone(), files: files.len(), bytes }) {
            tree.unmount();
            return Err(e);
        }
        wait(&tree, &said, observer, cancel);
        tree.join().map_err(at)
    }

    /// The job, for the mount point.
    fn job(&self) -> Job {
        let mut job = self.job.clone();
        job.target.dir.clone_from(&self.at);
        job.target.strategies = self.at.join(STRATEGY);
        job
    }
}

/// Where the strategy files are, below the mount point.
const STRATEGY: &str = "strategy";

/// What would be hidden, and what is left of another process.
fn check_point(at: &Path) -> Result<(), Error> {
    if sys::is_left_mounted(at) {
        return Err(Error::LeftMounted(at.to_owned()));
    }
    let is_empty = std::fs::read_dir(at).is_ok_and(|mut entries| entries.next().is_none());
    if is_empty { Ok(()) } else { Err(Error::NoMountPoint(at.to_owned())) }
}

/// Waits until the tree is unmounted, and says meanwhile what cannot be read.
fn wait(tree: &MountedTree, said: &Receiver<String>, observer: &dyn Observer, cancel: &CancelToken) {
    let mut asked = false;
    while !tree.is_over() {
        match said.recv_timeout(TICK) {
            Ok(text) => observer.note(&text),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(TICK),
        }
        if cancel.is_cancelled() && !asked {
            asked = true;
            tree.unmount();
        }
    }
    for text in said.try_iter() {
        observer.note(&text);
    }
}

/// The bytes of a file that is shown.
enum Content {
    /// Those of an output of the plan.
    Output(usize),
    /// These.
    Bytes(Arc<[u8]>),
}

/// The files below the mount point.
fn shown(planned: &Planned, summary: &RunSummary) -> Result<(Vec<TreeFile>, Vec<Content>), Error> {
    let plan = &planned.conversion.plan;
    let (mut files, mut contents) = (Vec::new(), Vec::new());
    let mut add = |path: String, len: u64, content: Content| {
        files.push(TreeFile { path, len });
        contents.push(content);
    };
    for (index, file) in plan.outputs.iter().enumerate() {
        add(file.path.clone(), file.layout.len(), Content::Output(index));
    }
    if let Some(strategies) = &planned.conversion.strategies {
        let (names, bytes) = strategies.files();
        let bytes: Arc<[u8]> = bytes.into();
        names
            .for_each(|name| add(format!("{STRATEGY}/{name}"), bytes.len() as u64, Content::Bytes(Arc::clone(&bytes))));
    }
    // The sums of tensors are not known. Whoever reads it takes it for that of a part, of which nobody expects them.
    let provenance = planned.provenance(&planned.id(), Some(PartOf::new("mounted".to_owned(), plan)));
    let mut bytes = Vec::new();
    manifest(plan, summary, &provenance, &mut bytes).map_err(|source| Error::Output { published: None, source })?;
    add(MANIFEST.to_owned(), bytes.len() as u64, Content::Bytes(bytes.into()));
    Ok((files, contents))
}

/// A source that may change.
struct Watched {
    /// How long what was seen of it counts.
    counts: Duration,
    /// When it was looked at last, in milliseconds since the target is shown, and one more.
    looked: AtomicU64,
    /// Why it is no longer what it was.
    changed: OnceLock<String>,
}

impl Watched {
    fn new(path: &Path) -> Self {
        let remote = matches!(Place::of_file(path).file_system, Some(FileSystem::Network(_) | FileSystem::Fuse));
        let counts = if remote { SERVER } else { Duration::ZERO };
        Self { counts, looked: AtomicU64::new(0), changed: OnceLock::new() }
    }
}

/// What is shown, and what it is made of.
struct Shown {
    outputs: OutputReader,
    contents: Vec<Content>,
    paths: Vec<String>,
    sources: Vec<Watched>,
    /// Which file could not be read for which source: each is said once.
    said: Mutex<HashSet<(usize, usize)>>,
    say: Mutex<Sender<String>>,
    begun: Instant,
}

impl Shown {
    /// Whether a source still is what it was.
    fn look(&self, source: usize) -> Result<(), &str> {
        let watched = &self.sources[source];
        if let Some(why) = watched.changed.get() {
            return Err(why);
        }
        // What the system could not read was read as zeros.
        if let Err(e) = self.outputs.mappings()[source].check() {
            return Err(watched.changed.get_or_init(|| e.to_string()));
        }
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        let looked = watched.looked.load(Ordering::Relaxed);
        if looked > 0 && u128::from(now - looked.min(now)) < watched.counts.as_millis() {
            return Ok(());
        }
        match check_unchanged(&self.outputs.mappings()[source..=source]) {
            Ok(_) => {
                watched.looked.store(now, Ordering::Relaxed);
                Ok(())
            }
            Err(e) => Err(watched.changed.get_or_init(|| e.to_string())),
        }
    }

    /// Says once why a file cannot be read.
    fn fail(&self, file: usize, at: u64, source: usize, why: &str) {
        if self.said.lock().unwrap_or_else(PoisonError::into_inner).insert((file, source)) {
            let text = format!("{} at byte {at}: input/output error: {why}", self.paths[file]);
            // Nobody listens any more only when it is over.
            let _ = self.say.lock().unwrap_or_else(PoisonError::into_inner).send(text);
        }
    }
}

impl Contents for Shown {
    fn read(&self, file: usize, at: u64, buf: &mut [u8]) -> Option<()> {
        let output = match &self.contents[file] {
            Content::Output(output) => *output,
            Content::Bytes(bytes) => {
                let from = usize::try_from(at).ok()?;
                buf.copy_from_slice(bytes.get(from..from.checked_add(buf.len())?)?);
                return Some(());
            }
        };
        let reads = self.outputs.reads(output, at, buf.len() as u64);
        let look = || {
            let changed = reads.iter().find_map(|(source, _)| Some((*source, self.look(*source).err()?)));
            changed.map_or(Some(()), |(source, why)| {
                self.fail(file, at, source, why);
                None
            })
        };
        // What has become shorter must not be touched; what has changed meanwhile must not be served.
        look()?;
        self.outputs.will_read(&reads);
        self.outputs.read(output, at, buf);
        look()
    }
}
