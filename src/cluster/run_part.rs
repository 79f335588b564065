//! Which run a process takes part in, as which of its hosts, and on which terms.

use std::path::PathBuf;
use std::time::Duration;

use super::EarlyFailures;

/// What a process takes part in.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The target.
    pub target: PathBuf,
    /// The fingerprint of the plan, as the manifest has it.
    pub plan: String,
    /// Which part of the whole the target is, where it is one (`--local-output`), as the manifest has it.
    pub part: Option<String>,
    /// The fingerprint of the run.
    pub run: String,
    /// Which host this is.
    pub node: u32,
    /// All hosts whose work makes the target.
    pub nodes: Vec<u32>,
    /// Whether a target that is there may be replaced.
    pub replace: bool,
    /// Whether everything is flushed.
    pub durable: bool,
    /// After how long without a sign of life a host is taken for dead.
    pub stale_after: Duration,
    /// Whether hosts may be started one after the other.
    pub staggered: bool,
    /// Where hosts report that they failed before they came to the run. `None`: no host waits for another.
    pub early: Option<EarlyFailures>,
}
