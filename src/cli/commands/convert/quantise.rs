//! The plan of `-f quant_weight`, and what is computed before it is run.

use std::path::PathBuf;
use std::sync::Arc;

use super::transfer::{self, Side};
use super::{Planned, Request};
use crate::Error;
use crate::cli::args::{NamesArg, PrecisionArg};
use crate::cli::commands::note;
use crate::cli::config;
use crate::engine::{self, CancelToken, EngineConfig, QuantError};
use crate::input::{Input, load_statistics};
use crate::models::QuantNames;
use crate::plan::{Plan, PlanError, Precision, QuantOptions, QuantisedModel, Statistics};
use crate::report::Progress;
use crate::sys::{FileError, FileOp, Mapping};
use crate::tensor::Dtype;

/// What a precision quantises: weights, their inputs, keys and values.
pub(super) fn quantises(precision: PrecisionArg) -> Option<(bool, bool, bool)> {
    match precision {
        PrecisionArg::W8a16 => Some((true, false, false)),
        PrecisionArg::W8a8 => Some((true, true, false)),
        PrecisionArg::W8a16c8 => Some((true, false, true)),
        PrecisionArg::W8a8c8 => Some((true, true, true)),
        PrecisionArg::Fp16c8 => Some((false, false, true)),
        _ => None,
    }
}

/// Plans a conversion from n unquantised ranks to m quantised ones.
pub(super) fn plan(request: &Request, input: &Input) -> Result<Planned, Error> {
    transfer::plan_with(request, input, quantiser(request)?)
}

/// Makes a quantised model of a source, as it was asked for.
pub(super) fn quantiser(
    request: &Request,
) -> Result<impl Fn(&Side<'_>) -> Result<Option<QuantisedModel>, PlanError> + '_, Error> {
    let args = &request.args;
    let Some((weights, inputs, caches)) = quantises(request.precision) else {
        let name = config::precision_name(request.precision);
        return Err(Error::Usage(format!("-f quant_weight -p {name}: w8a16, w8a8, w8a16c8, w8a8c8 or fp16c8")));
    };
    let norms = match request.norms {
        Precision::To(dtype) => dtype,
        Precision::Keep => Dtype::F16,
    };
    let statistics = statistics(request, inputs || caches)?;
    let alpha_milli = alpha(args.alpha)?;
    Ok(move |side: &Side<'_>| {
        let options = QuantOptions {
            weights,
            inputs,
            caches,
            keep: &args.keep_float,
            alpha_milli: alpha_milli.filter(|_| !args.no_smooth),
            names: match args.names {
                NamesArg::Gs06 => QuantNames::Gs06,
                NamesArg::Gs1x => QuantNames::Gs1x,
                NamesArg::Rtn => QuantNames::Rtn,
            },
            fused: side.fused,
            norms,
            alone: side.ranks == 1,
            spec: side.spec,
            statistics: statistics.as_ref(),
        };
        QuantisedModel::new(side.files, side.catalog, &options).map(Some)
    })
}

/// The statistics, if the precision needs them.
fn statistics(request: &Request, needed: bool) -> Result<Option<Statistics>, Error> {
    let args = &request.args;
    let data = args.dataset_name.is_some() || args.dataset_path.is_some();
    match (&args.stats, needed) {
        (Some(path), true) => Ok(Some(load_statistics(path)?)),
        (None, true) if data => Err(Error::NotBuilt("calibration with -d and -dp (give --stats FILE)".to_owned())),
        (None, true) => {
            let name = config::precision_name(request.precision);
            let why = format!("-p {name} needs statistics of the activations: --stats FILE (see docs/statistics.md)");
            Err(PlanError::Quantised(why).into())
        }
        (stats, false) => {
            if data || stats.is_some() {
                note("this precision needs no statistics of activations: -d, -dp and --stats change nothing");
            }
            Ok(None)
        }
    }
}

/// The share of outliers that goes to the weights, in 1/1000.
fn alpha(alpha: f64) -> Result<Option<u32>, Error> {
    let milli = (0..=1000).find(|&milli| (f64::from(milli) / 1000.0 - alpha).abs() < 5e-4);
    match milli.filter(|_| (0.0..=1.0).contains(&alpha)) {
        Some(milli) => Ok(Some(milli)),
        None => Err(Error::Usage(format!("--alpha {alpha}: between 0 and 1"))),
    }
}

/// Computes what must be known before anything is written; it becomes the last of the mappings.
pub(super) fn compute(
    request: &Request,
    engine_config: &EngineConfig,
    plan: &Plan,
    mappings: &mut Vec<Arc<Mapping>>,
    cancel: &CancelToken,
) -> Result<Vec<QuantError>, Error> {
    if plan.computed.is_none() {
        return Ok(Vec::new());
    }
    let progress = Progress::start(config::progress(&request.args.run), "measuring");
    let calculated = engine::calculate(plan, mappings, engine_config, &progress, cancel)?;
    progress.finish();
    let path = PathBuf::from("(computed)");
    let error = |source| FileError { op: FileOp::Map, path, source };
    mappings.push(Arc::new(Mapping::in_memory(&calculated.bytes).map_err(error)?));
    Ok(calculated.errors)
}
