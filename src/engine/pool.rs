//! The threads of a run: one for each worker, and one that reads ahead of them. There are no others.

use crossbeam::queue::SegQueue;

use super::EngineError;
use super::feed::Feed;
use super::reader::read_ahead;
use super::schedule::Task;
use super::sink::Sink;
use super::worker::work;

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

/// What a thread does; when it fails, all others stop.
fn watched<T>(feed: &Feed<'_>, work: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    let _alarm = Alarm(feed);
    work().inspect_err(|_| feed.fail())
}

/// Does the tasks, each by whichever worker is next. `sink` makes the end of each worker, on its thread.
pub(super) fn run<S: Sink<Found: Send>>(
    feed: &Feed<'_>,
    tasks: &[Task],
    sink: impl Fn() -> Result<S, EngineError> + Sync,
) -> Result<Outcome<S::Found>, EngineError> {
    let queue = SegQueue::new();
    (0..tasks.len()).for_each(|number| queue.push(number));
    run_queues(feed, tasks, &[queue], sink)
}

/// As [`run`], where worker n takes tasks from queue n, or n modulo the number of queues.
pub(super) fn run_queues<S: Sink<Found: Send>>(
    feed: &Feed<'_>,
    tasks: &[Task],
    queues: &[SegQueue<usize>],
    sink: impl Fn() -> Result<S, EngineError> + Sync,
) -> Result<Outcome<S::Found>, EngineError> {
    if tasks.is_empty() {
        return Ok(Outcome { found: Vec::new(), read_ahead: 0 });
    }
    let (read, outcomes) = std::thread::scope(|scope| {
        let reader = feed
            .windows
            .as_ref()
            .map(|windows| scope.spawn(move || watched(feed, || read_ahead(feed, tasks, windows))));
        let workers: Vec<_> = (0..feed.config.workers.max(1))
            .map(|worker| {
                let (queue, sink) = (&queues[worker % queues.len()], &sink);
                scope.spawn(move || watched(feed, || work(feed, tasks, queue, sink()?)))
            })
            .collect();
        let read = reader.map_or(Ok(0), |t| t.join().unwrap_or(Err(EngineError::WorkerPanicked)));
        let join = |t: std::thread::ScopedJoinHandle<'_, _>| t.join().unwrap_or(Err(EngineError::WorkerPanicked));
        (read, workers.into_iter().map(join).collect::<Vec<Result<S::Found, EngineError>>>())
    });
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
