//! Where a run writes before anything has its final name: what one process that does all differs in from one of several.

use std::io::{self, Write};
use std::sync::Arc;

use super::observer::{Observer, Step};
use super::planned::Planned;
use crate::Error;
use crate::cluster::Unit;
use crate::engine::{Calculated, CancelToken, EngineConfig, RunSummary};
use crate::plan::Plan;
use crate::storage::LocalBlob;

/// What writing takes.
pub(super) struct Means<'a> {
    pub engine: &'a EngineConfig,
    pub mappings: &'a [Arc<LocalBlob>],
    pub step: &'a Step<'a>,
    pub cancel: &'a CancelToken,
}

/// What is written before it has its final name.
pub(super) trait Stage {
    /// Whether everything is written already, by whomever.
    fn is_complete(&self) -> bool {
        false
    }

    /// Whether anything is left to write here.
    fn has_work(&self) -> bool {
        true
    }

    /// Takes note of what was computed before anything is written.
    fn computed(&mut self, calculated: Calculated);

    /// What is left to write, in groups, and its bytes. Where there is not enough space for it, an error.
    fn groups(
        &mut self,
        planned: &Planned,
        workers: usize,
        observer: &dyn Observer,
    ) -> Result<(Vec<Vec<Unit>>, u64), Error>;

    /// Writes a group.
    fn write(&mut self, plan: &Plan, group: &[Unit], means: &Means<'_>) -> Result<(), Error>;

    /// A group is written, of sources that have not changed since.
    fn keep(&mut self, plan: &Plan, group: &[Unit]) -> Result<(), Error>;

    /// All groups are.
    fn done(&mut self) -> Result<(), Error>;

    /// Writing has failed. `None`: the target is published all the same, by others.
    fn stopped(self: Box<Self>, error: Error) -> Option<Error>;

    /// Waits until everything is written, by whomever.
    fn finish(self: Box<Self>, cancel: &CancelToken, observer: &dyn Observer) -> Result<Finished, Error>;
}

/// Which process publishes.
pub(super) enum Finished {
    /// This process.
    Ours(Box<dyn Unpublished>),
    /// Another has.
    Elsewhere,
    /// The last of so many that have not begun.
    Left(usize),
}

/// What is all written, and for this process to publish.
pub(super) trait Unpublished {
    /// What all have done, proved to be the whole.
    fn result(&mut self, plan: &Plan) -> Result<RunSummary, Error>;

    /// It will not be published by this process, now.
    fn give_back(&self) {}

    /// Writes the manifest.
    fn write(&mut self, fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> Result<(), Error>;

    /// Gives the checkpoint its name, then the strategies that it names theirs, both flushed before.
    fn publish(self: Box<Self>, planned: &Planned, observer: &dyn Observer) -> Result<(), Error>;
}
