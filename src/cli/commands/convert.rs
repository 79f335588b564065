//! `-f distributed_weight_transfer` and `n-to-m`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::reading::{self, Read, Reading};
use super::target;
use super::{note, print, print_json};
use crate::Error;
use crate::cli::args::{ConvertArgs, FormatArg, Function, FusionArg, NToMArgs, PrecisionArg};
use crate::cli::{ExitStatus, config};
use crate::engine::{self, CancelToken, Durability, EngineConfig, Publish, RunSummary, Staging};
use crate::formats::FormatKind;
use crate::input::{Input, load_model};
use crate::layout::TensorLayout;
use crate::models::{FusionLayout, fused};
use crate::plan::{self, Arrangement, Plan, PlanError, PlanOptions, Precision, TargetOptions, TargetRank};
use crate::report::{Progress, Provenance, Summary, manifest, plan_report};
use crate::sys::Mapping;

/// The simplified form, with the defaults that the original README names.
pub(in crate::cli) fn n_to_m(args: NToMArgs) -> Result<ExitStatus, Error> {
    let place = |kind: &str| PathBuf::from(format!("../{kind}/llama2_7b/qkv/{}_llama-2-7b", args.world_size));
    run(ConvertArgs {
        function: Some(Function::DistributedWeightTransfer),
        precision: Some(args.precision),
        world_size: Some(args.world_size),
        yaml_path: Some(args.yaml_path),
        src_ckpt_path: Some(args.src_ckpt_path),
        infer_strategy_file: args.infer_strategy_file.unwrap_or_else(|| match &args.dst_ckpt_path {
            Some(dst) => dst.join(format!("strategy/llama2_7b/qkv/{}_llama-2-7b", args.world_size)),
            None => place("strategy"),
        }),
        dst_ckpt_path: args.dst_ckpt_path.unwrap_or_else(|| place("ckpt")),
        src_strategy: None,
        dst_strategy: None,
        src_fusion: FusionArg::RankConcat,
        dst_fusion: FusionArg::RankConcat,
        qkv_concat: Some(true),
        vocab_emb_dp: None,
        norm_dtype: None,
        format: None,
        max_shard_size: None,
        crc: false,
        no_crc_check: false,
        no_padding: false,
        ignore: Vec::new(),
        dry_run: args.dry_run,
        overwrite: args.overwrite,
        no_sync: false,
        train_strategy_file: None,
        pipeline_stage: None,
        train_to_infer_mode: None,
        dataset_name: None,
        dataset_path: None,
        run: args.run,
    })
}

/// What was typed, as far as it must be there.
struct Request {
    args: ConvertArgs,
    source: PathBuf,
    precision: PrecisionArg,
    weights: Precision,
    norms: Precision,
    durability: Durability,
    config: EngineConfig,
}

impl Request {
    fn new(args: ConvertArgs) -> Result<Self, Error> {
        let (Some(function), Some(precision)) = (args.function, args.precision) else {
            return Err(Error::Usage("missing -f (function) or -p (precision); see --help".to_owned()));
        };
        let not_built = match function {
            Function::DistributedWeightTransfer => None,
            Function::TrainToInfer => Some("-f train_to_infer"),
            Function::QuantWeight => Some("-f quant_weight"),
            Function::PtToMs => Some("-f pt_to_ms"),
        };
        if let Some(name) = not_built {
            return Err(Error::NotBuilt(name.to_owned()));
        }
        if args.world_size.is_none() && args.dst_strategy.is_none() {
            return Err(Error::Usage("missing -w (world_size); see --help".to_owned()));
        }
        if args.world_size == Some(0) {
            return Err(Error::Usage("-w 0: a checkpoint has at least one rank".to_owned()));
        }
        let Some(source) = args.src_ckpt_path.clone() else {
            return Err(Error::Usage("missing -sc (src_ckpt_path); see --help".to_owned()));
        };
        let durability = if args.no_sync { Durability::Cached } else { Durability::Synced };
        let weights = config::precision(precision)?;
        Ok(Self {
            weights,
            norms: args.norm_dtype.map_or(Ok(weights), config::precision)?,
            config: config::engine(&args.run, durability)?,
            source,
            precision,
            durability,
            args,
        })
    }

    fn publish(&self) -> Publish {
        if self.args.overwrite { Publish::Replace } else { Publish::New }
    }
}

/// A plan and what belongs to it.
struct Planned {
    plan: Plan,
    target: PathBuf,
    strategy_dir: PathBuf,
    strategies: Vec<(String, TensorLayout)>,
    ranks: usize,
    ignored: usize,
}

/// Plans, and unless it is a dry run, moves and publishes.
pub(in crate::cli) fn run(args: ConvertArgs) -> Result<ExitStatus, Error> {
    let request = Request::new(args)?;
    let cancel = config::cancel_on_signal()?;
    let input = Input::open(&request.source, config::stable_inputs())?;
    let planned = plan(&request, &input)?;
    target::keep_apart(&planned.target, &request.source)?;
    let needed = planned.plan.totals().written;
    if request.args.dry_run {
        let free = target::free_bytes(&planned.target)?;
        let report =
            plan_report(&planned.plan, &planned.target.display().to_string(), Some(free), request.config.memory);
        if request.args.run.json {
            print_json(&report);
        } else {
            print(&report.text());
        }
        return Ok(if report.fits == Some(false) { ExitStatus::Machine } else { ExitStatus::Done });
    }
    if request.args.overwrite {
        target::replaceable(&planned.target, target::is_checkpoint_name)?;
    }
    let staging = Staging::new(&planned.target, request.publish(), request.durability)?;
    if staging.removed_leftovers() {
        note("removed what an interrupted run had left");
    }
    let free = target::free_bytes(&planned.target)?;
    if free < needed {
        return Err(Error::NoRoom { dir: request.args.dst_ckpt_path.clone(), needed, free });
    }
    if !request.args.no_crc_check {
        reading::check_crcs(&input, request.config.workers)?;
    }
    let summary = execute(&request, &planned, &input.mappings(), staging, &cancel)?;
    if request.args.run.json {
        print_json(&summary);
    } else {
        print(&summary.text());
    }
    Ok(ExitStatus::Done)
}

fn plan(request: &Request, input: &Input) -> Result<Planned, Error> {
    let args = &request.args;
    let named = args.yaml_path.as_deref().map(load_model).transpose()?;
    let source_strategy = reading::strategy(args.src_strategy.as_deref())?;
    let target_strategy = reading::strategy(args.dst_strategy.as_deref())?;
    let (src_fusion, dst_fusion) = (config::fusion(args.src_fusion), config::fusion(args.dst_fusion));
    let ignore = config::Patterns::new(&args.ignore)?;
    let files = input.source_files();
    let Read { catalog, spec, inferred } = reading::read(
        &files,
        &Reading {
            spec: named.as_ref(),
            strategy: source_strategy.as_ref(),
            fusion: src_fusion,
            other_grouped: dst_fusion == FusionLayout::Grouped,
            ignore: &|name| ignore.matches(name),
        },
    )?;
    if let Some(inferred) = inferred {
        note(&inferred);
    }
    let arrangement = match &target_strategy {
        Some(strategy) => {
            let ranks = args.world_size.map(u64::from).filter(|ranks| *ranks != strategy.set.ranks());
            if let Some(ranks) = ranks {
                return Err(PlanError::StrategyRanks { side: "target", strategy: strategy.set.ranks(), ranks }.into());
            }
            Arrangement::Strategy(&strategy.set)
        }
        None => Arrangement::Rules(args.world_size.map_or(1, u64::from)),
    };
    let asked = args.qkv_concat.or_else(|| named.as_ref().and_then(|spec| spec.fused));
    let whole = args.vocab_emb_dp.or_else(|| named.as_ref().map(|spec| spec.vocabulary_whole));
    let options = TargetOptions {
        spec: spec.as_ref(),
        arrangement,
        fusion: dst_fusion,
        fused: asked.unwrap_or(catalog.fused),
        vocabulary_whole: whole.unwrap_or(catalog.vocabulary_whole.unwrap_or(false)),
    };
    let targets = plan::targets(&catalog, &files, &options)?;
    let plan_options = plan_options(request, input.format, targets.len())?;
    let plan = plan::build(&files, &catalog, &targets, &plan_options)?;
    plan::prove(&plan)?;
    let name = format!("{}_{}p", config::precision_name(request.precision), targets.len());
    let suffix = if is_fused(&targets) { "_qkv" } else { "" };
    Ok(Planned {
        strategies: plan::strategies(&catalog, &targets, &options),
        strategy_dir: args.infer_strategy_file.join(&name).join("strategy"),
        target: args.dst_ckpt_path.join(format!("{name}{suffix}")),
        ranks: targets.len(),
        ignored: catalog.ignored.len(),
        plan,
    })
}

fn is_fused(targets: &[TargetRank]) -> bool {
    targets.iter().flat_map(|t| &t.entries).any(|e| fused(&e.name).is_some_and(|f| *f.name == *e.name))
}

fn plan_options(request: &Request, source: FormatKind, ranks: usize) -> Result<PlanOptions, Error> {
    let args = &request.args;
    let format = match args.format {
        None => source,
        Some(FormatArg::Ckpt) => FormatKind::Ckpt,
        Some(FormatArg::Safetensors) => FormatKind::Safetensors,
    };
    if args.max_shard_size.is_some() && (ranks != 1 || format != FormatKind::Safetensors) {
        return Err(Error::Usage("--max-shard-size goes with -w 1 and --format safetensors".to_owned()));
    }
    if args.crc && format != FormatKind::Ckpt {
        return Err(Error::Usage("--crc goes with --format ckpt".to_owned()));
    }
    Ok(PlanOptions {
        precision: request.weights,
        norms: request.norms,
        format,
        crc: args.crc,
        padding: !args.no_padding,
        shard_bytes: args.max_shard_size.map(|size| size.as_u64()),
    })
}

/// Moves the bytes and publishes: first the strategies, then the checkpoint with its manifest.
fn execute(
    request: &Request,
    planned: &Planned,
    mappings: &[Arc<Mapping>],
    staging: Staging,
    cancel: &CancelToken,
) -> Result<Summary, Error> {
    let strategies = if planned.strategies.is_empty() {
        None
    } else {
        let (dir, layouts) = (&planned.strategy_dir, &planned.strategies);
        target::stage_strategies(dir, planned.ranks, layouts, request.publish(), request.durability)?
    };
    let progress = Progress::start(config::progress(&request.args.run), "converting");
    let begun = Instant::now();
    let result = engine::run(&planned.plan, mappings, staging.dir(), &request.config, &progress, cancel);
    let peak = progress.finish();
    let result: RunSummary = result?;
    staging.write("manifest.json", &manifest(&planned.plan, &result, &provenance(request)))?;
    if let Some(strategies) = strategies {
        strategies.publish()?;
    }
    staging.publish()?;
    let mut summary = Summary::new(&planned.plan, &result, begun.elapsed(), peak);
    summary.target = planned.target.display().to_string();
    summary.strategies = (!planned.strategies.is_empty()).then(|| planned.strategy_dir.display().to_string());
    summary.ignored = planned.ignored;
    Ok(summary)
}

/// The options that decide what is in the target.
fn provenance(request: &Request) -> Provenance {
    let args = &request.args;
    let path = |path: &Path| path.display().to_string();
    let mut options = vec![
        ("function".to_owned(), "distributed_weight_transfer".to_owned()),
        ("precision".to_owned(), config::precision_name(request.precision)),
        ("source".to_owned(), path(&request.source)),
        ("src_fusion".to_owned(), config::fusion(args.src_fusion).to_string()),
        ("dst_fusion".to_owned(), config::fusion(args.dst_fusion).to_string()),
    ];
    let given = [
        ("world_size", args.world_size.map(|w| w.to_string())),
        ("yaml_path", args.yaml_path.clone()),
        ("src_strategy", args.src_strategy.as_deref().map(path)),
        ("dst_strategy", args.dst_strategy.as_deref().map(path)),
        ("norm_dtype", args.norm_dtype.map(config::precision_name)),
        ("qkv_concat", args.qkv_concat.map(|b| b.to_string())),
        ("vocab_emb_dp", args.vocab_emb_dp.map(|b| b.to_string())),
        ("ignore", (!args.ignore.is_empty()).then(|| args.ignore.join(" "))),
    ];
    options.extend(given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    Provenance { options }
}
