//! Moving the bytes, and publishing what was made.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::provenance::provenance;
use super::request::Request;
use super::run::Planned;
use super::{shared, targets};
use crate::Error;
use crate::cli::commands::{note, print, print_json};
use crate::cli::{ExitStatus, config};
use crate::cluster::plan_id;
use crate::engine::{self, CancelToken, EngineConfig, EngineError, Published, QuantError, Ready, RunSummary, Staging};
use crate::input::MANIFEST;
use crate::job::reading;
use crate::job::target::Strategies;
use crate::report::{Progress, Summary, manifest};
use crate::sys::Mapping;

/// Moves the bytes and publishes both: the checkpoint with its manifest, then the strategies that it names, both flushed before.
/// Where the second fails the first is taken back. A run that is killed between the two leaves a checkpoint whose manifest says
/// which strategies belong to it; the next one publishes those.
pub(super) fn execute(
    request: &Request,
    engine_config: &EngineConfig,
    planned: &Planned,
    mappings: &[Arc<Mapping>],
    (mut staging, errors): (Staging, Vec<QuantError>),
    cancel: &CancelToken,
) -> Result<Summary, Error> {
    let strategies = match &planned.strategies {
        Some(strategies) => strategies.stage(request.publish(), request.durability)?,
        None => None,
    };
    let progress = Progress::start(config::progress(&request.args.output), "converting");
    let begun = Instant::now();
    let result = engine::run(&planned.plan, mappings, staging.dir()?, engine_config, &progress, cancel);
    let mut result = result.map_err(|e| staging.explain(e))?;
    result.quantised = errors;
    let plan_id = plan_id(&planned.plan, &shared::sources(mappings));
    let mut provenance = provenance(request, &plan_id, &planned.choices);
    provenance.strategies = planned.strategies.as_ref().map(Strategies::sum);
    reading::check_unchanged(mappings)?;
    staging.write(MANIFEST, |to| manifest(&planned.plan, &result, &provenance, to))?;
    let peak = progress.finish();
    if cancel.is_cancelled() {
        return Err(EngineError::Cancelled.into());
    }
    targets::check_again(request, planned)?;
    let strategies = strategies.map(|staged| staged.ready(Vec::new())).transpose()?;
    let checkpoint = staging.ready(std::mem::take(&mut result.files))?.publish()?;
    match strategies.map(Ready::publish).transpose() {
        Ok(strategies) => {
            for stuck in [Some(checkpoint), strategies].into_iter().flatten().filter_map(Published::keep) {
                note(&format!("{} was replaced but could not be removed", stuck.display()));
            }
        }
        Err(e) => {
            checkpoint.undo();
            return Err(e.into());
        }
    }
    Ok(summary(planned, &result, begun.elapsed(), peak))
}

/// What a finished run did, whether one host did it or several.
pub(super) fn summary(planned: &Planned, result: &RunSummary, time: Duration, peak: u64) -> Summary {
    let mut summary = Summary::new(&planned.plan, result, time, peak);
    summary.target = planned.target.display().to_string();
    summary.strategies = planned.strategies.as_ref().map(|s| s.dir().display().to_string());
    summary.ignored = planned.ignored;
    summary.training_state = planned.training_state.iter().map(|(rule, n)| ((*rule).to_owned(), *n)).collect();
    summary.choices.clone_from(&planned.choices);
    summary
}

/// Prints what was done. Where that fails, the target is there all the same.
pub(super) fn report(request: &Request, target: &Path, summary: &Summary) -> Result<ExitStatus, Error> {
    let printed = if request.args.output.json { print_json(summary) } else { print(&summary.text()) };
    match printed {
        Ok(()) => Ok(ExitStatus::Done),
        Err(Error::Output { source, .. }) => Err(Error::Output { published: Some(target.to_owned()), source }),
        Err(e) => Err(e),
    }
}
