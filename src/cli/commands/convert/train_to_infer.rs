//! The plan of `-f train_to_infer`: the shards of a training run straight to the ranks of an inference checkpoint.

use super::transfer::{Sides, plan_from, unquantised};
use super::{Planned, Request};
use crate::Error;
use crate::cli::args::{ConvertArgs, LoraArg};
use crate::cli::commands::{note, reading};
use crate::cli::config::{self, Patterns};
use crate::input::{Input, StrategySource, load_lora_alpha};
use crate::plan::{self, Fate, PlanError, Sorter, rank_count};

/// Plans a conversion from a training run, all of whose stages are read at once.
pub(super) fn plan(request: &Request, input: &Input) -> Result<Planned, Error> {
    let args = &request.args;
    check_mode(args)?;
    let strategy = reading::strategy(args.train_strategy_file.as_deref().or(args.src_strategy.as_deref()))?;
    let files = input.source_files();
    check_stages(args, strategy.as_ref(), rank_count(&files))?;
    let (keep, ignore, drop) = (
        Patterns::of("--keep", &args.train.keep)?,
        Patterns::new(&args.ignore)?,
        Patterns::of("--drop", &args.train.drop)?,
    );
    let sorter = Sorter { keep: &|name| keep.matches(name), drop: &|name| ignore.matches(name) || drop.matches(name) };
    let sorted = plan::sort_entries(&files, &sorter);
    if !sorted.unknown.is_empty() {
        return Err(PlanError::UnknownEntries(sorted.unknown.into_iter().collect()).into());
    }
    if !sorted.lora.is_empty() {
        match args.train.lora {
            None => return Err(PlanError::Adapters(sorted.lora.into_iter().collect()).into()),
            Some(LoraArg::Merge | LoraArg::Keep | LoraArg::Drop) => {}
        }
    }
    let merge_alpha = match args.train.lora {
        Some(LoraArg::Merge) if !sorted.lora.is_empty() => Some(alpha(args)?),
        _ => None,
    };
    let lora_kept = matches!(args.train.lora, Some(LoraArg::Keep | LoraArg::Merge));
    let kept = |name: &str| match sorter.fate(name) {
        Fate::Model => true,
        Fate::Lora => lora_kept,
        Fate::Dropped | Fate::Training(_) | Fate::Unknown => false,
    };
    if let Some(strategy) = &strategy {
        plan::check_ranks(&files, &strategy.set, kept)?;
    }
    let named = reading::strategy(args.dst_strategy.as_deref())?;
    if args.train.strip_only && (named.is_some() || strategy.is_none() && args.world_size.is_some_and(|w| w != 1)) {
        return Err(Error::Usage("--strip-only writes the ranks of the source: leave -w and -ds out".to_owned()));
    }
    let target = if args.train.strip_only { strategy.as_ref() } else { named.as_ref() };
    let ignore = |name: &str| !kept(name);
    let mut planned = plan_from(
        request,
        input,
        &Sides { source: strategy.as_ref(), target, ignore: &ignore, merge_alpha, quantise: &unquantised },
    )?;
    let lora_dropped = if lora_kept { 0 } else { sorted.lora.len() };
    planned.ignored = sorted.dropped + lora_dropped;
    planned.training_state = sorted.training;
    if args.train.strip_only {
        let ranks = strategy.as_ref().map_or(1, |s| s.set.ranks());
        let name = format!("{}_{ranks}p_stripped", config::precision_name(request.precision));
        planned.target = args.dst_ckpt_path.join(name);
        planned.strategies = None;
    }
    Ok(planned)
}

/// The original has two modes, of which each leaves some checkpoints to the other; here one way does for all.
fn check_mode(args: &ConvertArgs) -> Result<(), Error> {
    match args.train_to_infer_mode.as_deref() {
        None => {}
        Some(mode @ ("1" | "2")) => note(&format!("-tm {mode}: modes 1 and 2 give the same result")),
        Some(other) => return Err(Error::Usage(format!("-tm {other}: 1 or 2 (both give the same result)"))),
    }
    Ok(())
}

/// The alpha of the adapters: no checkpoint tells it.
fn alpha(args: &ConvertArgs) -> Result<f64, Error> {
    let stated = match (args.train.lora_alpha, args.yaml_path.as_deref()) {
        (Some(alpha), _) => Some(alpha),
        (None, Some(yaml)) => load_lora_alpha(yaml)?,
        (None, None) => None,
    };
    let usable = stated.filter(|alpha| alpha.is_finite());
    usable
        .ok_or_else(|| Error::Usage("--lora merge needs --lora-alpha, or a yaml with pet_config.lora_alpha".to_owned()))
}

/// The number of stages is the strategy's; whoever states another is mistaken about the run.
fn check_stages(args: &ConvertArgs, strategy: Option<&StrategySource>, ranks: u32) -> Result<(), Error> {
    let stages = match strategy {
        Some(strategy) => strategy.set.stages().len(),
        None if ranks == 1 => 1,
        None => return Err(Error::Usage("missing -ts (train_strategy_file); see --help".to_owned())),
    };
    if let Some(asked) = args.pipeline_stage.filter(|&asked| usize::try_from(asked) != Ok(stages)) {
        return Err(Error::Usage(format!("-pp {asked}: the training strategy has {stages} pipeline stage(s)")));
    }
    Ok(())
}
