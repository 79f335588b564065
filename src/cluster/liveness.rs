//! Which processes live: those whose counter changes. Watched over the watcher's own clock, so that clocks that differ do no harm.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::early::EarlyFailures;
use super::records::{Beat, to_bytes};
use super::rundir::{Progress, RunDir};
use crate::engine::{CancelToken, EngineError};
use crate::sys;

/// Counters as they were last seen, and since when they have been so.
#[derive(Debug, Default)]
pub(super) struct Pulses(HashMap<(u32, u64), Pulse>);

/// What was seen of one counter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulse {
    count: Option<u64>,
    since: Instant,
    /// Whether it was seen to change.
    pub changed: bool,
}

impl Pulse {
    /// For how long it has not changed, as far as this process has watched it.
    pub(super) fn still(&self) -> Duration {
        self.since.elapsed()
    }
}

impl Pulses {
    /// Looks at the counter of an attempt once more.
    pub(super) fn look(&mut self, dir: &RunDir, node: u32, attempt: u64) -> Pulse {
        let count = dir.beat(node, attempt).map(|beat| beat.count);
        let new = Pulse { count, since: Instant::now(), changed: false };
        let pulse = self.0.entry((node, attempt)).or_insert(new);
        if pulse.count != count {
            *pulse = Pulse { changed: true, ..new };
        }
        *pulse
    }
}

/// How often a process shows that it lives, and looks at the others.
pub(super) fn interval(stale_after: Duration) -> Duration {
    (stale_after / 8).clamp(Duration::from_millis(20), Duration::from_secs(5))
}

/// Why another host stopped a run: which one, and what it said.
type Reason = Arc<Mutex<Option<(u32, String)>>>;

/// The thread that shows that this process lives, and stops the work when another host has failed.
#[derive(Debug)]
pub(super) struct Watch {
    over: Arc<AtomicBool>,
    reason: Reason,
    thread: Option<JoinHandle<()>>,
}

/// What the thread needs to know.
pub(super) struct Watched {
    pub dir: RunDir,
    pub node: u32,
    pub attempt: u64,
    pub beat: Beat,
    /// The other hosts, and the attempt of each that had failed before this process began.
    pub others: Vec<(u32, u64)>,
    /// Where hosts report that they failed before they came to the run.
    pub early: Option<EarlyFailures>,
    pub every: Duration,
    pub cancel: CancelToken,
}

impl Watch {
    pub(super) fn start(watched: Watched) -> Result<Self, EngineError> {
        let over = Arc::new(AtomicBool::new(false));
        let reason = Reason::default();
        let (ends, says) = (Arc::clone(&over), Arc::clone(&reason));
        let thread = sys::spawn("liveness", move || watch(watched, &ends, &says))?;
        Ok(Self { over, reason, thread: Some(thread) })
    }

    /// The host that failed, and why, where that has stopped the work.
    pub(super) fn failure(&self) -> Option<(u32, String)> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the thread.
    pub(super) fn stop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A thread that panicked has nothing to say: without it this process is taken for dead, which does no harm.
            let _ = thread.join();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop();
    }
}

fn watch(mut watched: Watched, over: &AtomicBool, reason: &Reason) {
    let path = watched.dir.mark(watched.node, watched.attempt, "beat");
    while !over.load(Ordering::Relaxed) {
        watched.beat.count += 1;
        // Where the directory is gone the run is over; the disk may also be full for a moment.
        let _ = sys::replace_small(&path, false, &to_bytes(&watched.beat));
        let failed = watched.dir.look().and_then(|seen| {
            watched.others.iter().find_map(|&(node, before)| {
                let latest = seen.latest(node);
                match latest.progress {
                    Progress::Failed if latest.attempt > before => {
                        Some((node, watched.dir.failure(node, latest.attempt)))
                    }
                    Progress::Failed | Progress::Absent => Some((node, watched.early.as_ref()?.reason(node, false)?)),
                    Progress::Working | Progress::Done => None,
                }
            })
        });
        if let Some(failed) = failed {
            let mut reason = reason.lock().unwrap_or_else(PoisonError::into_inner);
            if reason.is_none() {
                *reason = Some(failed);
                watched.cancel.cancel();
            }
        }
        std::thread::park_timeout(watched.every);
    }
}
