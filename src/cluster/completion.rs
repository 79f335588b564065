//! Done means done everywhere: how the processes of a run come to one published target, on shared storage and without a word.
//!
//! Each writes its share, then its `done`. The host that finds all of them takes the directory of finished files by renaming it, which
//! only one can; if that one dies, another takes it from there in the same way.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::joining::arrive;
use super::kept::Written;
use super::liveness::{Pulses, Watch, Watched, interval};
use super::publishing::{Publication, clear, is_published, sweep};
use super::records::{Failed, to_bytes};
use super::run_part::Wanted;
use super::rundir::{Claim, Progress, RunDir, Seen, after};
use super::{ClusterError, FileSums, Measured};
use crate::engine::{CancelToken, EngineError};
use crate::sys::{self, Dir};

/// A process's part in a run.
#[derive(Debug)]
pub struct Session {
    wanted: Wanted,
    dir: RunDir,
    attempt: u64,
    /// What earlier attempts of this host say they have written.
    earlier: Written,
    /// Failures that were there before this process began.
    failed_before: Vec<(u32, u64)>,
    /// Whether all hosts were done before this process began.
    complete: bool,
    /// The directory of finished files, where it is not complete yet.
    held: Option<Dir>,
    watch: Watch,
}

/// How waiting ended.
#[derive(Debug)]
pub enum Finished {
    /// The target is published, by another process.
    Published,
    /// Everything is written, and it is for this process to publish it.
    Ours(Box<Publication>),
    /// This host's share is written; others have not begun, and the last of them will publish.
    Left(Vec<u32>),
}

/// How many times `stale_after` a host that has not begun is waited for.
const ABSENT: u32 = 10;

impl Session {
    /// Whether the target is published and not to be made again. What a process left that died right after the publication is
    /// cleared.
    pub fn is_finished(wanted: &Wanted) -> bool {
        let dir = RunDir::new(&wanted.target, &wanted.run);
        sweep(&dir);
        let finished = !wanted.replace && is_published(wanted);
        if finished && dir.owner().is_ok_and(|owner| owner.is_none_or(|(_, run)| run == wanted.run)) {
            clear(&dir);
        }
        finished
    }

    /// Takes part in a run. `None`: it is over, the target is published.
    ///
    /// # Errors
    /// Where another plan is being carried out there, or another process is this host.
    pub fn begin(wanted: Wanted, cancel: &CancelToken) -> Result<Option<Self>, ClusterError> {
        let dir = RunDir::new(&wanted.target, &wanted.run);
        if Self::is_finished(&wanted) {
            return Ok(None);
        }
        sys::create_dir(dir.ground())?;
        let (attempt, beat) = arrive(&wanted, &dir, cancel)?;
        let seen = dir.look().unwrap_or_default();
        let failed = |&node: &u32| {
            let latest = seen.latest(node);
            (node, if latest.progress == Progress::Failed { latest.attempt } else { 0 })
        };
        let others: Vec<(u32, u64)> = wanted.nodes.iter().filter(|&&n| n != wanted.node).map(failed).collect();
        let mut earlier = Written::default();
        for before in seen.attempts(wanted.node).filter(|&a| a < attempt) {
            let record = dir.written(wanted.node, before, "done").or_else(|| dir.written(wanted.node, before, "kept"));
            let record = record.unwrap_or_default();
            // On another machine something else came out, so that attempt did not take what was there either.
            if record.computed.is_some() && earlier.computed.is_some() && record.computed != earlier.computed {
                earlier.files.clear();
            }
            earlier.files.extend(record.files);
            earlier.computed = record.computed.or(earlier.computed);
            sys::remove_dir(&dir.work(wanted.node, before))?;
        }
        let watch = Watch::start(Watched {
            dir: dir.clone(),
            node: wanted.node,
            attempt,
            beat,
            others: others.clone(),
            early: wanted.early.clone(),
            every: interval(wanted.stale_after),
            cancel: cancel.clone(),
        })?;
        let complete = seen.claim.is_some();
        if !complete && !seen.files && seen.has_records() && vanished(&wanted, &dir) {
            drop(watch);
            // What hosts say that they have written is gone, and must not be believed by the next host that begins.
            super::publishing::discard(&dir);
            return Err(ClusterError::Incomplete(format!("{} has disappeared", dir.files().display())));
        }
        let held = if complete {
            None
        } else {
            sys::create_dir(&dir.files())?;
            Some(Dir::open(&dir.files())?)
        };
        let mut session = Self { wanted, dir, attempt, earlier, failed_before: others, complete, held, watch };
        // It may have been published while this process began; then no host would ever come here.
        if Self::is_finished(&session.wanted) {
            session.leave();
            return Ok(None);
        }
        Ok(Some(session))
    }

    /// Where finished files are. All that is in there is whole, but for files that are written in ranges.
    pub fn files(&self) -> PathBuf {
        self.dir.files()
    }

    /// The directory of finished files itself, which is never made again: what other hosts have written there counts on it.
    ///
    /// # Errors
    /// Where it has disappeared.
    pub fn held(&self) -> Result<&Dir, ClusterError> {
        let files = self.files();
        // Taken to be published, it is this one still.
        let taken = || self.dir.look().is_some_and(|seen| seen.claim.is_some());
        match &self.held {
            Some(held) if held.is_at(&files) || taken() => Ok(held),
            _ => Err(ClusterError::Incomplete(format!("{} has disappeared", files.display()))),
        }
    }

    /// Where this process makes files.
    fn work(&self) -> PathBuf {
        self.dir.work(self.wanted.node, self.attempt)
    }

    /// Makes the directory in which this process makes files, where it is not there yet.
    ///
    /// # Errors
    /// What the system says.
    pub fn make_work(&self) -> Result<Dir, ClusterError> {
        sys::create_dir(&self.work())?;
        Ok(Dir::open(&self.work())?)
    }

    /// What earlier attempts of this host say they have written.
    pub fn earlier(&self) -> &[FileSums] {
        &self.earlier.files
    }

    /// What earlier attempts of this host computed before they wrote.
    pub fn computed(&self) -> Option<&Measured> {
        self.earlier.computed.as_ref()
    }

    /// Whether all hosts were done before this process began, so that only the publication is left.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Gives finished files of [`Self::make_work`] their place among the finished ones, and records everything that is finished so
    /// far. `moved`: the paths of the files; `computed`: what this host, or an earlier attempt at it, computed before.
    ///
    /// # Errors
    /// The system's error.
    pub fn keep(&self, moved: &[&str], finished: &[FileSums], computed: Option<&Measured>) -> Result<(), ClusterError> {
        let (work, files) = (self.work(), self.files());
        for path in moved {
            let to = files.join(path);
            let parent = to.parent().unwrap_or(Path::new("."));
            self.held()?.make_above(Path::new(path))?;
            sys::move_over(&work.join(path), &to)?;
            if self.wanted.durable {
                sys::sync_dir(parent)?;
            }
        }
        if self.wanted.durable {
            sys::sync_dir(&files)?;
        }
        self.record("kept", finished, computed)
    }

    /// Records that all of this host's share is written.
    ///
    /// # Errors
    /// The system's error.
    pub fn done(&self, finished: &[FileSums], computed: Option<&Measured>) -> Result<(), ClusterError> {
        self.held()?;
        sys::remove_dir(&self.work())?;
        self.record("done", finished, computed)
    }

    fn record(&self, kind: &str, finished: &[FileSums], computed: Option<&Measured>) -> Result<(), ClusterError> {
        let record = Written { files: finished.to_vec(), computed: computed.cloned() };
        let path = self.dir.mark(self.wanted.node, self.attempt, kind);
        Ok(sys::replace_small(&path, true, &to_bytes(&record))?)
    }

    /// What stopped the work, where that was another host. What has failed here is reported to the others.
    pub fn stopped(mut self, reason: &str) -> Option<ClusterError> {
        let failure = self.watch.failure();
        let (kind, reason) = if failure.is_some() { ("stopped", "") } else { ("failed", reason) };
        let path = self.dir.mark(self.wanted.node, self.attempt, kind);
        // Where even that cannot be written the others see that this process shows no life any more.
        let _ = sys::replace_small(&path, true, &to_bytes(&Failed { reason: reason.to_owned() }));
        let _ = sys::remove_dir(&self.work());
        self.leave();
        failure.map(|(node, reason)| ClusterError::PeerFailed { node, reason })
    }

    /// Whether the run is over because the target is published.
    pub fn is_over(&self) -> bool {
        self.dir.look().is_none() && is_published(&self.wanted)
    }

    /// Waits until the target is published, or it is for this process to publish it.
    ///
    /// # Errors
    /// Where another host has failed, died, or not begun.
    pub fn wait(mut self, cancel: &CancelToken, tell: &mut dyn FnMut(&str)) -> Result<Finished, ClusterError> {
        let begun = Instant::now();
        let mut pulses = Pulses::default();
        let mut told = String::new();
        loop {
            if cancel.is_cancelled() && self.watch.failure().is_none() {
                self.leave();
                return Err(EngineError::Cancelled.into());
            }
            let Some(seen) = self.dir.look() else {
                if is_published(&self.wanted) {
                    sweep(&self.dir);
                    return Ok(Finished::Published);
                }
                let what = format!("{} has disappeared", self.dir.run.display());
                return Err(ClusterError::Incomplete(what));
            };
            if seen.latest(self.wanted.node).attempt > self.attempt {
                return Err(ClusterError::Superseded(self.wanted.node));
            }
            if let Some(claim) = self.claim(&seen, &mut pulses)? {
                return Publication::new(self.wanted, self.dir, claim, self.watch).map(Box::new).map(Finished::Ours);
            }
            match self.others(&seen, &mut pulses, begun, &mut told, tell) {
                Ok(None) => {}
                Ok(Some(finished)) => {
                    self.leave();
                    return Ok(finished);
                }
                Err(e) => {
                    self.leave();
                    return Err(e);
                }
            }
            std::thread::sleep(interval(self.wanted.stale_after).min(Duration::from_millis(250)));
        }
    }

    /// Takes the finished files to publish them, where that is possible now.
    fn claim(&self, seen: &Seen, pulses: &mut Pulses) -> Result<Option<Claim>, ClusterError> {
        let own = |number| Claim { number, node: self.wanted.node, attempt: self.attempt };
        let (from, claim) = match &seen.claim {
            // A reply that got lost on the way: the rename was done.
            Some(claim) if (claim.node, claim.attempt) == (self.wanted.node, self.attempt) => {
                return Ok(Some(claim.clone()));
            }
            Some(claim) => {
                let superseded = seen.latest(claim.node).attempt > claim.attempt;
                let ended = || self.dir.beat(claim.node, claim.attempt).is_none_or(|beat| beat.has_ended());
                let still = pulses.look(&self.dir, claim.node, claim.attempt).still();
                if !superseded && !ended() && still < self.wanted.stale_after {
                    return Ok(None);
                }
                (self.dir.publish(claim), own(after(claim.number, &self.dir)?))
            }
            None => {
                let done = |node: &u32| seen.latest(*node).progress == Progress::Done;
                if !seen.files || !self.wanted.nodes.iter().all(done) {
                    return Ok(None);
                }
                (self.dir.files(), own(1))
            }
        };
        match sys::rename_new(&from, &self.dir.publish(&claim)) {
            Ok(()) => Ok(Some(claim)),
            // Another host was faster.
            Err(e) if e.source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// What is to be said of the other hosts: that one has failed, died or not begun.
    fn others(
        &self,
        seen: &Seen,
        pulses: &mut Pulses,
        begun: Instant,
        told: &mut String,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Option<Finished>, ClusterError> {
        if seen.claim.is_some() {
            return Ok(None);
        }
        if !seen.files {
            // Published, but the host that did it died before the directory was gone.
            if is_published(&self.wanted) {
                clear(&self.dir);
                return Ok(Some(Finished::Published));
            }
            if begun.elapsed() < self.wanted.stale_after * ABSENT {
                return Ok(None);
            }
            let what = format!("{} has disappeared", self.dir.files().display());
            return Err(ClusterError::Incomplete(what));
        }
        let stale_after = self.wanted.stale_after;
        let (mut dead, mut absent, mut working) = (Vec::new(), Vec::new(), Vec::new());
        for &(node, failed_before) in &self.failed_before {
            let latest = seen.latest(node);
            match latest.progress {
                Progress::Done => {}
                Progress::Failed if latest.attempt > failed_before => {
                    let reason = self.dir.failure(node, latest.attempt);
                    return Err(ClusterError::PeerFailed { node, reason });
                }
                Progress::Failed | Progress::Absent => {
                    // An earlier failure may be fixed already, and the host about to begin: it would take its notice back.
                    let old = !self.wanted.staggered && begun.elapsed() >= stale_after;
                    if let Some(reason) = self.wanted.early.as_ref().and_then(|early| early.reason(node, old)) {
                        return Err(ClusterError::PeerFailed { node, reason });
                    }
                    absent.push(node);
                }
                Progress::Working if pulses.look(&self.dir, node, latest.attempt).still() >= stale_after => {
                    dead.push(node);
                }
                Progress::Working => working.push(node),
            }
        }
        if !dead.is_empty() {
            return Err(ClusterError::PeerDied { nodes: hosts(&dead), after: stale_after });
        }
        if working.is_empty() && !absent.is_empty() {
            if self.wanted.staggered {
                return Ok(Some(Finished::Left(absent)));
            }
            if begun.elapsed() >= stale_after * ABSENT {
                return Err(ClusterError::PeerAbsent { nodes: hosts(&absent), after: stale_after * ABSENT });
            }
        }
        let mut waiting = working;
        waiting.extend(&absent);
        if !waiting.is_empty() {
            let begin = if absent.is_empty() { String::new() } else { format!(" ({} not begun)", absent.len()) };
            let text = format!("this host's share is written; waiting for {}{begin}", hosts(&waiting));
            if text != *told {
                tell(&text);
                *told = text;
            }
        }
        Ok(None)
    }

    /// Says goodbye: this process is not waited for, and the next that is this host need not wait.
    fn leave(&mut self) {
        // Or it would write its beat once more.
        self.watch.stop();
        let mark = |kind| self.dir.mark(self.wanted.node, self.attempt, kind);
        // An attempt that leaves no other mark would be forgotten with its beat.
        if !mark("done").exists() && !mark("failed").exists() {
            let _ = sys::replace_small(&mark("stopped"), false, b"{}");
        }
        let _ = std::fs::remove_file(mark("beat"));
    }
}

/// Whether the finished files of hosts that say they have some are gone for good, rather than being published at this moment.
fn vanished(wanted: &Wanted, dir: &RunDir) -> bool {
    // One look at a directory may miss a name that is changed meanwhile.
    (0..3).all(|_| {
        std::thread::sleep(Duration::from_millis(50));
        let seen = dir.look();
        !is_published(wanted) && seen.is_some_and(|seen| !seen.files && seen.claim.is_none() && seen.has_records())
    })
}

fn hosts(nodes: &[u32]) -> String {
    let names: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    format!("host{} {}", if nodes.len() == 1 { "" } else { "s" }, names.join(", "))
}
