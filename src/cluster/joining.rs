//! Coming to a run: the meeting place is this run's, and the number of the host this process's.

use std::time::{Duration, Instant};

use super::liveness::{Pulses, interval};
use super::records::{Beat, to_bytes};
use super::rundir::{Latest, RunDir, after};
use super::{ClusterError, Wanted};
use crate::engine::{CancelToken, EngineError};
use crate::sys;

/// Makes the meeting place this run's and this process a host of it. Returns its attempt.
pub(super) fn arrive(wanted: &Wanted, dir: &RunDir, cancel: &CancelToken) -> Result<(u64, Beat), ClusterError> {
    loop {
        go_on(cancel)?;
        join(wanted, dir, cancel)?;
        sys::create_dir(&dir.run)?;
        let Some((attempt, beat)) = take_place(wanted, dir, cancel)? else { continue };
        if dir.owner()?.is_some_and(|(_, run)| run == wanted.run) {
            return Ok((attempt, beat));
        }
        // The run ended meanwhile, and its place was cleared: what was made in there now belongs to no run.
        let _ = std::fs::remove_file(dir.mark(wanted.node, attempt, "beat"));
    }
}

fn go_on(cancel: &CancelToken) -> Result<(), EngineError> {
    if cancel.is_cancelled() { Err(EngineError::Cancelled) } else { Ok(()) }
}

/// Makes the meeting place this run's, where it belongs to no run or to a dead one.
fn join(wanted: &Wanted, dir: &RunDir, cancel: &CancelToken) -> Result<(), ClusterError> {
    let begun = Instant::now();
    loop {
        go_on(cancel)?;
        sys::create_dir(&dir.meeting)?;
        let owner = dir.owner()?;
        let (number, dead) = match owner {
            Some((_, run)) if run == wanted.run => return Ok(()),
            None => (0, None),
            // It is being written at this moment; or its writer died over it.
            Some((number, run)) if !is_run(&run) => {
                if begun.elapsed() < wanted.stale_after {
                    std::thread::sleep(Duration::from_millis(50));
                    continue;
                }
                (number, None)
            }
            Some((number, run)) => {
                let other = RunDir::new(&dir.target, &run);
                if lives(&other, wanted.stale_after, cancel)? {
                    return Err(ClusterError::OtherPlan {
                        target: wanted.target.clone(),
                        other: run,
                        own: wanted.run.clone(),
                    });
                }
                (number, Some(other))
            }
        };
        let claim = dir.meeting.join(format!("claim-{}", after(number, dir)?));
        match sys::create_exclusive(&claim, wanted.run.as_bytes()) {
            Ok(true) => {
                if let Some(dead) = dead {
                    super::publishing::discard(&dead);
                }
                return Ok(());
            }
            // Another host was faster; or the meeting place has disappeared, with a run that is over.
            Ok(false) => {}
            Err(e) if e.source.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Whether a text can be the fingerprint of a run, which is also a directory's name.
fn is_run(text: &str) -> bool {
    !text.is_empty() && text.len() < 100 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

/// Whether any process of a run lives.
fn lives(dir: &RunDir, stale_after: Duration, cancel: &CancelToken) -> Result<bool, ClusterError> {
    let beats = || dir.look().map(|seen| seen.beats().collect()).unwrap_or_default();
    Ok(living(dir, &beats, stale_after, cancel)?.is_some())
}

/// Makes this process a host: under the next number of an attempt at it, once no other is known to live. `None`: the run's
/// directory has disappeared meanwhile.
fn take_place(wanted: &Wanted, dir: &RunDir, cancel: &CancelToken) -> Result<Option<(u64, Beat)>, ClusterError> {
    let node = wanted.node;
    loop {
        go_on(cancel)?;
        let seen = dir.read()?.unwrap_or_default();
        let Latest { attempt, .. } = seen.latest(node);
        let own = || dir.look().and_then(|seen| Some(vec![(node, seen.has_beat(node)?)])).unwrap_or_default();
        if let Some(beat) = living(dir, &own, wanted.stale_after, cancel)? {
            return Err(ClusterError::NodeBusy { node, host: beat.host, pid: beat.pid });
        }
        let beat = Beat::first();
        let own = after(attempt, dir)?;
        match sys::create_exclusive(&dir.mark(node, own, "beat"), &to_bytes(&beat)) {
            Ok(true) => return Ok(Some((own, beat))),
            Ok(false) => {}
            Err(e) if e.source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.into()),
        }
    }
}

/// A process that lives, among those whose beats are named. Watches as long as it takes to be sure.
fn living(
    dir: &RunDir,
    beats: &dyn Fn() -> Vec<(u32, u64)>,
    stale_after: Duration,
    cancel: &CancelToken,
) -> Result<Option<Beat>, ClusterError> {
    let mut pulses = Pulses::default();
    loop {
        let mut doubtful = false;
        for (node, attempt) in beats() {
            let Some(beat) = dir.beat(node, attempt).filter(|beat| !beat.has_ended()) else { continue };
            let pulse = pulses.look(dir, node, attempt);
            if pulse.changed {
                return Ok(Some(beat));
            }
            doubtful |= pulse.still() < stale_after;
        }
        if !doubtful {
            return Ok(None);
        }
        go_on(cancel)?;
        std::thread::sleep(interval(stale_after).min(Duration::from_millis(100)));
    }
}
