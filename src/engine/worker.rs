//! One thread: takes tasks, has them put together, hands them to a sink.

use crossbeam::queue::SegQueue;

use super::EngineError;
use super::feed::{Chunk, Feed};
use super::schedule::{From, Task};
use super::sink::Sink;

/// Does the tasks whose numbers are in the queue until it is empty, the run is cancelled, or something fails.
pub(super) fn work<S: Sink>(
    feed: &Feed<'_>,
    tasks: &[Task],
    queue: &SegQueue<usize>,
    mut sink: S,
) -> Result<S::Found, EngineError> {
    // A task whose windows are not there yet, or for which there is no buffer.
    let mut pending = None;
    loop {
        if feed.is_over() {
            return Err(EngineError::Cancelled);
        }
        if !sink.is_full() && begin(feed, tasks, queue, &mut pending, &mut sink)? {
            continue;
        }
        if !sink.wait()? && pending.is_none() && sink.is_ready() && queue.is_empty() {
            return Ok(sink.finish());
        }
    }
}

/// Begins one thing. `false`: there is nothing to begin, or nothing to begin it with before something in flight is done.
fn begin<S: Sink>(
    feed: &Feed<'_>,
    tasks: &[Task],
    queue: &SegQueue<usize>,
    pending: &mut Option<usize>,
    sink: &mut S,
) -> Result<bool, EngineError> {
    if sink.go_on()? {
        return Ok(true);
    }
    if !sink.is_ready() {
        return Ok(false);
    }
    let Some(number) = pending.take().or_else(|| queue.pop()) else { return Ok(false) };
    let task = &tasks[number];
    if let From::Mapped { source, at } = task.from
        && sink.run(task, source, at)
    {
        return Ok(true);
    }
    let staged = if sink.has_room() { feed.staged(number, sink.is_idle())? } else { None };
    let Some(staged) = staged else {
        *pending = Some(number);
        return Ok(false);
    };
    sink.chunk(number, task, &Chunk::new(feed, task, &staged))?;
    Ok(true)
}
