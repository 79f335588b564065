//! What stops a run.

use crate::sys::{FileError, ThreadError};

/// What stops a run. Whatever it is, nothing was published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The system refused something.
    #[error(transparent)]
    File(#[from] FileError),
    /// io_uring was requested but is unavailable.
    #[error("io_uring is not available: {0}")]
    Uring(std::io::Error),
    /// A buffer could not be allocated.
    #[error("cannot allocate a buffer of {bytes} bytes: {source}")]
    Memory {
        /// Its size.
        bytes: u64,
        /// What the system says.
        source: std::io::Error,
    },
    /// A thread could not be started.
    #[error(transparent)]
    Thread(#[from] ThreadError),
    /// Numbers that cannot be quantised.
    #[error("row {row} of `{name}` {why}")]
    Unquantisable {
        /// The matrix.
        name: String,
        /// The row, or for caches and norms the channel.
        row: u64,
        /// Why not.
        why: &'static str,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Cancelled,
    /// The target is there already.
    #[error("{} exists already", .0.display())]
    TargetExists(std::path::PathBuf),
    /// Another conversion writes the same target.
    #[error("another conversion is writing {}", .0.display())]
    TargetBusy(std::path::PathBuf),
    /// Another conversion may be writing the same target; whether it still runs cannot be seen.
    #[error("{by} may be writing {}: it has left {}", .target.display(), .lock.display())]
    LockUnclear {
        /// The target.
        target: std::path::PathBuf,
        /// The lock file.
        lock: std::path::PathBuf,
        /// The process that made it.
        by: String,
    },
    /// The unfinished target was removed or replaced while the conversion ran.
    #[error("{} was removed or replaced while this conversion was writing it", .0.display())]
    Vanished(std::path::PathBuf),
    /// A worker thread panicked: a fault of this program.
    #[error("a worker failed; please report this as a bug")]
    WorkerPanicked,
}
