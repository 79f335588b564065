//! The plan of `-f train_to_infer`: the shards of a training run straight to the ranks of an inference checkpoint.

use std::collections::BTreeSet;

use super::quantise::{self, quantises};
use super::request::Request;
use super::run::Planned;
use super::transfer::{Quantise, Sides, plan_from, unquantised};
use crate::Error;
use crate::cli::args::{ConvertArgs, LoraArg};
use crate::cli::commands::note;
use crate::cli::config::{self, Patterns};
use crate::input::{Input, StrategySource, load_lora_alpha};
use crate::job::reading;
use crate::plan::{self, Fate, PlanError, Sorted, Sorter, rank_count};

/// What is known of a training run before its shards are looked at.
pub(super) struct Trained {
    pub strategy: Option<StrategySource>,
    /// The alpha of adapters that are merged into their weights. `None`: they are not.
    pub merge_alpha: Option<f64>,
    keep: Patterns,
    drop: [Patterns; 2],
    lora_kept: bool,
    counters: BTreeSet<String>,
    sorted: Sorted,
}

impl Trained {
    /// Sorts the entries, and makes sure that every rank is there or others hold the same.
    pub(super) fn read(request: &Request, input: &Input) -> Result<Self, Error> {
        let args = &request.args;
        check_mode(args)?;
        let strategy =
            reading::strategy(args.train.train_strategy_file.as_deref().or(args.place.src_strategy.as_deref()))?;
        let files = input.source_files();
        check_stages(args, strategy.as_ref(), rank_count(&files))?;
        let mut trained = Self {
            strategy,
            merge_alpha: None,
            keep: Patterns::of("--keep", &args.train.keep)?,
            drop: [Patterns::new(&args.files.ignore)?, Patterns::of("--drop", &args.train.drop)?],
            lora_kept: matches!(args.train.lora, Some(LoraArg::Keep | LoraArg::Merge)),
            counters: plan::counters(&files),
            sorted: Sorted::default(),
        };
        let mut sorted = trained.with_sorter(|sorter| plan::sort_entries(&files, sorter));
        note_counters(&sorted);
        if !sorted.unknown.is_empty() {
            return Err(PlanError::UnknownEntries(std::mem::take(&mut sorted.unknown).into_iter().collect()).into());
        }
        if !sorted.lora.is_empty() {
            match args.train.lora {
                None => return Err(PlanError::Adapters(sorted.lora.into_iter().collect()).into()),
                Some(LoraArg::Merge) => trained.merge_alpha = Some(alpha(args)?),
                Some(LoraArg::Keep | LoraArg::Drop) => {}
            }
        }
        trained.sorted = sorted;
        if let Some(strategy) = &trained.strategy {
            plan::check_ranks(&files, &strategy.set, |name| !trained.leaves_out(name))?;
        }
        Ok(trained)
    }

    /// Whether the user says that it is left out.
    fn is_dropped(&self, name: &str) -> bool {
        self.drop.iter().any(|patterns| patterns.matches(name))
    }

    fn with_sorter<T>(&self, ask: impl FnOnce(&Sorter<'_>) -> T) -> T {
        let drop = |name: &str| self.is_dropped(name);
        ask(&Sorter { counters: &self.counters, keep: &|name| self.keep.matches(name), drop: &drop })
    }

    /// Whether an entry does not go to the target, neither by itself nor in another.
    pub(super) fn leaves_out(&self, name: &str) -> bool {
        match self.with_sorter(|sorter| sorter.fate(name)) {
            Fate::Model => false,
            Fate::Lora => !self.lora_kept,
            Fate::Dropped | Fate::Training(_) | Fate::Unknown => true,
        }
    }

    /// Notes in the plan what was left out, and why.
    pub(super) fn account(self, planned: &mut Planned) {
        let lora_dropped = if self.lora_kept { 0 } else { self.sorted.lora.len() };
        planned.ignored = self.sorted.dropped + lora_dropped;
        planned.training_state = self.sorted.training;
    }
}

/// Says which entries were taken for counters though no rule names them.
pub(super) fn note_counters(sorted: &Sorted) {
    if !sorted.counters.is_empty() {
        note(&format!("single values that no layer owns were left out as counters: {}", plan::list(&sorted.counters)));
    }
}

/// Plans a conversion from a training run, all of whose stages are read at once.
pub(super) fn plan(request: &Request, input: &Input) -> Result<Planned, Error> {
    let args = &request.args;
    let trained = Trained::read(request, input)?;
    let named = reading::strategy(args.place.dst_strategy.as_deref())?;
    let strategy = trained.strategy.as_ref();
    if args.train.strip_only && (named.is_some() || strategy.is_none() && args.what.world_size.is_some_and(|w| w != 1))
    {
        return Err(Error::Usage("--strip-only writes the ranks of the source: leave -w and -ds out".to_owned()));
    }
    let target = if args.train.strip_only { strategy } else { named.as_ref() };
    let (ignore, merge_alpha) = (|name: &str| trained.leaves_out(name), trained.merge_alpha);
    let asked_out = |name: &str| trained.is_dropped(name);
    let quantiser = quantises(request.precision).map(|_| quantise::quantiser(request)).transpose()?;
    let quantise: &Quantise<'_> = match &quantiser {
        Some(quantise) => quantise,
        None => &unquantised,
    };
    let sides = Sides { source: strategy, target, ignore: &ignore, asked_out: &asked_out, merge_alpha, quantise };
    let mut planned = plan_from(request, input, &sides)?;
    if args.train.strip_only {
        let ranks = strategy.map_or(1, |s| s.set.ranks());
        let name = format!("{}_{ranks}p_stripped", config::precision_name(request.precision));
        planned.target = args.place.dst_ckpt_path.join(name);
        planned.strategies = None;
    }
    trained.account(&mut planned);
    Ok(planned)
}

/// The original has two modes, of which each leaves some checkpoints to the other; here one way does for all.
fn check_mode(args: &ConvertArgs) -> Result<(), Error> {
    match args.train.train_to_infer_mode.as_deref() {
        None => {}
        Some(mode @ ("1" | "2")) => note(&format!("-tm {mode}: modes 1 and 2 give the same result")),
        Some(other) => return Err(Error::Usage(format!("-tm {other}: give 1 or 2 (both give the same result)"))),
    }
    Ok(())
}

/// The alpha of the adapters: no checkpoint tells it.
fn alpha(args: &ConvertArgs) -> Result<f64, Error> {
    let stated = match (args.train.lora_alpha, args.layout.yaml_path.as_deref()) {
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
        None => {
            return Err(Error::Usage(
                "missing: -ts, the strategy of the training run, which a source of several ranks needs".to_owned(),
            ));
        }
    };
    if let Some(asked) = args.train.pipeline_stage.filter(|&asked| usize::try_from(asked) != Ok(stages)) {
        return Err(Error::Usage(format!("-pp {asked}: the training strategy has {stages} pipeline stage(s)")));
    }
    Ok(())
}
