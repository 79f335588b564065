//! The recipe of `-f quant_weight`: from n unquantised ranks to m quantised ones.

use super::case::Case;
use super::left_out::LeftOut;
use super::planner::{Conversion, Facts};
use super::quantiser::Quantiser;
use super::reading;
use super::statistics::Gathering;
use crate::Error;

/// Plans it. `gathering`: whether the model is run for the statistics that it needs, or placeholders are used.
pub(super) fn plan(case: &Case<'_>, gathering: Gathering<'_>) -> Result<Conversion, Error> {
    let job = case.job;
    let mut quantiser = Quantiser::of(case)?;
    let strategy = reading::strategy(job.source.strategy.as_deref(), job.run.reading.memory)?;
    let target = reading::strategy(job.target.strategy.as_deref(), job.run.reading.memory)?;
    let files = case.input().source_files();
    let facts = Facts::for_ranks(case, &files, LeftOut::as_asked(case)?, strategy.as_ref(), target)?;
    if job.runs_the_model() {
        quantiser.statistics = Some(gathering.statistics(&facts)?);
    }
    facts.over_ranks(Some(&quantiser))
}
