//! Moving the bytes, and publishing what was made.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::{Planned, Request, shared};
use crate::Error;
use crate::cli::args::{CkptRecordsArg, Function};
use crate::cli::commands::note;
use crate::cli::config;
use crate::cluster::plan_id;
use crate::engine::{self, CancelToken, EngineConfig, EngineError, Published, QuantError, Staging};
use crate::report::{Progress, Provenance, Summary, manifest};
use crate::sys::Mapping;

/// Moves the bytes and publishes both: the strategies, then the checkpoint with its manifest. Neither without the other.
pub(super) fn execute(
    request: &Request,
    engine_config: &EngineConfig,
    planned: &Planned,
    mappings: &[Arc<Mapping>],
    (staging, errors): (Staging, Vec<QuantError>),
    cancel: &CancelToken,
) -> Result<Summary, Error> {
    let strategies = match &planned.strategies {
        Some(strategies) => strategies.stage(request.publish(), request.durability)?,
        None => None,
    };
    let progress = Progress::start(config::progress(&request.args.run), "converting");
    let begun = Instant::now();
    let mut result = engine::run(&planned.plan, mappings, staging.dir(), engine_config, &progress, cancel)?;
    result.quantised = errors;
    let plan_id = plan_id(&planned.plan, &shared::sources(mappings));
    let provenance = provenance(request, &plan_id);
    staging.write("manifest.json", |to| manifest(&planned.plan, &result, &provenance, to))?;
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
    summary.training_state = planned.training_state.iter().map(|(rule, n)| ((*rule).to_owned(), *n)).collect();
    Ok(summary)
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
        ("step", args.train.step.map(|step| json!(step))),
        ("keep", (!args.train.keep.is_empty()).then(|| json!(args.train.keep))),
        ("drop", (!args.train.drop.is_empty()).then(|| json!(args.train.drop))),
        ("lora", args.train.lora.map(|lora| json!(format!("{lora:?}").to_lowercase()))),
        ("lora_alpha", args.train.lora_alpha.map(|alpha| json!(alpha))),
        ("strip_only", args.train.strip_only.then_some(json!(true))),
        ("norm_dtype", args.norm_dtype.map(|p| json!(config::precision_name(p)))),
        ("heads", args.heads.map(|n| json!(n))),
        ("kv_heads", args.kv_heads.map(|n| json!(n))),
        ("tie_word_embeddings", args.tie_word_embeddings.map(|b| json!(b))),
        ("qkv_concat", args.qkv_concat.map(|b| json!(b))),
        ("vocab_emb_dp", args.vocab_emb_dp.map(|b| json!(b))),
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
    Provenance { options, plan: plan.to_owned(), part: None }
}
