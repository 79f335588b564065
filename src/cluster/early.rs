//! Failures of hosts that have no plan yet, and so no run in whose directory they could notify the others.
//!
//! ```text
//! DIR/.failed-<request>-<i>       beside where the target would be made; <request>: the fingerprint of the request
//! ```
//!
//! A host that begins takes back what an earlier attempt of its own has left, so that what stays is of hosts that have not been
//! started again. The request must be typed alike on all hosts; hosts with another request never look there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fingerprint::request_id;
use super::records::{Beat, to_bytes};
use crate::sys;

/// Bytes of a notice: a reason that people read.
const MAX_NOTICE: u64 = 1 << 16;

/// What a notice's name begins with.
const PREFIX: &str = ".failed-";

/// Where hosts with the same request report failures before there is a plan.
#[derive(Clone, Debug)]
pub struct EarlyFailures {
    dir: PathBuf,
    request: String,
    /// What was there when this process began.
    before: Arc<HashMap<u32, Notice>>,
    /// Whether this process has come to a run, where it has other ways to report failures.
    arrived: Arc<AtomicBool>,
}

/// A failure that a host has left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Notice {
    /// Why, as text for people.
    reason: String,
    /// Which process it was: two failures for one reason are not one.
    by: Beat,
}

impl EarlyFailures {
    /// Of hosts that are to make something in `dir`. `options`: what decides what is made; `nodes`: how many hosts.
    pub fn new(dir: &Path, options: &[(String, Value)], nodes: u32) -> Self {
        let mut early = Self {
            dir: dir.to_owned(),
            request: request_id(options, nodes),
            before: Arc::default(),
            arrived: Arc::default(),
        };
        let start = format!("{PREFIX}{}-", early.request);
        let names = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let nodes = names.filter_map(|name| name.to_str()?.strip_prefix(&start)?.parse().ok());
        let notices: HashMap<u32, Notice> = nodes.filter_map(|node| Some((node, early.of(node)?))).collect();
        early.before = Arc::new(notices);
        early
    }

    fn path(&self, node: u32) -> PathBuf {
        self.dir.join(format!("{PREFIX}{}-{node}", self.request))
    }

    /// Takes back what an earlier attempt at this host has left.
    pub fn withdraw(&self, node: u32) {
        let _ = std::fs::remove_file(self.path(node));
    }

    /// From here on the run's own markers report failures.
    pub fn arrived(&self) {
        self.arrived.store(true, Ordering::Relaxed);
    }

    /// Notifies the others that this host failed, unless it had come to a run. Where that cannot be written they wait for it as for
    /// one that was never started.
    pub fn leave(&self, node: u32, reason: &str) {
        if self.arrived.load(Ordering::Relaxed) {
            return;
        }
        let notice = Notice { reason: reason.to_owned(), by: Beat::first() };
        let _ = sys::create_dir(&self.dir).and_then(|_| sys::replace_small(&self.path(node), true, &to_bytes(&notice)));
    }

    /// What a host has left since this process began; with `old`, or before that.
    pub(super) fn reason(&self, node: u32, old: bool) -> Option<String> {
        let notice = self.of(node)?;
        (old || self.before.get(&node) != Some(&notice)).then_some(notice.reason)
    }

    fn of(&self, node: u32) -> Option<Notice> {
        let bytes = sys::read_small(&self.path(node), MAX_NOTICE).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}
