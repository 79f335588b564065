//! Receivers of a job's progress. The library itself prints nothing.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Error;
use crate::engine::{self, Event};
use crate::sys::anonymous_memory;

/// A receiver of a job's progress. Every method may be called from any thread, [`Self::event`] by the workers, so it must be quick.
pub trait Observer: Sync {
    /// Something that a user should know and that is no error.
    fn note(&self, text: &str) {
        let _ = text;
    }

    /// Something begins that may take a while, such as "converting". `bytes`: how many it moves, where it consists of several runs.
    /// It ends before the next begins.
    fn begins(&self, what: &'static str, bytes: Option<u64>) {
        let _ = (what, bytes);
    }

    /// What has begun goes on.
    fn event(&self, event: Event) {
        let _ = event;
    }

    /// What has begun is over; `complete`: nothing stopped it.
    fn ends(&self, complete: bool) {
        let _ = complete;
    }

    /// Asked once, before anything is written: until then the process may be ended in any way.
    ///
    /// # Errors
    /// Whatever should stop the job.
    fn before_writing(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// Takes no notice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}

/// Passes on what is said, every note once, and keeps the notes.
pub(super) struct Once<'a> {
    observer: &'a dyn Observer,
    said: Mutex<Vec<String>>,
}

impl<'a> Once<'a> {
    /// `said`: what was said before.
    pub(super) fn new(observer: &'a dyn Observer, said: Vec<String>) -> Self {
        Self { observer, said: Mutex::new(said) }
    }

    pub(super) fn into_said(self) -> Vec<String> {
        self.said.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Once<'_> {
    fn note(&self, text: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if !said.iter().any(|known| known == text) {
            said.push(text.to_owned());
            self.observer.note(text);
        }
    }

    fn begins(&self, what: &'static str, bytes: Option<u64>) {
        self.observer.begins(what, bytes);
    }

    fn event(&self, event: Event) {
        self.observer.event(event);
    }

    fn ends(&self, complete: bool) {
        self.observer.ends(complete);
    }

    fn before_writing(&self) -> Result<(), Error> {
        self.observer.before_writing()
    }
}

/// Something that has begun: the engine's way to the observer.
pub(super) struct Step<'a> {
    observer: &'a dyn Observer,
    complete: bool,
}

impl<'a> Step<'a> {
    pub(super) fn begin(observer: &'a dyn Observer, what: &'static str) -> Self {
        observer.begins(what, None);
        Self { observer, complete: false }
    }

    /// Several runs, which move so many bytes together.
    pub(super) fn begin_whole(observer: &'a dyn Observer, what: &'static str, bytes: u64) -> Self {
        observer.begins(what, Some(bytes));
        Self { observer, complete: false }
    }

    pub(super) fn finish(mut self) {
        self.complete = true;
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.observer.ends(self.complete);
    }
}

impl engine::Observer for Step<'_> {
    fn event(&self, event: Event) {
        self.observer.event(event);
    }
}

/// How often memory is measured.
const TICK: Duration = Duration::from_millis(50);

/// The most anonymous memory that is seen from the start on.
#[derive(Debug)]
pub(super) struct PeakMemory {
    seen: Arc<(AtomicU64, AtomicBool)>,
    watch: Option<JoinHandle<()>>,
}

impl PeakMemory {
    pub(super) fn watch() -> Self {
        let seen: Arc<(AtomicU64, AtomicBool)> = Arc::default();
        let shared = Arc::clone(&seen);
        let look = move || {
            let (peak, over) = &*shared;
            loop {
                let last = over.load(Ordering::Relaxed);
                peak.fetch_max(anonymous_memory().unwrap_or(0), Ordering::Relaxed);
                if last {
                    break;
                }
                std::thread::park_timeout(TICK);
            }
        };
        Self { seen, watch: std::thread::Builder::new().name("memory".to_owned()).spawn(look).ok() }
    }

    pub(super) fn finish(mut self) -> u64 {
        self.stop();
        self.seen.0.load(Ordering::Relaxed)
    }

    fn stop(&mut self) {
        self.seen.1.store(true, Ordering::Relaxed);
        if let Some(watch) = self.watch.take() {
            watch.thread().unpark();
            // It only looks; a panic there is no reason to fail.
            let _ = watch.join();
        }
    }
}

impl Drop for PeakMemory {
    fn drop(&mut self) {
        self.stop();
    }
}
