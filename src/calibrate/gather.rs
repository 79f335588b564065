//! All samples through all layers.

use std::io;

use candle_core::{Device, Tensor};

use super::arithmetic::Arithmetic;
use super::layer::{Layer, Linear, Positions};
use super::ranges::{Channels, Ranges};
use super::{CalibrateError, Weights};
use crate::engine::{CancelToken, Event, Observer};
use crate::model::Model;
use crate::model::naming::{EMBEDDING, LayerParam, layer_suffixes};
use crate::plan::{Observed, PlanError};
use crate::sys::ThreadError;

/// Bytes that running these samples takes at most, about: one layer, all samples' activations, and what the longest sample
/// needs on its way through a layer.
pub fn memory(spec: &Model, samples: &[Vec<u32>]) -> u64 {
    let tokens: u64 = samples.iter().map(|s| s.len() as u64).sum();
    let longest = samples.iter().map(|s| s.len() as u64).max().unwrap_or(0);
    let (query, key, ffn) = (spec.query_rows(), spec.key_rows(), spec.ffn().unwrap_or_default());
    let layer = spec.hidden().saturating_mul(2 * query + 2 * key + 3 * ffn);
    let scores = (spec.heads() / spec.kv_heads().max(1)).saturating_mul(longest * longest);
    let passing = longest.saturating_mul(5 * spec.hidden() + 4 * (query + key) + 4 * ffn);
    let activations = tokens.saturating_mul(spec.hidden());
    layer.saturating_add(activations).saturating_add(passing).saturating_add(4 * scores).saturating_mul(4)
}

/// Runs the samples (lists of tokens). Returns the bytes of a statistics file, as `docs/en/statistics.md` describes it.
/// `observer` is notified of bytes of activations, each once for every layer.
///
/// # Errors
/// A parameter that is missing, not known or of another shape than the model's; a token without a row in the embedding;
/// numbers that are not finite; a cancelled run; a system that gives no threads.
pub fn gather(
    weights: &Weights,
    spec: &Model,
    how: &Arithmetic,
    samples: &[Vec<u32>],
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<Vec<u8>, CalibrateError> {
    threads()?.install(|| run(weights, spec, how, samples, observer, cancel))
}

/// The threads of everything that a calibration does. Those that rayon would start by itself it starts or panics.
fn threads() -> Result<rayon::ThreadPool, CalibrateError> {
    let name = "calibrate";
    rayon::ThreadPoolBuilder::new()
        .thread_name(move |_| name.to_owned())
        .build()
        .map_err(|e| CalibrateError::Thread(ThreadError { name, source: io::Error::other(e) }))
}

fn run(
    weights: &Weights,
    spec: &Model,
    how: &Arithmetic,
    samples: &[Vec<u32>],
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<Vec<u8>, CalibrateError> {
    for layer in 0..spec.layers() {
        // Anything else would change the arithmetic in a way that is not known here.
        let known = |name: &str| layer_suffixes(true).any(|known| known == name);
        if let Some(other) = weights.of_layer(layer).into_iter().find(|name| !known(name)) {
            return Err(CalibrateError::Model(format!("layer {layer} has a `{other}`, which llama has not")));
        }
    }
    let width = size(spec.hidden())?;
    let bytes = |tokens: usize| (tokens * width * 4) as u64;
    observer.event(Event::Started {
        bytes: samples.iter().map(|s| bytes(s.len())).sum::<u64>() * u64::from(spec.layers()),
    });
    let mut activations = embedded(weights, spec, samples)?;
    let mut ranges = Ranges::default();
    let mut positions: Option<Positions> = None;
    for number in 0..spec.layers() {
        let layer = read_layer(weights, spec, number)?;
        for x in &mut activations {
            if cancel.is_cancelled() {
                return Err(CalibrateError::Cancelled);
            }
            let tokens = x.dim(0)?;
            let at = match positions.take().filter(|p| p.tokens() == tokens) {
                Some(known) => known,
                None => Positions::new(tokens, how)?,
            };
            let mut see = |what: Observed, seen: &Tensor| {
                let values = seen.flatten_all()?.to_vec1::<f32>()?;
                let channels = ranges.0.entry(what.name(number));
                let channels = channels.or_insert(Channels::new(seen.dim(1)?));
                channels.see(&values);
                Ok(())
            };
            *x = layer.forward(x, &at, how, &mut see)?;
            positions = Some(at);
            observer.event(Event::Written { bytes: bytes(tokens) });
        }
        if let Some((name, _)) = ranges.0.iter().find(|(_, c)| !c.finite) {
            return Err(CalibrateError::NotFinite(name.clone()));
        }
    }
    let file = ranges.file().map_err(|source| PlanError::Header { rank: 0, source })?;
    Ok(file)
}

fn size(n: u64) -> Result<usize, CalibrateError> {
    usize::try_from(n).map_err(|_| CalibrateError::Model(format!("{n} is too many")))
}

/// The rows of the embedding that the samples' tokens have.
fn embedded(weights: &Weights, spec: &Model, samples: &[Vec<u32>]) -> Result<Vec<Tensor>, CalibrateError> {
    let rows = *weights.dims(EMBEDDING)?.first().unwrap_or(&0);
    let width = size(spec.hidden())?;
    check(weights, EMBEDDING, &[rows, spec.hidden()])?;
    let mut found = Vec::with_capacity(samples.len());
    for sample in samples {
        let mut values = vec![0f32; sample.len() * width];
        for (token, row) in sample.iter().zip(values.chunks_exact_mut(width)) {
            if u64::from(*token) >= rows {
                return Err(CalibrateError::Vocabulary { token: *token, rows });
            }
            weights.read(EMBEDDING, *token as usize * width, row)?;
        }
        found.push(Tensor::from_vec(values, (sample.len(), width), &Device::Cpu)?);
    }
    Ok(found)
}

fn check(weights: &Weights, name: &str, dims: &[u64]) -> Result<(), CalibrateError> {
    let found = weights.dims(name)?;
    if found == dims {
        return Ok(());
    }
    Err(CalibrateError::Model(format!("`{name}` is {found:?}, the model's dimensions say {dims:?}")))
}

fn read_layer(weights: &Weights, spec: &Model, layer: u32) -> Result<Layer, CalibrateError> {
    let tensor = |name: String| {
        let dims = weights.dims(&name)?.to_vec();
        if let Some(shape) = spec.stored_shape(&name) {
            check(weights, &name, shape.dims())?;
        }
        let dims = dims.into_iter().map(size).collect::<Result<Vec<_>, _>>()?;
        let mut values = vec![0f32; dims.iter().product()];
        weights.read(&name, 0, &mut values)?;
        Ok::<_, CalibrateError>(Tensor::from_vec(values, dims, &Device::Cpu)?)
    };
    let linear = |which: LayerParam| {
        let bias = Some(which.bias(layer)).filter(|bias| weights.has(bias)).map(&tensor).transpose()?;
        Ok::<_, CalibrateError>(Linear { weight: tensor(which.name(layer))?, bias })
    };
    Ok(Layer {
        attention_norm: tensor(LayerParam::AttentionNorm.name(layer))?,
        query: linear(LayerParam::Query)?,
        key: linear(LayerParam::Key)?,
        value: linear(LayerParam::Value)?,
        output: linear(LayerParam::Output)?,
        ffn_norm: tensor(LayerParam::FfnNorm.name(layer))?,
        gate: linear(LayerParam::Gate)?,
        up: linear(LayerParam::Up)?,
        down: linear(LayerParam::Down)?,
    })
}
