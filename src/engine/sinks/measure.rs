//! Chunks that a function looks at.

use crate::engine::feed::{Chunk, Feed};
use crate::engine::schedule::Task;
use crate::engine::sink::Sink;
use crate::engine::{EngineError, Event, pool};

/// One worker's buffer, and what the function has returned, by the numbers of the tasks.
struct MeasureSink<'a, F, T> {
    feed: &'a Feed<'a>,
    look: &'a F,
    buf: Vec<u8>,
    found: Vec<(usize, T)>,
}

/// Calls `look(number, task, bytes)` for each chunk, on all workers. `name`: what these are for. Returns what it returned, in the order of the tasks.
pub(in crate::engine) fn measure<T: Send>(
    feed: &Feed<'_>,
    name: &'static str,
    tasks: &[Task],
    look: impl Fn(usize, &Task, &[u8]) -> Result<T, EngineError> + Sync,
) -> Result<Vec<T>, EngineError> {
    let sink = || Ok(MeasureSink { feed, look: &look, buf: Vec::new(), found: Vec::new() });
    let mut found: Vec<(usize, T)> = pool::run(feed, name, tasks, sink)?.found.into_iter().flatten().collect();
    found.sort_unstable_by_key(|(number, _)| *number);
    Ok(found.into_iter().map(|(_, one)| one).collect())
}

impl<T, F: Fn(usize, &Task, &[u8]) -> Result<T, EngineError>> Sink for MeasureSink<'_, F, T> {
    type Found = Vec<(usize, T)>;

    fn chunk(&mut self, number: usize, task: &Task, chunk: &Chunk<'_>) -> Result<(), EngineError> {
        let found = (self.look)(number, task, chunk.bytes(&mut self.buf))?;
        self.found.push((number, found));
        self.feed.observer.event(Event::Written { bytes: task.len });
        Ok(())
    }

    fn finish(self) -> Self::Found {
        self.found
    }
}
