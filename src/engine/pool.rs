//! The threads of a run: one for each worker, and one that reads ahead of them. There are no others.

use std::thread::{Scope, ScopedJoinHandle};

use crossbeam::queue::SegQueue;

use super::EngineError;
use super::feed::Feed;
use super::reader::read_ahead;
use super::schedule::Task;
use super::sink::Sink;
use super::worker::work;
use crate::storage::LocalBlob;
use crate::sys::{ThreadError, spawn_scoped};

/// What came of a run.
pub(super) struct Outcome<T> {
    /// What each worker has found out.
    pub found: Vec<T>,
    /// Bytes that were read ahead.
    pub read_ahead: u64,
}

/// Makes everybody stop when its thread panics: they may be waiting for it.
struct Alarm<'a, 'b>(&'a Feed<'b>);

impl Drop for Alarm<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail();
        }
    }
}

/// Starts a thread. When it cannot be started, fails or panics, all others stop.
fn start<'scope, 'a: 'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    feed: &'scope Feed<'a>,
    name: &'static str,
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'scope,
) -> Started<'scope, T> {
    let watched = move || {
        let _alarm = Alarm(feed);
        work().inspect_err(|_| feed.fail())
    };
    spawn_scoped(scope, name, watched).inspect_err(|_| feed.fail())
}

/// A thread that was to be started.
type Started<'scope, T> = Result<ScopedJoinHandle<'scope, Result<T, EngineError>>, ThreadError>;

/// Waits for a thread. Returns what it returned; or that it could not be started, or panicked.
fn join<T>(thread: Started<'_, T>) -> Result<T, EngineError> {
    thread?.join().unwrap_or(Err(EngineError::WorkerPanicked))
}

/// Does the tasks, each by whichever worker is next. `name`: what the workers are for. `sink` makes the end of each, on its
/// thread.
pub(super) fn run<S: Sink<Found: Send>>(
    feed: &Feed<'_>,
    name: &'static str,
    tasks: &[Task],
    sink: impl Fn() -> Result<S, EngineError> + Sync,
) -> Result<Outcome<S::Found>, EngineError> {
    let queue = SegQueue::new();
    (0..tasks.len()).for_each(|number| queue.push(number));
    run_queues(feed, name, tasks, &[queue], sink)
}

/// As [`run`], where worker n takes tasks from queue n, or n modulo the number of queues.
pub(super) fn run_queues<S: Sink<Found: Send>>(
    feed: &Feed<'_>,
    name: &'static str,
    tasks: &[Task],
    queues: &[SegQueue<usize>],
    sink: impl Fn() -> Result<S, EngineError> + Sync,
) -> Result<Outcome<S::Found>, EngineError> {
    if tasks.is_empty() {
        return Ok(Outcome { found: Vec::new(), read_ahead: 0 });
    }
    let (read, outcomes) = std::thread::scope(|scope| {
        let windows = feed.windows.as_ref();
        let reader = windows.map(|windows| start(scope, feed, "reader", move || read_ahead(feed, tasks, windows)));
        let workers: Vec<_> = (0..feed.config.workers.max(1))
            .map(|worker| {
                let (queue, sink) = (&queues[worker % queues.len()], &sink);
                start(scope, feed, name, move || work(feed, tasks, queue, sink()?))
            })
            .collect();
        let read = reader.map_or(Ok(0), join);
        (read, workers.into_iter().map(join).collect::<Vec<_>>())
    });
    // A thread that saw that a mapping could not be read stopped, and does not know why.
    LocalBlob::check_all(feed.inputs.mappings)?;
    let (mut found, mut failures) = (Vec::with_capacity(outcomes.len()), Vec::new());
    let read_ahead = read.unwrap_or_else(|e| {
        failures.push(e);
        0
    });
    for outcome in outcomes {
        match outcome {
            Ok(one) => found.push(one),
            Err(e) => failures.push(e),
        }
    }
    // The others stop because one failed: its reason counts.
    failures.sort_by_key(|e| matches!(e, EngineError::Cancelled));
    failures.into_iter().next().map_or(Ok(Outcome { found, read_ahead }), Err)
}
