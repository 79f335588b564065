//! The recipe of `-f distributed_weight_transfer`: from n ranks to m.

use super::case::Case;
use super::left_out::LeftOut;
use super::planner::{Conversion, Facts, check_precision};
use super::reading;
use crate::Error;

/// Plans it.
pub(super) fn plan(case: &Case<'_>) -> Result<Conversion, Error> {
    let job = case.job;
    let strategy = reading::strategy(job.source.strategy.as_deref(), job.run.reading.memory)?;
    let target = reading::strategy(job.target.strategy.as_deref(), job.run.reading.memory)?;
    let files = case.input().source_files();
    let left_out = LeftOut::as_asked(case)?;
    if case.beside.copied {
        let facts = Facts::of_copies(case, &files, left_out)?;
        check_precision(job.precision, &facts.catalog)?;
        return facts.copied();
    }
    let facts = Facts::for_ranks(case, &files, left_out, strategy.as_ref(), target)?;
    check_precision(job.precision, &facts.catalog)?;
    facts.over_ranks(None)
}
