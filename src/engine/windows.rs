//! Pieces of source files that are held in memory for the tasks that need them, and which task waits for which.
//!
//! One thread, the reader, goes ahead of the workers: it *registers* tasks in their order, each with the windows that it
//! needs, and reads those that are not held. A worker waits for its own task only, fills, and lets go. There is no deadlock:
//! all registered tasks come before the one that the reader has no space for, so every one of them is or will be some
//! worker's own task, and no worker waits for the reader with another one's windows in its hands.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::EngineError;
use super::buffers::BufferPool;
use crate::source::{ByteRange, index};
use crate::sys::AlignedBuf;

/// Poll interval for cancellation: a signal handler cannot wake a condition variable.
const NAP: Duration = Duration::from_millis(20);

/// A window's source, and its number in that source.
pub(super) type WindowId = (usize, u64);

/// Bytes of a source.
#[derive(Debug)]
pub(super) struct Window {
    /// Index of the source.
    pub source: usize,
    /// Where in it.
    pub at: u64,
    /// How many bytes of the buffer hold data.
    pub len: usize,
    pub buf: AlignedBuf,
}

impl Window {
    pub(super) fn end(&self) -> u64 {
        self.at + self.len as u64
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buf[..self.len]
    }
}

/// The windows of a run.
#[derive(Debug)]
pub(super) struct Windows {
    state: Mutex<State>,
    changed: Condvar,
    capacity: usize,
    bytes: u64,
}

#[derive(Debug)]
struct State {
    held: HashMap<WindowId, Held>,
    /// The buffers that no window has.
    pool: BufferPool,
    /// Tasks below this number are registered, or need no window.
    reached: usize,
    /// The windows of tasks that no worker has taken yet.
    registered: HashMap<usize, Vec<WindowId>>,
    clock: u64,
}

#[derive(Debug)]
struct Held {
    content: Content,
    /// What was requested.
    range: ByteRange,
    /// Registered tasks that are not yet filled.
    uses: usize,
    /// When it was last let go.
    last: u64,
}

#[derive(Debug)]
enum Content {
    Loading,
    Ready(Arc<Window>),
    /// Could not be read; the mapping has it.
    Refused,
}

/// The windows of one task, let go on drop.
#[derive(Debug)]
pub(super) struct Staged<'a> {
    windows: Option<&'a Windows>,
    ids: Vec<WindowId>,
    ready: Vec<Arc<Window>>,
}

impl Windows {
    /// Space for `capacity` windows of `bytes`, made when they are needed.
    pub(super) fn new(capacity: usize, bytes: u64) -> Self {
        let state = State {
            held: HashMap::new(),
            pool: BufferPool::new(capacity, index(bytes)),
            reached: 0,
            registered: HashMap::new(),
            clock: 0,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), capacity, bytes }
    }

    /// How many can be held at once.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The most bytes of one, a power of two. Windows begin at multiples of it.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// No thread panics while holding the lock save by a broken promise of its own, after which the run fails anyway.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes every thread that waits, to see that the run is over.
    pub(super) fn wake(&self) {
        drop(self.lock());
        self.changed.notify_all();
    }

    /// The windows of a task, or `None` when the reader is not that far. Each task may ask until it gets them, once.
    pub(super) fn poll(&self, task: usize) -> Option<Staged<'_>> {
        self.take(&mut self.lock(), task)
    }

    /// The windows of a task, as soon as they are there; `None` when the run is to stop.
    pub(super) fn wait(&self, task: usize, stop: impl Fn() -> bool) -> Option<Staged<'_>> {
        let mut state = self.lock();
        loop {
            if stop() {
                return None;
            }
            if let Some(staged) = self.take(&mut state, task) {
                return Some(staged);
            }
            state = self.nap(state);
        }
    }

    fn nap<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, NAP).unwrap_or_else(PoisonError::into_inner).0
    }

    fn take(&self, state: &mut State, task: usize) -> Option<Staged<'_>> {
        if task >= state.reached {
            return None;
        }
        let ids = state.registered.get(&task).map(Vec::as_slice).unwrap_or_default();
        let mut ready = Vec::with_capacity(ids.len());
        for id in ids {
            match state.held.get(id).map(|held| &held.content) {
                Some(Content::Loading) => return None,
                Some(Content::Ready(window)) => ready.push(Arc::clone(window)),
                Some(Content::Refused) | None => {}
            }
        }
        let ids = state.registered.remove(&task).unwrap_or_default();
        Some(Staged { windows: Some(self), ids, ready })
    }

    fn let_go(&self, ids: &[WindowId]) {
        let mut state = self.lock();
        state.clock += 1;
        let now = state.clock;
        for id in ids {
            let Some(held) = state.held.get_mut(id) else { continue };
            held.uses = held.uses.saturating_sub(1);
            held.last = now;
            if held.uses == 0 && matches!(held.content, Content::Refused) {
                state.held.remove(id);
            }
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// The reader's side.
impl Windows {
    /// Whether a window is held, read or not yet.
    pub(super) fn holds(&self, id: WindowId) -> bool {
        self.lock().held.contains_key(&id)
    }

    /// Counts one more use of a window. `false` when it is not held, or holds another part than the one that is needed
    /// while no task uses it: then it is to be read.
    pub(super) fn claim(&self, id: WindowId, needed: ByteRange) -> bool {
        let mut state = self.lock();
        let Some(held) = state.held.get_mut(&id) else { return false };
        if held.uses > 0 || (held.range.start() <= needed.start() && needed.end() <= held.range.end()) {
            held.uses += 1;
            return true;
        }
        state.discard(id);
        false
    }

    /// A buffer for a window that is not held, which from now on has one use and is being read. `None`: no space, as long as
    /// workers do not let go of something. Windows that are not needed `soon` are given up first, then the oldest.
    pub(super) fn begin(
        &self,
        id: WindowId,
        range: ByteRange,
        soon: impl Fn(WindowId) -> bool,
    ) -> Result<Option<AlignedBuf>, EngineError> {
        let mut state = self.lock();
        let mut buf = state.pool.take()?;
        if buf.is_none() {
            let unused = state.held.iter().filter(|(_, held)| held.uses == 0);
            let victim = unused.min_by_key(|(id, held)| (soon(**id), held.last)).map(|(id, _)| *id);
            if let Some(victim) = victim {
                state.discard(victim);
                buf = state.pool.take()?;
            }
        }
        if buf.is_some() {
            state.held.insert(id, Held { content: Content::Loading, range, uses: 1, last: 0 });
        }
        Ok(buf)
    }

    /// A window was read, or (`Err`) could not be: here is its buffer.
    pub(super) fn finish(&self, id: WindowId, outcome: Result<Window, AlignedBuf>) {
        let mut state = self.lock();
        let content = match outcome {
            Ok(window) => Content::Ready(Arc::new(window)),
            Err(buf) => {
                state.pool.give_back(buf);
                Content::Refused
            }
        };
        if let Some(held) = state.held.get_mut(&id) {
            held.content = content;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Tasks up to this one are registered; this one with these windows, sorted, each of which was counted for it.
    pub(super) fn register(&self, task: usize, ids: Vec<WindowId>) {
        let mut state = self.lock();
        if !ids.is_empty() {
            state.registered.insert(task, ids);
        }
        state.reached = task.saturating_add(1);
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until workers may have let go of something.
    pub(super) fn wait_for_room(&self, stop: impl Fn() -> bool) {
        let mut state = self.lock();
        while !stop() && !state.held.values().any(|held| held.uses == 0) && !state.pool.has_room() {
            state = self.nap(state);
        }
    }
}

impl State {
    /// Gives up a window that no task uses.
    fn discard(&mut self, id: WindowId) {
        if let Some(Held { content: Content::Ready(window), .. }) = self.held.remove(&id)
            // Workers drop theirs before they let go.
            && let Some(window) = Arc::into_inner(window)
        {
            self.pool.give_back(window.buf);
        }
    }
}

impl Staged<'_> {
    /// No window: everything is in the mappings.
    pub(super) fn none() -> Self {
        Self { windows: None, ids: Vec::new(), ready: Vec::new() }
    }

    /// Those that could be read, by source and place.
    pub(super) fn windows(&self) -> &[Arc<Window>] {
        &self.ready
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        self.ready.clear();
        if let Some(windows) = self.windows
            && !self.ids.is_empty()
        {
            windows.let_go(&self.ids);
        }
    }
}

#[cfg(test)]
mod tests;
