//! `-f distributed_weight_transfer` and `n-to-m`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::reading::{self, Read, Reading};
use super::target::{self, Strategies};
use super::{note, print, print_json};
use crate::Error;
use crate::cli::args::{ConvertArgs, FormatArg, Function, FusionArg, NToMArgs, PrecisionArg};
use crate::cli::{ExitStatus, config};
use crate::engine::{
    self, CancelToken, Durability, EngineConfig, EngineError, Leftovers, Publish, Published, Staging, Wishes,
};
use crate::formats::FormatKind;
use crate::input::{Input, RankGaps, load_model};
use crate::models::{FusionLayout, fused};
use crate::plan::{
    self, Arrangement, Compared, MAX_RANKS, Plan, PlanError, PlanOptions, Precision, TargetOptions, TargetRank,
};
use crate::report::{Progress, Provenance, Summary, manifest, plan_report};
use crate::source::Extents;
use crate::sys::{self, Mapping};

/// Replicas of at most this many bytes are always compared: the norms of any model.
const SMALL_REPLICA: u64 = 1 << 20;

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
        check_replicas: false,
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
    wishes: Wishes,
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
        if let Some(ranks) = args.world_size.filter(|&ranks| u64::from(ranks) > MAX_RANKS) {
            return Err(Error::Usage(format!("-w {ranks}: at most {MAX_RANKS} ranks")));
        }
        let Some(source) = args.src_ckpt_path.clone() else {
            return Err(Error::Usage("missing -sc (src_ckpt_path); see --help".to_owned()));
        };
        let durability = if args.no_sync { Durability::Cached } else { Durability::Synced };
        let weights = config::precision(precision)?;
        Ok(Self {
            weights,
            norms: args.norm_dtype.map_or(Ok(weights), config::precision)?,
            wishes: config::wishes(&args.run, durability)?,
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
    strategies: Option<Strategies>,
    /// What is compared before anything is written: replicas against what is used in their stead.
    replicas: (Plan, Vec<Vec<Extents>>),
    ignored: usize,
}

/// Plans, and unless it is a dry run, moves and publishes.
pub(in crate::cli) fn run(args: ConvertArgs) -> Result<ExitStatus, Error> {
    let request = Request::new(args)?;
    sys::raise_open_files_limit();
    let gaps = if request.args.src_strategy.is_some() { RankGaps::Allowed } else { RankGaps::Refused };
    let input = Input::open(&request.source, gaps, config::stable_inputs())?;
    let planned = plan(&request, &input)?;
    let free = check_targets(&request, &planned)?;
    let mappings = input.mappings();
    let chosen = config::settle(&request.wishes, &mappings, Some(&planned.target));
    let engine = chosen.config;
    let memory = engine.buffer_bytes() + sys::anonymous_memory().unwrap_or(0);
    let mut report = plan_report(&planned.plan, &planned.target.display().to_string(), free, memory);
    report.settings = chosen.settings;
    if request.args.dry_run {
        if request.args.run.json {
            print_json(&report);
        } else {
            print(&report.text());
        }
        return Ok(if report.fits { ExitStatus::Done } else { ExitStatus::Machine });
    }
    let needed = planned.plan.totals().written + planned.strategies.as_ref().map_or(0, Strategies::len);
    if free < needed {
        return Err(Error::NoRoom { dir: request.args.dst_ckpt_path.clone(), needed, free });
    }
    if memory > chosen.memory {
        return Err(Error::TooLittleMemory { needed: memory, allowed: chosen.memory });
    }
    if !request.args.no_crc_check {
        reading::check_crcs(&input, engine.workers)?;
    }
    check_replicas(&engine, &planned, &mappings)?;
    // Until here nothing is written, and a signal may end the program as it likes.
    let cancel = config::cancel_on_signal()?;
    let staging = Staging::new(&planned.target, request.publish(), request.durability)?;
    match staging.leftovers() {
        Leftovers::None => {}
        Leftovers::Removed => note("removed what an interrupted run had left"),
        Leftovers::Restored => note("put back the old target, which an interrupted run had left under another name"),
    }
    let summary = execute(&request, &engine, &planned, &mappings, staging, &cancel)?;
    if request.args.run.json {
        print_json(&summary);
    } else {
        print(&summary.text());
    }
    Ok(ExitStatus::Done)
}

/// Whether both targets may be made. Answers the bytes that are free where the checkpoint is to be.
fn check_targets(request: &Request, planned: &Planned) -> Result<u64, Error> {
    let args = &request.args;
    let mut targets = vec![planned.target.as_path()];
    targets.extend(planned.strategies.as_ref().map(Strategies::dir));
    let mut inputs = vec![request.source.as_path()];
    inputs.extend([&args.src_strategy, &args.dst_strategy].into_iter().flatten().map(PathBuf::as_path));
    target::keep_apart(&targets, &inputs)?;
    if let Some(strategies) = &planned.strategies {
        strategies.check(request.publish())?;
    }
    target::check(&planned.target, request.publish(), target::is_checkpoint_name)
}

/// Replicas must be what they are replicas of. Small ones are always compared, large ones on request.
fn check_replicas(engine: &EngineConfig, planned: &Planned, mappings: &[Arc<Mapping>]) -> Result<(), Error> {
    let (plan, places) = &planned.replicas;
    let none = CancelToken::default();
    let found = engine::compare(plan, mappings, mappings, places, engine, &engine::Noop, &none)?;
    let name = |d: &engine::Difference| {
        let file = &plan.outputs[d.file];
        format!("{} in {}", file.tensors[d.tensor].name, file.path)
    };
    if found.is_empty() { Ok(()) } else { Err(Error::ReplicasDiffer(found.iter().map(name).collect())) }
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
    let ranks = targets.len();
    let plan_options = plan_options(request, input.format, ranks)?;
    let layouts = plan::strategies(&catalog, &targets, &options);
    let name = format!("{}_{ranks}p", config::precision_name(request.precision));
    let suffix = if is_fused(&targets) { "_qkv" } else { "" };
    let plan = plan::build(&files, &catalog, targets, &plan_options)?;
    plan::prove(&plan)?;
    let at_most = if args.check_replicas { u64::MAX } else { SMALL_REPLICA };
    let replicas = plan::compare(Compared::Replicas { at_most }, &files, &catalog, &files, &catalog);
    plan::prove_covered(&replicas.0)?;
    let larger = catalog.replicas_above(at_most);
    if larger > 0 {
        note(&format!("{larger} replicas of large parameters are taken to be equal; --check-replicas compares them"));
    }
    Ok(Planned {
        strategies: Strategies::new(args.infer_strategy_file.join(&name).join("strategy"), ranks, &layouts),
        target: args.dst_ckpt_path.join(format!("{name}{suffix}")),
        ignored: catalog.ignored.len(),
        replicas,
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

/// Moves the bytes and publishes both: the strategies, then the checkpoint with its manifest. Neither without the other.
fn execute(
    request: &Request,
    engine: &EngineConfig,
    planned: &Planned,
    mappings: &[Arc<Mapping>],
    staging: Staging,
    cancel: &CancelToken,
) -> Result<Summary, Error> {
    let strategies = match &planned.strategies {
        Some(strategies) => strategies.stage(request.publish(), request.durability)?,
        None => None,
    };
    let progress = Progress::start(config::progress(&request.args.run), "converting");
    let begun = Instant::now();
    let result = engine::run(&planned.plan, mappings, staging.dir(), engine, &progress, cancel)?;
    staging.write("manifest.json", |to| manifest(&planned.plan, &result, &provenance(request), to))?;
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
    let mut summary = Summary::new(&planned.plan, &result, begun.elapsed(), peak);
    summary.target = planned.target.display().to_string();
    summary.strategies = planned.strategies.as_ref().map(|s| s.dir().display().to_string());
    summary.ignored = planned.ignored;
    Ok(summary)
}

/// The options that decide what is in the target.
fn provenance(request: &Request) -> Provenance {
    let args = &request.args;
    let path = |path: &Path| json!(path.display().to_string());
    let given = [
        ("function", Some(json!("distributed_weight_transfer"))),
        ("precision", Some(json!(config::precision_name(request.precision)))),
        ("source", Some(path(&request.source))),
        ("src_fusion", Some(json!(config::fusion(args.src_fusion).name()))),
        ("dst_fusion", Some(json!(config::fusion(args.dst_fusion).name()))),
        ("world_size", args.world_size.map(|w| json!(w))),
        ("yaml_path", args.yaml_path.as_ref().map(|y| json!(y))),
        ("src_strategy", args.src_strategy.as_deref().map(path)),
        ("dst_strategy", args.dst_strategy.as_deref().map(path)),
        ("norm_dtype", args.norm_dtype.map(|p| json!(config::precision_name(p)))),
        ("qkv_concat", args.qkv_concat.map(|b| json!(b))),
        ("vocab_emb_dp", args.vocab_emb_dp.map(|b| json!(b))),
        ("max_shard_size", args.max_shard_size.map(|size| json!(size.as_u64()))),
        ("crc", args.crc.then_some(json!(true))),
        ("no_padding", args.no_padding.then_some(json!(true))),
        ("ignore", (!args.ignore.is_empty()).then(|| json!(args.ignore))),
    ];
    Provenance { options: given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect() }
}
