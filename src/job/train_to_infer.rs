//! The recipe of `-f train_to_infer`: the shards of a training run, all of whose stages are read at once, straight to the ranks
//! of an inference checkpoint.

use super::case::Case;
use super::choices::Lora;
use super::left_out::LeftOut;
use super::planner::{Conversion, Facts};
use super::quantiser::Quantiser;
use super::reading;
use super::spec::Job;
use crate::Error;
use crate::input::{StrategySource, load_lora_alpha};
use crate::plan::{SourceFile, rank_count};

/// Plans it.
pub(super) fn plan(case: &Case<'_>) -> Result<Conversion, Error> {
    let job = case.job;
    let files = case.input().source_files();
    let strategy = strategy(case, &files)?;
    let left_out = LeftOut::of_run(case, &files, strategy.as_ref())?;
    let merged = merged(job, &left_out)?;
    let quantiser = if job.is_quantising() { Some(Quantiser::of(case)?) } else { None };
    let named = reading::strategy(job.target.strategy.as_deref(), job.run.reading.memory)?;
    let target = if job.target.strip_only { strategy.clone() } else { named };
    let mut facts = Facts::for_ranks(case, &files, left_out, strategy.as_ref(), target)?;
    if let Some(alpha) = merged {
        facts.catalog.merge_adapters(alpha)?;
    }
    let mut conversion = facts.over_ranks(quantiser.as_ref())?;
    if job.target.strip_only {
        let ranks = strategy.map_or(1, |s| s.set.ranks());
        conversion.target = job.target.dir.join(format!("{}_{ranks}p_stripped", job.precision));
        conversion.strategies = None;
    }
    Ok(conversion)
}

/// The strategy of the training run. The number of stages is the strategy's; a user who states another is mistaken about the run.
pub(super) fn strategy(case: &Case<'_>, files: &[SourceFile<'_>]) -> Result<Option<StrategySource>, Error> {
    let source = &case.job.source;
    if let Some(mode) = &source.mode {
        case.note(&format!("-tm {mode}: modes 1 and 2 give the same result"));
    }
    let strategy = reading::strategy(case.job.train_strategy(), case.job.run.reading.memory)?;
    let stages = match &strategy {
        Some(strategy) => strategy.set.stages().len(),
        None if rank_count(files) == 1 => 1,
        None => {
            return Err(Error::Usage(
                "missing: -ts, the strategy of the training run, which a source of several ranks needs".to_owned(),
            ));
        }
    };
    if let Some(asked) = source.stages.filter(|&asked| usize::try_from(asked) != Ok(stages)) {
        return Err(Error::Usage(format!("-pp {asked}: the training strategy has {stages} pipeline stage(s)")));
    }
    Ok(strategy)
}

/// The alpha of adapters that are merged into their weights, which no checkpoint states. `None`: none are.
pub(super) fn merged(job: &Job, left_out: &LeftOut) -> Result<Option<f64>, Error> {
    if job.edits.lora != Some(Lora::Merge) || !left_out.has_adapters() {
        return Ok(None);
    }
    let stated = match (job.edits.lora_alpha, job.model.yaml.as_deref()) {
        (Some(alpha), _) => Some(alpha),
        (None, Some(yaml)) => load_lora_alpha(yaml)?,
        (None, None) => None,
    };
    let usable = stated.filter(|alpha| alpha.is_finite());
    usable
        .map(Some)
        .ok_or_else(|| Error::Usage("--lora merge needs --lora-alpha, or a yaml with pet_config.lora_alpha".to_owned()))
}
