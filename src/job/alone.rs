//! One process that does all of the work: a directory under a hidden name, then its final one, all or nothing.

use std::io::{self, Write};

use super::observer::Observer;
use super::planned::Planned;
use super::stage::{Finished, Means, Stage, Unpublished};
use super::targets;
use crate::Error;
use crate::cluster::Unit;
use crate::engine::{self, Calculated, CancelToken, Published, QuantError, Ready, RunSummary, Staging};
use crate::input::MANIFEST;
use crate::plan::Plan;
use crate::sys::HeldFile;

/// What is written, below hidden names beside the checkpoint's and its strategies'.
pub(super) struct Alone {
    // Dropped first: the directories that were made for the strategies may be below those that were made for the checkpoint.
    strategies: Option<Staging>,
    checkpoint: Staging,
    quantised: Vec<QuantError>,
    result: RunSummary,
    /// The files that were written, which must be there still when they get their name.
    files: Vec<HeldFile>,
}

impl Alone {
    pub(super) fn begin(planned: &Planned, observer: &dyn Observer) -> Result<Self, Error> {
        let (publish, durability) = (planned.job.publish(), planned.job.durability());
        let checkpoint = Staging::new(&planned.conversion.target, publish, durability)?;
        targets::say_removed(checkpoint.leftovers(), observer);
        if checkpoint.has_restored() {
            observer.note("put back the old target, which an interrupted run had left under another name");
        }
        let strategies = match &planned.conversion.strategies {
            Some(strategies) => strategies.stage(publish, durability)?,
            None => None,
        };
        let (quantised, result, files) = (Vec::new(), RunSummary::default(), Vec::new());
        Ok(Self { strategies, checkpoint, quantised, result, files })
    }
}

impl Stage for Alone {
    fn computed(&mut self, calculated: Calculated) {
        self.quantised = calculated.errors;
    }

    fn groups(&mut self, planned: &Planned, _: usize, _: &dyn Observer) -> Result<(Vec<Vec<Unit>>, u64), Error> {
        // All of it in one: there is no other process to share it with.
        let bytes = planned.conversion.plan.outputs.iter().map(|file| file.layout.len()).sum();
        Ok((vec![Vec::new()], bytes))
    }

    fn write(&mut self, plan: &Plan, _: &[Unit], means: &Means<'_>) -> Result<(), Error> {
        let &Means { engine, mappings, step, cancel } = means;
        let result = engine::run(plan, mappings, self.checkpoint.dir()?, engine, step, cancel);
        self.result = result.map_err(|e| self.checkpoint.explain(e))?;
        self.result.quantised = std::mem::take(&mut self.quantised);
        self.files = std::mem::take(&mut self.result.files);
        Ok(())
    }

    fn keep(&mut self, _: &Plan, _: &[Unit]) -> Result<(), Error> {
        Ok(())
    }

    fn done(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn stopped(self: Box<Self>, error: Error) -> Option<Error> {
        Some(error)
    }

    fn finish(self: Box<Self>, _: &CancelToken, _: &dyn Observer) -> Result<Finished, Error> {
        Ok(Finished::Ours(self))
    }
}

impl Unpublished for Alone {
    fn result(&mut self, _: &Plan) -> Result<RunSummary, Error> {
        Ok(std::mem::take(&mut self.result))
    }

    fn write(&mut self, fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
        Ok(self.checkpoint.write(MANIFEST, fill)?)
    }

    /// Where the second fails the first is taken back. A run that is killed between the two leaves a checkpoint whose manifest
    /// says which strategies belong to it; the next one publishes those.
    fn publish(self: Box<Self>, _: &Planned, observer: &dyn Observer) -> Result<(), Error> {
        let strategies = self.strategies.map(|staged| staged.ready(Vec::new())).transpose()?;
        let checkpoint = self.checkpoint.ready(self.files)?.publish()?;
        match strategies.map(Ready::publish).transpose() {
            Ok(strategies) => {
                for stuck in [Some(checkpoint), strategies].into_iter().flatten().filter_map(Published::keep) {
                    observer.note(&format!("{} was replaced but could not be removed", stuck.display()));
                }
                Ok(())
            }
            Err(e) => {
                checkpoint.undo();
                Err(e.into())
            }
        }
    }
}
