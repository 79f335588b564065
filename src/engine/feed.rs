//! What chunks are put together from, and what all workers of a run look at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::fill::{Inputs, Target};
use super::schedule::{From, Task};
use super::view::View;
use super::ways::Filled;
use super::windows::{Staged, Windows};
use super::{CancelToken, EngineConfig, EngineError, Observer, Ways};
use crate::source::index;
use crate::storage::LocalBlob;

/// What all workers share.
pub(super) struct Feed<'a> {
    pub inputs: Inputs<'a>,
    /// What is put together: tasks are parts of these.
    pub targets: &'a [Target<'a>],
    pub config: &'a EngineConfig,
    pub observer: &'a dyn Observer,
    cancel: &'a CancelToken,
    /// Set by a worker that failed, so that the others stop too.
    failed: AtomicBool,
    /// What is read ahead of gathers, if anything is.
    pub windows: Option<Windows>,
    pub gathered: Gathered,
}

/// Bytes that were read from mappings, so that their pages are let go in time: they must not make up the whole model.
#[derive(Debug)]
pub(super) struct Gathered {
    read: AtomicU64,
    /// Pages are let go whenever so many bytes were read.
    most: u64,
    mappings: Vec<Arc<LocalBlob>>,
}

impl Gathered {
    /// Pages are let go as often as costs nothing (measured), or more often where there is less memory.
    const AT_MOST: u64 = 256 << 20;
    const AT_LEAST: u64 = 16 << 20;

    /// `memory`: what the pages may take.
    pub(super) fn new(memory: u64, mappings: &[Arc<LocalBlob>]) -> Self {
        let most = memory.clamp(Self::AT_LEAST, Self::AT_MOST);
        Self { read: AtomicU64::new(0), most, mappings: mappings.to_vec() }
    }

    /// Takes notice of bytes that were read from some of the mappings. Letting go of all of them each time costs less than to
    /// follow which rows of which page everybody is done with.
    pub(super) fn note(&self, bytes: u64) {
        let before = self.read.fetch_add(bytes, Ordering::Relaxed);
        if before / self.most == (before + bytes) / self.most {
            return;
        }
        for mapping in &self.mappings {
            // What is still needed is in the page cache.
            mapping.release(0, mapping.len() as u64);
        }
    }
}

impl<'a> Feed<'a> {
    pub(super) fn new(
        inputs: Inputs<'a>,
        targets: &'a [Target<'a>],
        tasks: &[Task],
        config: &'a EngineConfig,
        observer: &'a dyn Observer,
        cancel: &'a CancelToken,
    ) -> Self {
        let windows = windows(&inputs, targets, tasks, config);
        let (failed, gathered) = (AtomicBool::new(false), Gathered::new(config.memory, inputs.mappings));
        Self { inputs, targets, config, observer, cancel, failed, windows, gathered }
    }

    /// Lets go of pages of these mappings too, which a sink reads and says so.
    pub(super) fn also(mut self, others: &[Arc<LocalBlob>]) -> Self {
        self.gathered.mappings.extend_from_slice(others);
        self
    }

    /// Whether the run was cancelled or something failed, a read of a mapping included: the thread that waits reports which.
    pub(super) fn is_over(&self) -> bool {
        self.cancel.is_cancelled()
            || self.failed.load(Ordering::Relaxed)
            || self.inputs.mappings.iter().any(|mapping| mapping.has_failed())
    }

    /// Makes everybody stop.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
        if let Some(windows) = &self.windows {
            windows.wake();
        }
    }

    /// The windows of a task that is to be put together. `None`: they are not there yet, and the caller need not `wait`.
    pub(super) fn staged(&self, number: usize, wait: bool) -> Result<Option<Staged<'_>>, EngineError> {
        let Some(windows) = &self.windows else { return Ok(Some(Staged::none())) };
        match windows.poll(number) {
            None if wait => windows.wait(number, || self.is_over()).map(Some).ok_or(EngineError::Cancelled),
            staged => Ok(staged),
        }
    }
}

/// A task whose bytes are available.
pub(super) struct Chunk<'a> {
    feed: &'a Feed<'a>,
    task: &'a Task,
    view: View<'a>,
}

impl<'a> Chunk<'a> {
    pub(super) fn new(feed: &'a Feed<'a>, task: &'a Task, staged: &'a Staged<'a>) -> Self {
        Self { feed, task, view: View::new(staged.windows()) }
    }

    /// Puts it together in a buffer of its length.
    pub(super) fn fill(&self, buf: &mut [u8]) -> Filled {
        let feed = self.feed;
        let overflowed = feed.inputs.fill_target(&feed.targets[self.task.file], self.task.at, buf, &self.view);
        self.note();
        let converted = self.view.converted.get();
        let ways = Ways {
            gathered: self.task.len - converted.min(self.task.len),
            converted,
            from_read_ahead: self.view.from_windows.get(),
            ..Ways::default()
        };
        Filled { overflowed, ways }
    }

    /// Its bytes: where they lie in one piece already, or put together in a buffer that becomes as long as it is.
    pub(super) fn bytes<'b>(&'b self, buf: &'b mut Vec<u8>) -> &'b [u8] {
        let target = &self.feed.targets[self.task.file];
        if let Some(piece) = self.feed.inputs.piece(target, self.task.at, self.task.len, &self.view) {
            self.note();
            return piece;
        }
        buf.resize(index(self.task.len), 0);
        self.fill(buf);
        buf
    }

    fn note(&self) {
        self.feed.gathered.note(self.view.from_mappings.get());
    }
}

/// The windows to read ahead, where sources are to be read and something is put together at all.
fn windows(inputs: &Inputs<'_>, targets: &[Target<'_>], tasks: &[Task], config: &EngineConfig) -> Option<Windows> {
    // The thread that reads ahead costs something, though it finds nothing to read.
    if !config.read_ahead
        || inputs.mappings.iter().all(|m| m.is_at_hand())
        || !tasks.iter().any(|task| task.from == From::Built)
    {
        return None;
    }
    // How many files one tensor is put together from, at most.
    let sources = targets.iter().flat_map(|target| target.tensors).map(|tensor| {
        let mut files: Vec<usize> = tensor.routes.iter().map(|route| inputs.plan.stored(route).file.index()).collect();
        files.sort_unstable();
        files.dedup();
        files.len()
    });
    let bytes = config.window(sources.max().unwrap_or(0));
    let capacity = usize::try_from(config.window_budget() / bytes).unwrap_or(0);
    Some(Windows::new(capacity, bytes))
}
