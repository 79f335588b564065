//! Moving the bytes, and publishing what was made.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::{Planned, Request, shared};
use crate::Error;
use crate::cli::args::{CkptRecordsArg, Function};
use crate::cli::commands::target::Strategies;
use crate::cli::commands::{note, print, print_json, reading};
use crate::cli::{ExitStatus, config};
use crate::cluster::plan_id;
use crate::engine::{self, CancelToken, EngineConfig, EngineError, Published, QuantError, Ready, Staging};
use crate::report::{Progress, Provenance, Summary, manifest};
use crate::sys::Mapping;

/// Moves the bytes and publishes both: the checkpoint with its manifest, then the strategies that it names, both flushed before.
/// Where the second fails the first is taken back. A run that is killed between the two leaves a checkpoint whose manifest says
/// which strategies belong to it; the next one publishes those.
pub(super) fn execute(
    request: &Request,
    engine_config: &EngineConfig,
    planned: &Planned,
    mappings: &[Arc<Mapping>],
    (mut staging, errors): (Staging, Vec<QuantError>),
    cancel: &CancelToken,
) -> Result<Summary, Error> {
    let strategies = match &planned.strategies {
        Some(strategies) => strategies.stage(request.publish(), request.durability)?,
        None => None,
    };
    let progress = Progress::start(config::progress(&request.args.run.reading), "converting");
    let begun = Instant::now();
    let result = engine::run(&planned.plan, mappings, staging.dir()?, engine_config, &progress, cancel);
    let mut result = result.map_err(|e| staging.explain(e))?;
    result.quantised = errors;
    let plan_id = plan_id(&planned.plan, &shared::sources(mappings));
    let mut provenance = provenance(request, &plan_id);
    provenance.strategies = planned.strategies.as_ref().map(Strategies::sum);
    reading::check_unchanged(mappings)?;
    staging.write("manifest.json", |to| manifest(&planned.plan, &result, &provenance, to))?;
    let peak = progress.finish();
    if cancel.is_cancelled() {
        return Err(EngineError::Cancelled.into());
    }
    let strategies = strategies.map(|staged| staged.ready(Vec::new())).transpose()?;
    let checkpoint = staging.ready(std::mem::take(&mut result.files))?.publish()?;
    match strategies.map(Ready::publish).transpose() {
        Ok(strategies) => {
            for stuck in [Some(checkpoint), strategies].into_iter().flatten().filter_map(Published::keep) {
                note(&format!("{} was replaced but could not be removed", stuck.display()));
            }
        }
        Err(e) => {
            checkpoint.undo();
            return Err(e.into());
        }
    }
    let mut summary = Summary::new(&planned.plan, &result, begun.elapsed(), peak);
    summary.target = planned.target.display().to_string();
    summary.strategies = planned.strategies.as_ref().map(|s| s.dir().display().to_string());
    summary.ignored = planned.ignored;
    summary.config_changes.clone_from(&planned.config_changes);
    summary.training_state = planned.training_state.iter().map(|(rule, n)| ((*rule).to_owned(), *n)).collect();
    Ok(summary)
}

/// Prints what was done. Where that fails, the target is there all the same.
pub(super) fn report(request: &Request, target: &Path, summary: &Summary) -> Result<ExitStatus, Error> {
    let printed = if request.args.run.reading.json { print_json(summary) } else { print(&summary.text()) };
    match printed {
        Ok(()) => Ok(ExitStatus::Done),
        Err(Error::Output { source, .. }) => Err(Error::Output { published: Some(target.to_owned()), source }),
        Err(e) => Err(e),
    }
}

/// The options that decide what is in the target.
pub(super) fn provenance(request: &Request, plan: &str) -> Provenance {
    let args = &request.args;
    let path = |path: &Path| json!(path.display().to_string());
    let quantised = request.function == Function::QuantWeight;
    let smoothed = quantised && args.stats.is_some() && !args.no_smooth;
    let given = [
        ("function", Some(json!(config::function_name(request.function)))),
        ("precision", Some(json!(config::precision_name(request.precision)))),
        ("source", Some(path(&request.source))),
        ("src_fusion", Some(json!(config::fusion(args.src_fusion).name()))),
        ("dst_fusion", Some(json!(config::fusion(args.dst_fusion).name()))),
        ("world_size", args.world_size.map(|w| json!(w))),
        ("yaml_path", args.yaml_path.as_ref().map(|y| json!(y))),
        ("src_strategy", args.src_strategy.as_deref().map(path)),
        ("dst_strategy", args.dst_strategy.as_deref().map(path)),
        ("train_strategy_file", args.train_strategy_file.as_deref().map(path)),
        ("step", args.train.step.as_ref().map(|step| step.parse::<u64>().map_or_else(|_| json!(step), |n| json!(n)))),
        ("latest", args.train.latest.then_some(json!(true))),
        ("keep", (!args.train.keep.is_empty()).then(|| json!(args.train.keep))),
        ("drop", (!args.train.drop.is_empty()).then(|| json!(args.train.drop))),
        ("lora", args.train.lora.map(|lora| json!(format!("{lora:?}").to_lowercase()))),
        ("lora_alpha", args.train.lora_alpha.map(|alpha| json!(alpha))),
        ("strip_only", args.train.strip_only.then_some(json!(true))),
        ("norm_dtype", args.norm_dtype.map(|p| json!(config::precision_name(p)))),
        ("qkv_concat", args.qkv_concat.map(|b| json!(b))),
        ("vocab_emb_dp", args.vocab_emb_dp.map(|b| json!(b))),
        ("tie_word_embeddings", args.tie_word_embeddings.map(|b| json!(b))),
        ("max_shard_size", args.max_shard_size.map(|size| json!(size.as_u64()))),
        ("crc", args.crc.then_some(json!(true))),
        ("ckpt_records", (args.ckpt_records == CkptRecordsArg::Canonical).then_some(json!("canonical"))),
        ("stats", args.stats.as_deref().map(path)),
        ("names", quantised.then(|| json!(config::names(args.names)))),
        ("group_size", args.group_size.map(|size| json!(size))),
        ("keep_float", (!args.keep_float.is_empty()).then(|| json!(args.keep_float))),
        ("alpha", smoothed.then(|| json!(args.alpha))),
        ("ignore", (!args.ignore.is_empty()).then(|| json!(args.ignore))),
    ];
    let options = given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    Provenance { options, plan: plan.to_owned(), strategies: None, part: None }
}
