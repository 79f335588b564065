//! Threads, which the system may refuse: the limits of a user (`ulimit -u`) or of a container (`pids.max`), or no memory for a
//! stack. `std::thread::spawn` and `Scope::spawn` panic then.

use std::io;
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

/// A thread that the system refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot start another thread (`{name}`): {source}")]
pub struct ThreadError {
    /// What it was for.
    pub name: &'static str,
    /// What the system says.
    pub source: io::Error,
}

/// Starts a thread. `name`: at most 15 bytes, as `ps -T` and debuggers show it.
///
/// # Errors
/// The system refuses it.
pub fn spawn<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, ThreadError> {
    Builder::new().name(name.to_owned()).spawn(work).map_err(|source| ThreadError { name, source })
}

/// Starts a thread of a scope. `name`: as for [`spawn`]. Threads of the scope that have started go on: the caller makes them stop.
///
/// # Errors
/// The system refuses it.
pub fn spawn_scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, ThreadError> {
    Builder::new().name(name.to_owned()).spawn_scoped(scope, work).map_err(|source| ThreadError { name, source })
}
