//! What goes wrong between several processes of one conversion.

use std::path::PathBuf;
use std::time::Duration;

use crate::engine::EngineError;
use crate::sys::FileError;

/// What goes wrong between several processes of one conversion.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// A rank table that cannot be used, and why.
    #[error("the rank table: {0}")]
    Table(String),
    /// A machine that is in no entry of the rank table.
    #[error("this machine ({own}) is not in the rank table, which has {listed}")]
    NotInTable {
        /// Its addresses and name.
        own: String,
        /// The machines of the table.
        listed: String,
    },
    /// A machine that is in more than one entry of the rank table.
    #[error("this machine is more than one server of the rank table: {0}")]
    TwiceInTable(String),
    /// Two sources that contradict each other.
    #[error("{first} says {first_says}, but {second} says {second_says}")]
    Disagree {
        /// One source.
        first: String,
        /// What it says.
        first_says: String,
        /// The other.
        second: String,
        /// What it says.
        second_says: String,
    },
    /// A source that does not say enough, or nonsense.
    #[error("{source_name}: {what}")]
    Unclear {
        /// The source.
        source_name: String,
        /// What is missing or wrong.
        what: String,
    },
    /// The table's cards are not the target's ranks, though each host must take its own.
    #[error("the rank table has {cards} cards, the target has {ranks} ranks")]
    Cards {
        /// Cards of the table.
        cards: usize,
        /// Ranks of the target.
        ranks: usize,
    },
    /// Another plan is being carried out at the same target.
    #[error("another conversion is writing {}: its plan is {other}, this one's is {own}", .target.display())]
    OtherPlan {
        /// The target.
        target: PathBuf,
        /// Its run.
        other: String,
        /// This run.
        own: String,
    },
    /// Another process has this host's number, and lives.
    #[error("host {node} is already running: process {pid} on {host}")]
    NodeBusy {
        /// The number.
        node: u32,
        /// The other's machine.
        host: String,
        /// The other's process.
        pid: u32,
    },
    /// This process was taken for dead, and another has taken its place.
    #[error("another process has taken over as host {0}")]
    Superseded(u32),
    /// A host that failed.
    #[error("host {node} failed: {reason}")]
    PeerFailed {
        /// Which.
        node: u32,
        /// What it said.
        reason: String,
    },
    /// Hosts that show no sign of life any more.
    #[error("{nodes} showed no sign of life for {after:?}")]
    PeerDied {
        /// Which.
        nodes: String,
        /// For how long they were watched.
        after: Duration,
    },
    /// Hosts that have not been started.
    #[error("{nodes} did not begin within {after:?}")]
    PeerAbsent {
        /// Which.
        nodes: String,
        /// For how long they were waited for.
        after: Duration,
    },
    /// A host's record does not fit the plan.
    #[error("what host {node} has recorded as written does not match the plan: {what}")]
    BadRecord {
        /// Which.
        node: u32,
        /// What does not fit.
        what: String,
    },
    /// A meeting place with names whose numbers no run reaches: another program put them there.
    #[error("{} holds names with numbers that no conversion reaches", .0.display())]
    Counted(PathBuf),
    /// A meeting place of which this process cannot see whose it is.
    #[error("cannot determine which conversion {} belongs to: {source}", .meeting.display())]
    Unreadable {
        /// The meeting place.
        meeting: PathBuf,
        /// What cannot be read in it.
        source: FileError,
    },
    /// All hosts are done, but something is not there.
    #[error("all hosts have finished, but the result is incomplete: {0}")]
    Incomplete(String),
    /// Manifests that are not parts of one whole.
    #[error("the manifests are not parts of one conversion: {0}")]
    Merge(String),
    /// What the engine says.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What the system says.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What kind of trouble it is, as far as an exit status shows it.
impl ClusterError {
    /// Whether options, tables or manifests are at fault, rather than a machine.
    pub fn is_input(&self) -> bool {
        matches!(
            self,
            Self::Table(_)
                | Self::NotInTable { .. }
                | Self::TwiceInTable(_)
                | Self::Disagree { .. }
                | Self::Unclear { .. }
                | Self::Cards { .. }
                | Self::OtherPlan { .. }
                | Self::NodeBusy { .. }
                | Self::Counted(_)
                | Self::Merge(_)
                | Self::Engine(EngineError::TargetExists(_) | EngineError::TargetBusy(_))
        )
    }
}
