//! What a run reports while it goes on.

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// So many bytes will be written.
    Started {
        /// The bytes.
        bytes: u64,
    },
    /// So many more bytes are written.
    Written {
        /// The bytes.
        bytes: u64,
    },
    /// io_uring is unavailable; the run goes on through pwrite.
    UringRefused,
    /// All is written; files are flushed and closed.
    Flushing,
}

/// A receiver of these reports. Called by the workers, so it must be quick.
pub trait Observer: Sync {
    /// Receives an event.
    fn event(&self, event: Event);
}

/// Takes no notice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noop;

impl Observer for Noop {
    fn event(&self, _: Event) {}
}
