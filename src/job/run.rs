//! Conversions: `-f`. Plans, and unless it is a dry run, moves and publishes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::hosts::Hosts;
use super::reading::{self, Opened};
use super::request::Request;
use super::target::Strategies;
use super::{ms_to_pt, provenance, publish, quantise, shared, targets, train_to_infer, transfer};
use crate::Error;
use crate::cli::args::{ConvertArgs, Function, which_save};
use crate::cli::commands::{note, print, print_json};
use crate::cli::config::Patterns;
use crate::cli::{ExitStatus, config};
use crate::cluster::{EarlyFailures, Environment, Role};
use crate::engine::{self, CancelToken, Crc64, EngineConfig, Leftovers, Staging, SumOf};
use crate::input::{ForeignInput, Input, InputError, ListedSum, Provenance, RankGaps, provenance};
use crate::model::naming::fused;
use crate::models::foreign::{Origin, recognise};
use crate::plan::{Computed, Plan, TargetRank, list};
use crate::report::{Choice, Progress, plan_report};
use crate::source::Extents;
use crate::sys::{self, Mapping};

/// A plan and what belongs to it.
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) target: PathBuf,
    pub(super) strategies: Option<Strategies>,
    /// What is compared before anything is written: replicas against what is used in their stead.
    pub(super) replicas: (Plan, Vec<Vec<Extents>>),
    pub(super) ignored: usize,
    /// Entries of training state that are left out: the beginning of the name, and how many.
    pub(super) training_state: BTreeMap<&'static str, usize>,
    /// Decisions and their reasons, for the plan, the summary and the manifest.
    pub(super) choices: Vec<Choice>,
}

pub(super) fn is_fused(targets: &[TargetRank]) -> bool {
    targets.iter().flat_map(|t| &t.entries).any(|e| fused(&e.name).is_some_and(|f| *f.name == *e.name))
}

/// Plans, and unless it is a dry run, moves and publishes.
pub(crate) fn run(args: ConvertArgs, env: &Environment) -> Result<ExitStatus, Error> {
    let hosts = Hosts::find(&args.cluster, env)?;
    match &hosts.role {
        Role::Idle(why) => {
            note(&format!("nothing to do: {why}"));
            return Ok(ExitStatus::Done);
        }
        Role::Alone(Some(why)) => note(&format!("this host does all of the work, says {why}")),
        Role::Alone(None) | Role::Part(_) => {}
    }
    let mut request = Request::new(args)?;
    let Role::Part(me) = &hosts.role else { return convert(&mut request, &hosts, None) };
    let early = EarlyFailures::new(
        &request.args.place.dst_ckpt_path,
        &provenance::provenance(&request, "", &[]).options,
        me.count,
    );
    // Who publishes alone, or only looks, keeps nobody waiting.
    let awaited = !request.args.cluster.local_output && !request.args.what.dry_run;
    if awaited {
        early.withdraw(me.index);
    }
    convert(&mut request, &hosts, Some(&early)).inspect_err(|e| {
        if awaited {
            early.leave(me.index, &e.to_string());
        }
    })
}

/// Does what is asked for, or this host's share of it.
fn convert(request: &mut Request, hosts: &Hosts, early: Option<&EarlyFailures>) -> Result<ExitStatus, Error> {
    let gaps = if request.args.place.src_strategy.is_some() { RankGaps::Allowed } else { RankGaps::Refused };
    if quantise::runs_the_model(request) && matches!(hosts.role, Role::Part(_)) && !request.args.what.dry_run {
        return Err(Error::Usage(
            "-d and -dp run the model, which one machine does: start it there with --nodes 1, or give every machine the \
             statistics that such a run leaves, with --stats"
                .to_owned(),
        ));
    }
    let opened = open(request, gaps)?;
    refuse_whole_numbers(request, &opened)?;
    if let Some(text) = reading::other_strategies(&request.source, request.args.place.src_strategy.as_deref())? {
        note(&text);
    }
    request.settle(&opened, gaps)?;
    let (request, input) = (&*request, opened.input());
    let planned = match &opened {
        Opened::Foreign(source) => ms_to_pt::pt_to_ms(request, source)?,
        Opened::Ours(input) => match request.function {
            Function::MsToPt => ms_to_pt::ms_to_pt(request, input)?,
            Function::QuantWeight => quantise::plan(request, input)?,
            Function::TrainToInfer => train_to_infer::plan(request, input)?,
            _ => transfer::plan(request, input)?,
        },
    };
    if planned.plan.totals().tensors == 0 {
        return Err(Error::Usage(
            "nothing is left to convert: every tensor of the source is left out (--ignore, --drop, or no part of the model)"
                .to_owned(),
        ));
    }
    if let (Role::Part(me), Some(early)) = (&hosts.role, early) {
        if request.args.what.dry_run {
            note(&me.text());
        } else {
            return shared::run(request, planned, input, hosts, (me, early));
        }
    }
    if let Some(strategies) = targets::missing_strategies(request, &planned, input) {
        return complete(request, &planned, input, strategies);
    }
    let mut free = targets::check(request, &planned, input)?;
    let left = if request.args.what.dry_run {
        engine::leftovers(&planned.target)
    } else {
        free = targets::reclaim(&planned.target, free)?;
        Leftovers::default()
    };
    let mut mappings = input.mappings();
    let chosen = config::settle(&request.wishes, &mappings, Some((&planned.target, planned.plan.totals().written)));
    let engine = chosen.config;
    let memory = memory(&planned.plan, &engine);
    let mut report = plan_report(&planned.plan, &planned.target.display().to_string(), (free, &left), memory);
    report.settings = chosen.settings;
    report.choices.clone_from(&planned.choices);
    if request.args.what.dry_run {
        reading::check_unchanged(&mappings)?;
        if request.args.output.json {
            print_json(&report)?;
        } else {
            print(&report.text())?;
        }
        return Ok(if report.fits { ExitStatus::Done } else { ExitStatus::Machine });
    }
    let needed = planned.plan.totals().written + planned.strategies.as_ref().map_or(0, Strategies::len);
    if free < needed {
        return Err(Error::NoRoom { dir: request.args.place.dst_ckpt_path.clone(), needed, free });
    }
    if memory > chosen.memory {
        return Err(Error::TooLittleMemory { needed: memory, allowed: chosen.memory });
    }
    check_input(request, input, &engine)?;
    check_replicas(request, &engine, &planned, &mappings)?;
    // Until here nothing is written, and a signal may end the program as it likes.
    let cancel = config::cancel_on_signal()?;
    let errors = quantise::compute(request, &engine, &planned.plan, &mut mappings, &cancel)?.errors;
    let staging = Staging::new(&planned.target, request.publish(), request.durability)?;
    targets::say_removed(staging.leftovers());
    if staging.has_restored() {
        note("put back the old target, which an interrupted run had left under another name");
    }
    let summary = publish::execute(request, &engine, &planned, &mappings, (staging, errors), &cancel)?;
    publish::report(request, &planned.target, &summary)
}

/// Publishes the strategies, which are all that is missing; a dry run says so.
fn complete(request: &Request, planned: &Planned, input: &Input, strategies: &Strategies) -> Result<ExitStatus, Error> {
    targets::keep_apart(request, planned, input)?;
    let (target, place) = (planned.target.display().to_string(), strategies.dir().display().to_string());
    if request.args.what.dry_run {
        note(&format!("{target} is there and complete; only its strategies would be written, to {place}"));
    } else {
        targets::complete(request, planned, strategies)?;
    }
    if request.args.output.json {
        print_json(&serde_json::json!({"target": target, "strategies": place, "files": 0}))?;
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
    let train = &request.args.train;
    let input = if request.trained() {
        Input::open_training(path, which_save(train.step.as_deref(), train.latest), promise)?
    } else {
        Input::open(path, gaps, promise)?
    };
    if let Some(why) = &input.why {
        note(why);
    }
    input.check_ranks()?;
    let names = input.files.iter().flat_map(|f| &f.entries).map(|e| &*e.name);
    if whose == Provenance::ByNames && matches!(recognise(names), Some(Origin::Foreign(_))) {
        return Err(InputError::IsForeign(path.to_owned()).into());
    }
    Ok(Opened::Ours(input))
}

/// Refuses weights that are not floating-point numbers, whatever the function and the precision.
fn refuse_whole_numbers(request: &Request, opened: &Opened) -> Result<(), Error> {
    let args = &request.args;
    let patterns = [Patterns::new(&args.files.ignore)?, Patterns::of("--drop", &args.train.drop)?];
    let ignore = |name: &str| patterns.iter().any(|patterns| patterns.matches(name));
    let left_out = opened.check_whole_numbers(&ignore)?;
    if !left_out.is_empty() {
        let names = list(&left_out);
        note(&format!("left out although they belong to quantised weights (the weights are floating-point): {names}"));
    }
    Ok(())
}

/// Bytes of memory that running a plan takes, with what the process holds already.
pub(super) fn memory(plan: &Plan, engine: &EngineConfig) -> u64 {
    let factors = plan.factor_bytes() * engine.workers as u64;
    // The computed range is held as the plan has it, as it is computed, and as it is read.
    // Scales are gathered in blocks before they go into it, in single precision.
    let scales = |c: &Computed| c.calculations.iter().map(|c| c.rows * (c.columns / c.group.max(1)) * 8).sum::<u64>();
    let computed = plan.computed.as_ref().map_or(0, |c| 2 * c.bytes.len() as u64 + scales(c));
    engine.buffer_bytes() + factors + computed + sys::anonymous_memory().unwrap_or(0)
}

/// The source must be what its trailers say, and the manifest of the conversion that made it: one fused matrix of each file, or
/// on request all tensors.
pub(super) fn check_input(request: &Request, input: &Input, engine: &EngineConfig) -> Result<(), Error> {
    if !request.args.files.no_crc_check {
        let progress = Progress::start(config::progress(&request.args.output), "checking the CRCs");
        reading::check_crcs(input, engine.workers, &progress)?;
        progress.finish();
    }
    let all = request.args.files.check_source;
    let made = match &request.made {
        // One manifest of several says nothing about the files of the others.
        Some(made) if all && !made.is_joined() || !all && request.source_is_fused() => made,
        _ if all => return Err(Error::NoManifest(request.source.clone())),
        _ => return Ok(()),
    };
    let mut listed = made.sums(&input.files)?;
    if !all {
        // That the order of fused rows is the manifest's is worth one tensor of each file.
        listed = smallest_fused(listed, input.files.len());
    }
    let stated: Vec<SumOf> =
        listed.iter().map(|l| SumOf { source: l.file, place: l.place.clone(), sum: Crc64(l.sum) }).collect();
    let progress = Progress::start(config::progress(&request.args.output), "checking the source");
    let differ = engine::differing_sums(&input.mappings(), &stated, engine, &progress, &CancelToken::default())?;
    progress.finish();
    if !differ.is_empty() {
        let tensors = differ.iter().map(|&at| listed[at].name.clone()).collect();
        return Err(Error::SumsDiffer { manifest: made.manifest.clone(), tensors });
    }
    if all {
        note(&format!("{} tensors of the source have the sums of {}", listed.len(), made.manifest.display()));
    }
    Ok(())
}

/// The smallest fused matrix of each file.
fn smallest_fused(listed: Vec<ListedSum>, files: usize) -> Vec<ListedSum> {
    let mut smallest: Vec<Option<ListedSum>> = vec![None; files];
    for sum in listed.into_iter().filter(|sum| sum.fused) {
        let known = &mut smallest[sum.file];
        if known.as_ref().is_none_or(|known| sum.place.len() < known.place.len()) {
            *known = Some(sum);
        }
    }
    smallest.into_iter().flatten().collect()
}

/// Replicas must be what they are replicas of. Small ones are always compared, large ones on request.
pub(super) fn check_replicas(
    request: &Request,
    engine: &EngineConfig,
    planned: &Planned,
    mappings: &[Arc<Mapping>],
) -> Result<(), Error> {
    let (plan, places) = &planned.replicas;
    let progress = Progress::start(config::progress(&request.args.output), "comparing the replicas");
    let none = CancelToken::default();
    let found = engine::compare(plan, mappings, mappings, places, engine, &progress, &none)?;
    progress.finish();
    let name = |d: &engine::Difference| {
        let file = &plan.outputs[d.file];
        format!("{} in {}", file.tensors[d.tensor].name, file.path)
    };
    if found.is_empty() { Ok(()) } else { Err(Error::ReplicasDiffer(found.iter().map(name).collect())) }
}
