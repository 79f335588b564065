//! Giving the finished files their final name, and clearing the place where the processes met.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::kept::joined;
use super::liveness::Watch;
use super::rundir::{Claim, RunDir};
use super::{ClusterError, Wanted};
use crate::engine::{EngineError, RunSummary, sync_tree};
use crate::input::ManifestHead;
use crate::plan::Plan;
use crate::sys;

/// The finished files in the hands of the one process that publishes them.
#[derive(Debug)]
pub struct Publication {
    wanted: Wanted,
    dir: RunDir,
    claim: Claim,
    /// The others must see that this process lives.
    _watch: Watch,
}

impl Publication {
    pub(super) fn new(wanted: Wanted, dir: RunDir, claim: Claim, watch: Watch) -> Result<Self, ClusterError> {
        if !wanted.replace && wanted.target.symlink_metadata().is_ok() {
            return Err(EngineError::TargetExists(wanted.target).into());
        }
        Ok(Self { wanted, dir, claim, _watch: watch })
    }

    /// The directory that will be the target.
    pub fn dir(&self) -> PathBuf {
        self.dir.publish(&self.claim)
    }

    /// What all hosts together have done, as if one had. Proves that every byte of every file of the plan was written by exactly
    /// one of them, and that the files are there.
    ///
    /// # Errors
    /// Where that is not so. The files are then given back, so that hosts that are started again look at what they have.
    pub fn result(&self, plan: &Plan) -> Result<RunSummary, ClusterError> {
        self.proved(plan).inspect_err(|_| self.give_back())
    }

    /// Gives the files back, so that hosts that are started again look at what they have.
    pub fn give_back(&self) {
        // Where that fails the next run finds a claim whose owner has ended, and takes it over.
        let _ = sys::rename_new(&self.dir(), &self.dir.files());
    }

    fn proved(&self, plan: &Plan) -> Result<RunSummary, ClusterError> {
        let seen = self.dir.look().unwrap_or_default();
        let mut records = Vec::with_capacity(self.wanted.nodes.len());
        for &node in &self.wanted.nodes {
            records.push((node, self.dir.done_record(&seen, node)?));
        }
        let result = joined(plan, &records)?;
        let dir = self.dir();
        for output in &plan.outputs {
            let len = std::fs::metadata(dir.join(&output.path)).map(|meta| meta.len());
            if !len.as_ref().is_ok_and(|len| *len == output.layout.len()) {
                let there = len.map_or_else(|e| e.to_string(), |len| format!("{len} bytes"));
                let what = format!("{} should have {} bytes: {there}", output.path, output.layout.len());
                return Err(ClusterError::Incomplete(what));
            }
        }
        Ok(result)
    }

    /// Writes a small file, over what an earlier publisher may have left of it.
    ///
    /// # Errors
    /// The system's error.
    pub fn write(
        &self,
        name: &str,
        fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<(), ClusterError> {
        let path = self.dir().join(name);
        let _ = std::fs::remove_file(&path);
        Ok(sys::write_small(&path, self.wanted.durable, fill)?)
    }

    /// Publishes. A process that was taken for dead meanwhile finds its directory gone, and publishes nothing.
    ///
    /// # Errors
    /// The system's error; the target is then what it was.
    pub fn publish(self) -> Result<(), ClusterError> {
        let dir = self.dir();
        if self.wanted.durable {
            sync_tree(&dir)?;
        }
        let target = &self.wanted.target;
        let mut replaced = None;
        if self.wanted.replace && target.symlink_metadata().is_ok() && dir.is_dir() {
            let old = self.dir.run.join(format!("old-{}", self.claim.number));
            sys::rename_new(target, &old)?;
            replaced = Some(old);
        }
        if let Err(e) = sys::rename_new(&dir, target) {
            if let Some(old) = replaced {
                // Back to what was. If that fails too, the next run puts it back.
                let _ = sys::rename_new(&old, target);
            }
            return Err(e.into());
        }
        if self.wanted.durable {
            sys::sync_dir(self.dir.ground())?;
        }
        clear(&self.dir);
        Ok(())
    }
}

/// Whether the target is there and of this plan (and part): its manifest, written last, says so in its first lines.
pub(super) fn is_published(wanted: &Wanted) -> bool {
    ManifestHead::of(&wanted.target).is_some_and(|head| head.is_of(&wanted.plan, wanted.part.as_deref()))
}

/// Takes the meeting place away, all at once for hosts that look there, then its files.
pub(super) fn clear(dir: &RunDir) {
    let Some(name) = dir.meeting.file_name().map(|n| n.to_string_lossy().into_owned()) else { return };
    let over = dir.meeting.with_file_name(format!("{name}-over-{}-{}", sys::host_name(), std::process::id()));
    // What cannot be removed now is removed by the next run.
    if sys::rename_new(&dir.meeting, &over).is_ok() {
        let _ = sys::remove_dir(&over);
    }
}

/// Removes what a process left that died while it cleared a meeting place.
pub(super) fn sweep(dir: &RunDir) {
    let Some(name) = dir.meeting.file_name().map(|n| n.to_string_lossy().into_owned()) else { return };
    let over = format!("{name}-over-");
    let entries = std::fs::read_dir(dir.ground()).into_iter().flatten().flatten();
    for entry in entries.filter(|e| e.file_name().to_string_lossy().starts_with(&over)) {
        let _ = sys::remove_dir(&entry.path());
    }
}

/// Removes what a dead run has left, but for a target that it had put aside and not yet replaced: that goes back.
pub(super) fn discard(dir: &RunDir) {
    if dir.target.symlink_metadata().is_err() {
        let old = dir.look().unwrap_or_default().others.into_iter().filter(|name| name.starts_with("old-")).max();
        let _ = old.map(|name| sys::rename_new(&dir.run.join(Path::new(&name)), &dir.target));
    }
    let _ = sys::remove_dir(&dir.run);
}
