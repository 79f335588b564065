//! Conversions: `-f` and `n-to-m`. Plans, and unless it is a dry run, moves and publishes.

#[cfg(feature = "calibrate")]
mod calibrate;
mod foreign;
mod hosts;
mod publish;
mod quantise;
mod request;
mod shared;
mod train_to_infer;
mod transfer;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use self::hosts::Hosts;
use self::request::Request;
use super::reading::{self, Opened};
use super::target::{self, Strategies};
use super::{note, print, print_json};
use crate::Error;
use crate::cli::args::{
    CalibrateArgs, CkptRecordsArg, ConvertArgs, Function, FusionArg, NToMArgs, NamesArg, TrainArgs,
};
use crate::cli::{ExitStatus, config};
use crate::cluster::{EarlyFailures, Environment, Role};
use crate::engine::{self, CancelToken, EngineConfig, Leftovers, Staging};
use crate::input::{ForeignInput, Input, InputError, Provenance, RankGaps, provenance};
use crate::models::foreign::{Origin, recognise};
use crate::models::fused;
use crate::plan::{Computed, Plan, TargetRank};
use crate::report::plan_report;
use crate::source::Extents;
use crate::sys::{self, Mapping};

/// The simplified form, with the defaults that the original README names.
pub(in crate::cli) fn n_to_m(args: NToMArgs, env: &Environment) -> Result<ExitStatus, Error> {
    let place = |kind: &str| PathBuf::from(format!("../{kind}/llama2_7b/qkv/{}_llama-2-7b", args.world_size));
    let args = ConvertArgs {
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
        heads: None,
        kv_heads: None,
        tie_word_embeddings: None,
        qkv_concat: Some(true),
        vocab_emb_dp: None,
        norm_dtype: None,
        format: None,
        max_shard_size: None,
        hf_config: None,
        crc: false,
        no_crc_check: false,
        ckpt_records: CkptRecordsArg::Aligned,
        ignore: Vec::new(),
        check_replicas: false,
        dry_run: args.dry_run,
        overwrite: args.overwrite,
        no_sync: false,
        train_strategy_file: None,
        pipeline_stage: None,
        train_to_infer_mode: None,
        train: TrainArgs::default(),
        dataset_name: None,
        dataset_path: None,
        calibrate: CalibrateArgs::default(),
        names: NamesArg::Gs06,
        group_size: None,
        stats: None,
        alpha: 0.5,
        no_smooth: false,
        keep_float: Vec::new(),
        run: args.run,
        cluster: args.cluster,
    };
    run(args, env)
}

/// A plan and what belongs to it.
struct Planned {
    plan: Plan,
    target: PathBuf,
    strategies: Option<Strategies>,
    /// What is compared before anything is written: replicas against what is used in their stead.
    replicas: (Plan, Vec<Vec<Extents>>),
    ignored: usize,
    /// Entries of training state that are left out: the beginning of the name, and how many.
    training_state: BTreeMap<&'static str, usize>,
}

fn is_fused(targets: &[TargetRank]) -> bool {
    targets.iter().flat_map(|t| &t.entries).any(|e| fused(&e.name).is_some_and(|f| *f.name == *e.name))
}

/// Plans, and unless it is a dry run, moves and publishes.
pub(in crate::cli) fn run(args: ConvertArgs, env: &Environment) -> Result<ExitStatus, Error> {
    let hosts = Hosts::find(&args.cluster, env)?;
    match &hosts.role {
        Role::Idle(why) => {
            note(&format!("nothing to do: {why}"));
            return Ok(ExitStatus::Done);
        }
        Role::Alone(Some(why)) => note(&format!("this host does all of the work, says {why}")),
        Role::Alone(None) | Role::Part(_) => {}
    }
    let request = Request::new(args)?;
    let Role::Part(me) = &hosts.role else { return convert(&request, &hosts, None) };
    let early = EarlyFailures::new(&request.args.dst_ckpt_path, &publish::provenance(&request, "").options, me.count);
    // Who publishes alone, or only looks, keeps nobody waiting.
    let awaited = !request.args.cluster.local_output && !request.args.dry_run;
    if awaited {
        early.withdraw(me.index);
    }
    convert(&request, &hosts, Some(&early)).inspect_err(|e| {
        if awaited {
            early.leave(me.index, &e.to_string());
        }
    })
}

/// Does what is asked for, or this host's share of it.
fn convert(request: &Request, hosts: &Hosts, early: Option<&EarlyFailures>) -> Result<ExitStatus, Error> {
    sys::raise_open_files_limit();
    let gaps = if request.args.src_strategy.is_some() { RankGaps::Allowed } else { RankGaps::Refused };
    if quantise::runs_the_model(request) && matches!(hosts.role, Role::Part(_)) && !request.args.dry_run {
        return Err(Error::Usage(
            "-d and -dp run the model, which one machine does: start it there with --nodes 1, or give every machine the \
             statistics that such a run leaves, with --stats"
                .to_owned(),
        ));
    }
    let opened = open(request, gaps)?;
    let input = opened.input();
    let planned = match &opened {
        Opened::Foreign(source) => foreign::pt_to_ms(request, source)?,
        Opened::Ours(input) => match request.function {
            Function::MsToPt => foreign::ms_to_pt(request, input)?,
            Function::QuantWeight => quantise::plan(request, input)?,
            Function::TrainToInfer => train_to_infer::plan(request, input)?,
            _ => transfer::plan(request, input)?,
        },
    };
    if let (Role::Part(me), Some(early)) = (&hosts.role, early) {
        if request.args.dry_run {
            note(&me.text());
        } else {
            return shared::run(request, planned, input, hosts, (me, early));
        }
    }
    let free = check_targets(request, &planned)?;
    let mut mappings = input.mappings();
    let chosen = config::settle(&request.wishes, &mappings, Some((&planned.target, planned.plan.totals().written)));
    let engine = chosen.config;
    let memory = memory(&planned.plan, &engine);
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
        reading::check_crcs(input, engine.workers)?;
    }
    check_replicas(&engine, &planned, &mappings)?;
    // Until here nothing is written, and a signal may end the program as it likes.
    let cancel = config::cancel_on_signal()?;
    let errors = quantise::compute(request, &engine, &planned.plan, &mut mappings, &cancel)?.errors;
    let staging = Staging::new(&planned.target, request.publish(), request.durability)?;
    match staging.leftovers() {
        Leftovers::None => {}
        Leftovers::Removed => note("removed what an interrupted run had left"),
        Leftovers::Restored => note("put back the old target, which an interrupted run had left under another name"),
    }
    let summary = publish::execute(request, &engine, &planned, &mappings, (staging, errors), &cancel)?;
    if request.args.run.json {
        print_json(&summary);
    } else {
        print(&summary.text());
    }
    Ok(ExitStatus::Done)
}

/// Opens the source that the function wants; another's is named as what it is.
fn open(request: &Request, gaps: RankGaps) -> Result<Opened, Error> {
    let (path, promise) = (request.source.as_path(), config::stable_inputs());
    let whose = provenance(path)?;
    if request.function == Function::PtToMs {
        if whose == Provenance::MindSpore {
            return Err(InputError::IsMindSpore(path.to_owned()).into());
        }
        return Ok(Opened::Foreign(Box::new(ForeignInput::open(path, promise)?)));
    }
    if whose == Provenance::Foreign {
        return Err(InputError::IsForeign(path.to_owned()).into());
    }
    let input = if request.trained() {
        Input::open_training(path, request.args.train.step, promise)?
    } else {
        Input::open(path, gaps, promise)?
    };
    let names = input.files.iter().flat_map(|f| &f.entries).map(|e| &*e.name);
    if whose == Provenance::ByNames && matches!(recognise(names), Some(Origin::Foreign(_))) {
        return Err(InputError::IsForeign(path.to_owned()).into());
    }
    Ok(Opened::Ours(input))
}

/// Bytes of memory that running a plan takes, with what the process holds already.
fn memory(plan: &Plan, engine: &EngineConfig) -> u64 {
    let factors = plan.factor_bytes() * engine.workers as u64;
    // The computed range is held as the plan has it, as it is computed, and as it is read.
    // Scales are gathered in blocks before they go into it, in single precision.
    let scales = |c: &Computed| c.calculations.iter().map(|c| c.rows * (c.columns / c.group.max(1)) * 8).sum::<u64>();
    let computed = plan.computed.as_ref().map_or(0, |c| 2 * c.bytes.len() as u64 + scales(c));
    engine.buffer_bytes() + factors + computed + sys::anonymous_memory().unwrap_or(0)
}

/// Whether both targets may be made. Answers the bytes that are free where the checkpoint is to be.
fn check_targets(request: &Request, planned: &Planned) -> Result<u64, Error> {
    let args = &request.args;
    let mut targets = vec![planned.target.as_path()];
    targets.extend(planned.strategies.as_ref().map(Strategies::dir));
    let mut inputs = vec![request.source.as_path()];
    inputs.extend(
        [&args.src_strategy, &args.dst_strategy, &args.train_strategy_file].into_iter().flatten().map(PathBuf::as_path),
    );
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
