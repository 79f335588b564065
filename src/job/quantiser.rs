//! What makes a quantised model of a source: the requested settings, and the statistics where they are needed.

use std::path::Path;

use super::case::Case;
use super::choices::Names;
use super::spec::Job;
use crate::Error;
use crate::input::load_statistics;
use crate::model::{Model, QuantNames};
use crate::plan::{Catalog, PlanError, Precision, QuantOptions, QuantisedAs, QuantisedModel, SourceFile, Statistics};
use crate::tensor::Dtype;

/// What makes a quantised model of a source.
pub(super) struct Quantiser {
    what: QuantisedAs,
    /// Of the activations, where they are needed.
    pub statistics: Option<Statistics>,
}

impl Quantiser {
    /// As requested, with statistics of a file where they are needed.
    pub(super) fn of(case: &Case<'_>) -> Result<Self, Error> {
        let job = case.job;
        let none = QuantisedAs { weights: None, inputs: false, caches: false };
        let statistics = file(case)?.map(load_statistics).transpose()?;
        Ok(Self { what: job.precision.quantises().unwrap_or(none), statistics })
    }

    /// The quantised model of a source. `spec`: the model, as far as it is known; `fused`: whether the target is; `ranks`: how
    /// many it has.
    pub(super) fn model(
        &self,
        job: &Job,
        files: &[SourceFile<'_>],
        catalog: &Catalog,
        spec: Option<&Model>,
        fused: bool,
        ranks: u64,
    ) -> Result<QuantisedModel, PlanError> {
        let options = QuantOptions {
            weights: self.what.weights,
            group: job.quantise.group_size,
            inputs: self.what.inputs,
            caches: self.what.caches,
            keep: &job.quantise.keep_float,
            alpha_milli: (!job.quantise.no_smooth).then(|| alpha_milli(job.quantise.alpha)),
            names: names(job),
            fused,
            norms: match job.norms() {
                Precision::To(dtype) => dtype,
                Precision::Keep => Dtype::F16,
            },
            ranks,
            spec,
            statistics: self.statistics.as_ref(),
        };
        QuantisedModel::new(files, catalog, &options)
    }
}

/// Whose names quantised parameters get. What golden-stick does not have has names of our own.
fn names(job: &Job) -> QuantNames {
    match job.quantise.names {
        _ if job.quantises_beyond_golden_stick() => QuantNames::Extension,
        Names::Gs06 => QuantNames::Gs06,
        Names::Gs1x => QuantNames::Gs1x,
        Names::Rtn => QuantNames::Rtn,
    }
}

/// The share of outliers that goes to the weights, in 1/1000.
fn alpha_milli(alpha: f64) -> u32 {
    let nearest = (0..=1000).find(|&milli| (f64::from(milli) / 1000.0 - alpha).abs() < 5e-4);
    nearest.unwrap_or(if alpha < 0.5 { 0 } else { 1000 })
}

/// The file of the statistics, if the precision needs some and no run of the model gathers them.
fn file<'a>(case: &'a Case<'_>) -> Result<Option<&'a Path>, Error> {
    let job = case.job;
    let (stats, data) = (&job.quantise.stats, job.names_a_data_set());
    if !job.precision.needs_statistics() {
        if data || stats.is_some() {
            case.note("this precision needs no statistics of activations: -d, -dp and --stats have no effect");
        }
        return Ok(None);
    }
    match stats {
        Some(path) => {
            if data {
                case.note("--stats is given: -d and -dp have no effect");
            }
            Ok(Some(path))
        }
        None if job.runs_the_model() => Ok(None),
        None => {
            let name = job.precision;
            let why = format!(
                "-p {name} needs statistics of the activations: --stats FILE, or -d and -dp to run the model (see \
                 docs/en/statistics.md)"
            );
            Err(PlanError::Quantised(why).into())
        }
    }
}
