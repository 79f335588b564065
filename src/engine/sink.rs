//! Where chunks go.

use super::EngineError;
use super::feed::Chunk;
use super::schedule::Task;

/// One worker's end of whatever takes chunks: files, a comparison, memory. A worker hands it one task after the other, in the
/// order of its queue.
///
/// A sink that is done with a chunk when [`Self::chunk`] returns needs nothing but that and [`Self::finish`]. One that is not
/// (whose writes are in flight) says when it takes no more, and is waited for.
pub(super) trait Sink {
    /// What a worker has found out when all is done.
    type Found;

    /// Takes a task that is one run of a source, at `at` there, unchanged. `false`: it is to be put together like any other.
    fn run(&mut self, _task: &Task, _source: usize, _at: u64) -> bool {
        false
    }

    /// Takes a chunk, whose bytes are put together when they are requested.
    fn chunk(&mut self, number: usize, task: &Task, chunk: &Chunk<'_>) -> Result<(), EngineError>;

    /// Goes on with a run that it took. Whether that began something.
    fn go_on(&mut self) -> Result<bool, EngineError> {
        Ok(false)
    }

    /// Whether all of each run that it took is begun.
    fn is_ready(&self) -> bool {
        true
    }

    /// Whether there is a buffer for a chunk.
    fn has_room(&self) -> bool {
        true
    }

    /// Whether as much is in flight as may be.
    fn is_full(&self) -> bool {
        false
    }

    /// Whether nothing is in flight.
    fn is_idle(&self) -> bool {
        true
    }

    /// Waits until something is no longer in flight. `false`: nothing was.
    fn wait(&mut self) -> Result<bool, EngineError> {
        Ok(false)
    }

    /// All tasks are done.
    fn finish(self) -> Self::Found;
}
