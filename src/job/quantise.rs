//! The plan of `-f quant_weight`, and what is computed before it is run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::request::Request;
use super::run::Planned;
use super::transfer::{self, Side};
use crate::Error;
use crate::cli::args::{NamesArg, PrecisionArg};
use crate::cli::commands::note;
use crate::cli::config;
use crate::engine::{self, Calculated, CancelToken, EngineConfig};
use crate::input::{Input, load_statistics};
use crate::model::{GROUP_SIZES, QuantNames};
use crate::plan::{Plan, PlanError, Precision, QuantOptions, QuantisedAs, QuantisedModel, Statistics, Width};
use crate::report::Progress;
use crate::sys::{FileError, FileOp, Mapping};
use crate::tensor::Dtype;

/// What a precision quantises.
pub(crate) fn quantises(precision: PrecisionArg) -> Option<QuantisedAs> {
    let (weights, inputs, caches) = match precision {
        PrecisionArg::W8a16 => (Some(Width::Int8), false, false),
        PrecisionArg::W8a8 => (Some(Width::Int8), true, false),
        PrecisionArg::W8a16c8 => (Some(Width::Int8), false, true),
        PrecisionArg::W8a8c8 => (Some(Width::Int8), true, true),
        PrecisionArg::Fp16c8 => (None, false, true),
        PrecisionArg::W4a16 => (Some(Width::Int4), false, false),
        PrecisionArg::Fp16 | PrecisionArg::Bf16 | PrecisionArg::Fp32 | PrecisionArg::Keep => return None,
    };
    Some(QuantisedAs { weights, inputs, caches })
}

/// What a precision quantises, where it must.
pub(super) fn quantised(precision: PrecisionArg) -> Result<QuantisedAs, Error> {
    let name = config::precision_name(precision);
    quantises(precision).ok_or_else(|| {
        Error::Usage(format!(
            "-f quant_weight does not write {name}: give -p w8a16, w8a8, w8a16c8, w8a8c8, fp16c8 or (an extension) w4a16"
        ))
    })
}

/// Whether a precision depends on what the layers see: on statistics of the activations.
pub(crate) fn needs_statistics(precision: PrecisionArg) -> bool {
    quantises(precision).is_some_and(|what| what.inputs || what.caches)
}

/// Plans a conversion from n unquantised ranks to m quantised ones.
pub(super) fn plan(request: &Request, input: &Input) -> Result<Planned, Error> {
    let asked = Asked::read(request)?;
    let planned = |statistics: Option<&Statistics>| {
        transfer::plan_with(request, input, |side: &Side<'_>| asked.model(request, side, statistics).map(Some))
    };
    match wanted(request)? {
        Wanted::Nothing => planned(None),
        Wanted::File(path) => planned(Some(&load_statistics(path)?)),
        Wanted::Run => calibrated(request, input, planned),
    }
}

/// Makes a quantised model of a source, as it was asked for, with statistics of a file where they are needed.
pub(super) fn quantiser(
    request: &Request,
) -> Result<impl Fn(&Side<'_>) -> Result<Option<QuantisedModel>, PlanError> + '_, Error> {
    let asked = Asked::read(request)?;
    let statistics = match wanted(request)? {
        Wanted::Nothing => None,
        Wanted::File(path) => Some(load_statistics(path)?),
        Wanted::Run => {
            return Err(Error::Usage(
                "-d and -dp run the model with -f quant_weight only; give the statistics that it writes, with --stats"
                    .to_owned(),
            ));
        }
    };
    Ok(move |side: &Side<'_>| asked.model(request, side, statistics.as_ref()).map(Some))
}

/// What is to be quantised, and how.
struct Asked {
    what: QuantisedAs,
    names: QuantNames,
    norms: Dtype,
    alpha_milli: Option<u32>,
}

impl Asked {
    fn read(request: &Request) -> Result<Self, Error> {
        let args = &request.args;
        let name = config::precision_name(request.precision);
        let what = quantised(request.precision)?;
        let alone = what.weights.is_some() && !what.inputs && !what.caches;
        if args.quant.group_size.is_some() && !alone {
            return Err(Error::Usage(format!("--group-size goes with -p w8a16 or w4a16, not {name}")));
        }
        if let Some(size) = args.quant.group_size.filter(|size| !GROUP_SIZES.contains(size)) {
            return Err(Error::Usage(format!("--group-size {size}: give 64 or 128")));
        }
        let extended = args.quant.group_size.is_some() || what.weights == Some(Width::Int4);
        let names = match args.quant.names {
            NamesArg::Gs06 if extended => QuantNames::Extension,
            NamesArg::Gs06 => QuantNames::Gs06,
            _ if extended => {
                let of = config::names(args.quant.names);
                let why =
                    format!("--names {of}: golden-stick has no names for w4a16 and --group-size; they have our own");
                return Err(Error::Usage(why));
            }
            NamesArg::Gs1x => QuantNames::Gs1x,
            NamesArg::Rtn => QuantNames::Rtn,
        };
        let norms = match request.norms {
            Precision::To(dtype) => dtype,
            Precision::Keep => Dtype::F16,
        };
        let alpha_milli = alpha(args.quant.alpha)?.filter(|_| !args.quant.no_smooth);
        Ok(Self { what, names, norms, alpha_milli })
    }

    fn model(
        &self,
        request: &Request,
        side: &Side<'_>,
        statistics: Option<&Statistics>,
    ) -> Result<QuantisedModel, PlanError> {
        let options = QuantOptions {
            weights: self.what.weights,
            group: request.args.quant.group_size,
            inputs: self.what.inputs,
            caches: self.what.caches,
            keep: &request.args.quant.keep_float,
            alpha_milli: self.alpha_milli,
            names: self.names,
            fused: side.fused,
            norms: self.norms,
            ranks: side.ranks,
            spec: side.spec,
            statistics,
        };
        QuantisedModel::new(side.files, side.catalog, &options)
    }
}

/// Runs the model for the statistics, after everything else that can be refused has been looked at.
#[cfg(feature = "calibrate")]
fn calibrated(
    request: &Request,
    input: &Input,
    planned: impl Fn(Option<&Statistics>) -> Result<Planned, Error>,
) -> Result<Planned, Error> {
    let spec = super::calibrate::model(request, input)?;
    let before = planned(Some(&Statistics::placeholder(&spec)))?;
    if request.args.what.dry_run {
        note("a dry run does not run the model: the numbers of its activations are not in this plan");
        return Ok(before);
    }
    super::targets::check(request, &before, input)?;
    let mut keep = before.target.into_os_string();
    keep.push(".statistics.safetensors");
    let statistics = super::calibrate::run(request, input, &spec, &PathBuf::from(keep))?;
    planned(Some(&statistics))
}

#[cfg(not(feature = "calibrate"))]
fn calibrated(
    _: &Request,
    _: &Input,
    _: impl Fn(Option<&Statistics>) -> Result<Planned, Error>,
) -> Result<Planned, Error> {
    Err(Error::NoFeature { what: "calibration with -d and -dp", feature: "calibrate" })
}

/// Whether the model must be run first.
pub(super) fn runs_the_model(request: &Request) -> bool {
    needs_statistics(request.precision)
        && request.args.quant.stats.is_none()
        && request.args.calibrate.dataset_name.is_some()
}

/// Where statistics come from.
enum Wanted<'a> {
    /// None are needed.
    Nothing,
    /// A file.
    File(&'a Path),
    /// Running the model.
    Run,
}

/// Where the statistics come from, if the precision needs them.
fn wanted(request: &Request) -> Result<Wanted<'_>, Error> {
    let args = &request.args;
    let needed = needs_statistics(request.precision);
    let data = args.calibrate.dataset_name.is_some() || args.calibrate.dataset_path.is_some();
    match (&args.quant.stats, needed) {
        (Some(path), true) => {
            if data {
                note("--stats is given: -d and -dp change nothing");
            }
            Ok(Wanted::File(path))
        }
        (None, true) if data => Ok(Wanted::Run),
        (None, true) => {
            let name = config::precision_name(request.precision);
            let why = format!(
                "-p {name} needs statistics of the activations: --stats FILE, or -d and -dp to run the model (see \
                 docs/en/statistics.md)"
            );
            Err(PlanError::Quantised(why).into())
        }
        (stats, false) => {
            if data || stats.is_some() {
                note("this precision needs no statistics of activations: -d, -dp and --stats change nothing");
            }
            Ok(Wanted::Nothing)
        }
    }
}

/// The share of outliers that goes to the weights, in 1/1000.
fn alpha(alpha: f64) -> Result<Option<u32>, Error> {
    let milli = (0..=1000).find(|&milli| (f64::from(milli) / 1000.0 - alpha).abs() < 5e-4);
    match milli.filter(|_| (0.0..=1.0).contains(&alpha)) {
        Some(milli) => Ok(Some(milli)),
        None => Err(Error::Usage(format!("--alpha {alpha}: give a number from 0 to 1"))),
    }
}

/// Computes what must be known before anything is written; it becomes the last of the mappings. Empty where the plan has no such.
pub(super) fn compute(
    request: &Request,
    engine_config: &EngineConfig,
    plan: &Plan,
    mappings: &mut Vec<Arc<Mapping>>,
    cancel: &CancelToken,
) -> Result<Calculated, Error> {
    if plan.computed.is_none() {
        return Ok(Calculated::default());
    }
    let progress = Progress::start(config::progress(&request.args.output), "measuring");
    let calculated = engine::calculate(plan, mappings, engine_config, &progress, cancel)?;
    progress.finish();
    let path = PathBuf::from("(computed)");
    let error = |source| FileError { op: FileOp::Map, path, source };
    mappings.push(Arc::new(Mapping::in_memory(&calculated.bytes).map_err(error)?));
    Ok(calculated)
}
