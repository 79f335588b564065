//! What the small files hold by which the processes of a run show one another where they are.

use serde::{Deserialize, Serialize};

use crate::sys::{ProcessId, host_name};

/// `node-<i>.<attempt>.beat`: a process at work, which writes it anew all the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Beat {
    /// The machine's name, for messages.
    pub host: String,
    /// Where the process number means something.
    pub space: String,
    /// The process number.
    pub pid: u32,
    /// When it began.
    pub began: u64,
    /// One more each time. It is not compared with a clock: it changes, or it does not.
    pub count: u64,
}

impl Beat {
    pub(super) fn first() -> Self {
        let ProcessId { space, pid, began } = ProcessId::own();
        Self { host: host_name(), space, pid, began, count: 0 }
    }

    /// Whether the process is known to have ended: only where it is one of this machine.
    pub(super) fn has_ended(&self) -> bool {
        let process = ProcessId { space: self.space.clone(), pid: self.pid, began: self.began };
        process.has_ended() == Some(true)
    }
}

/// `node-<i>.<attempt>.failed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failed {
    /// Why, as text for people.
    pub reason: String,
}

/// A record as bytes.
pub(super) fn to_bytes(record: &impl Serialize) -> Vec<u8> {
    // A record is numbers, text and lists, which JSON can always hold.
    serde_json::to_vec(record).unwrap_or_default()
}
