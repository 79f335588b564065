//! A target that is planned, checked and computed as one that is to be written, but is not.

use std::sync::Arc;

use super::observer::Observer;
use super::planned::Planned;
use super::run::compute;
use super::spec::Job;
use super::{checks, settings};
use crate::Error;
use crate::engine::{CancelToken, EngineConfig, RunSummary};
use crate::input::check_unchanged;
use crate::plan::Plan;
use crate::storage::LocalBlob;

/// A target whose files can be put together.
pub(super) struct Unwritten {
    pub planned: Planned,
    /// The sources, and last what was computed of them.
    pub mappings: Vec<Arc<LocalBlob>>,
    pub config: EngineConfig,
    /// What quantising did.
    pub summary: RunSummary,
}

impl Unwritten {
    /// Plans a job. `cut`: what of its plan is wanted; `buffer`: bytes that each thread takes.
    pub(super) fn of(
        job: &Job,
        buffer: u64,
        cut: impl FnOnce(&mut Plan) -> Result<(), Error>,
        (observer, cancel): (&dyn Observer, &CancelToken),
    ) -> Result<Self, Error> {
        if job.runs_the_model() {
            return Err(Error::Usage(
                "only a target on a disk runs the model: gather the statistics with -f quant_weight and -dc DIR, and give their \
                 file with --stats"
                    .to_owned(),
            ));
        }
        let mut planned = Planned::make(job, observer)?;
        cut(&mut planned.conversion.plan)?;
        let plan = &planned.conversion.plan;
        let mut mappings = planned.opened.input().mappings();
        let chosen = settings::settle(&job.run.reading.requested(), &mappings, None);
        // A checksum of a file's own bytes takes one more.
        let sums = plan.outputs.iter().any(|file| file.layout.late().next().is_some());
        let buffers = chosen.config.workers as u64 * buffer * if sums { 2 } else { 1 };
        let memory = settings::memory(plan, &chosen.config).max(buffers);
        if memory > chosen.memory {
            return Err(Error::TooLittleMemory { needed: memory, allowed: chosen.memory });
        }
        checks::check(&planned, &chosen.config, observer, cancel)?;
        let mut summary = RunSummary::default();
        if !plan.passes.is_empty() {
            summary.quantised = compute(plan, &mut mappings, &chosen.config, (observer, cancel))?.errors;
        }
        // What is made from now on is made of what the sources still are.
        check_unchanged(&mappings)?;
        Ok(Self { planned, mappings, config: chosen.config, summary })
    }
}
