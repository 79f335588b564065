//! Moving the bytes, and publishing what was made.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::provenance::provenance;
use super::{Planned, Request, shared};
use crate::Error;
use crate::cli::commands::note;
use crate::cli::config;
use crate::cluster::plan_id;
use crate::engine::{self, CancelToken, EngineConfig, EngineError, Published, QuantError, RunSummary, Staging};
use crate::report::{Progress, Summary, manifest};
use crate::sys::Mapping;

/// Moves the bytes and publishes both: the strategies, then the checkpoint with its manifest. Neither without the other.
pub(super) fn execute(
    request: &Request,
    engine_config: &EngineConfig,
    planned: &Planned,
    mappings: &[Arc<Mapping>],
    (staging, errors): (Staging, Vec<QuantError>),
    cancel: &CancelToken,
) -> Result<Summary, Error> {
    let strategies = match &planned.strategies {
        Some(strategies) => strategies.stage(request.publish(), request.durability)?,
        None => None,
    };
    let progress = Progress::start(config::progress(&request.args.run), "converting");
    let begun = Instant::now();
    let mut result = engine::run(&planned.plan, mappings, staging.dir(), engine_config, &progress, cancel)?;
    result.quantised = errors;
    let plan_id = plan_id(&planned.plan, &shared::sources(mappings));
    let provenance = provenance(request, &plan_id, &planned.choices);
    staging.write("manifest.json", |to| manifest(&planned.plan, &result, &provenance, to))?;
    let peak = progress.finish();
    if cancel.is_cancelled() {
        return Err(EngineError::Cancelled.into());
    }
    let strategies = strategies.map(Staging::publish).transpose()?;
    match staging.publish() {
        Ok(checkpoint) => {
            for stuck in [Some(checkpoint), strategies].into_iter().flatten().filter_map(Published::keep) {
                note(&format!("{} was replaced but could not be removed", stuck.display()));
            }
        }
        Err(e) => {
            if let Some(strategies) = strategies {
                strategies.undo();
            }
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
