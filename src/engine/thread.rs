//! What comes of a thread.

use std::thread::ScopedJoinHandle;

use super::EngineError;
use crate::sys::ThreadError;

/// A thread that was to be started.
pub(super) type Started<'scope, T> = Result<ScopedJoinHandle<'scope, Result<T, EngineError>>, ThreadError>;

/// Waits for a thread. Returns what it returned; or that it could not be started, or panicked.
pub(super) fn join<T>(thread: Started<'_, T>) -> Result<T, EngineError> {
    thread?.join().unwrap_or(Err(EngineError::WorkerPanicked))
}
