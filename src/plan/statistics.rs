//! Statistics of a model's activations: what `--stats` reads. The format is described in `docs/en/statistics.md`.

use std::collections::BTreeMap;

use half::f16;

use super::PlanError;
use super::calculation::Range;
use crate::formats::Entry;
#[cfg(feature = "calibrate")]
use crate::model::Model;
use crate::model::naming::{LayerParam, decoder_layer};
use crate::tensor::Dtype;

/// What is observed of a decoder layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// The input of q, k and v.
    AttentionInput,
    /// The input of the output projection.
    OutputInput,
    /// The input of gate and up.
    FeedForwardInput,
    /// The input of the down projection.
    DownInput,
    /// The keys.
    Keys,
    /// The values.
    Values,
}

impl Observed {
    /// All of it.
    pub const ALL: [Self; 6] =
        [Self::AttentionInput, Self::OutputInput, Self::FeedForwardInput, Self::DownInput, Self::Keys, Self::Values];

    /// The input of the layer with this weight.
    pub const fn input_of(weight: LayerParam) -> Option<Self> {
        match weight {
            LayerParam::Query | LayerParam::Key | LayerParam::Value => Some(Self::AttentionInput),
            LayerParam::Output => Some(Self::OutputInput),
            LayerParam::Gate | LayerParam::Up => Some(Self::FeedForwardInput),
            LayerParam::Down => Some(Self::DownInput),
            LayerParam::AttentionNorm | LayerParam::FfnNorm => None,
        }
    }

    /// Its name in the format: an input has that of the layer that it goes into, fused; keys and values have that of their cell.
    pub fn name(self, layer: u32) -> String {
        let input = |weight: LayerParam| format!("{}.input", weight.fused_layer(layer));
        match self {
            Self::AttentionInput => input(LayerParam::Query),
            Self::OutputInput => input(LayerParam::Output),
            Self::FeedForwardInput => input(LayerParam::Gate),
            Self::DownInput => input(LayerParam::Down),
            Self::Keys => format!("{}.key", LayerParam::Key.cell(layer)),
            Self::Values => format!("{}.value", LayerParam::Value.cell(layer)),
        }
    }

    /// How many channels it has.
    #[cfg(feature = "calibrate")]
    fn channels(self, spec: &Model) -> u64 {
        match self {
            Self::AttentionInput | Self::FeedForwardInput => spec.hidden(),
            Self::OutputInput => spec.query_rows(),
            Self::DownInput => spec.ffn().unwrap_or(1),
            Self::Keys | Self::Values => spec.key_rows(),
        }
    }
}

/// The only version.
pub const STATISTICS_VERSION: &str = "1";

/// The least and greatest value of each channel of each observed input, as fp16.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Statistics {
    ranges: BTreeMap<String, Range>,
    layers: u32,
}

impl Statistics {
    /// Reads what a safetensors file lists. `bytes` is the whole file.
    ///
    /// # Errors
    /// An unknown or doubled name, a tensor that is no vector of fp16 or fp32 numbers, a number that fp16 cannot hold, a
    /// minimum above its maximum, or one without the other.
    pub fn new(entries: &[Entry], bytes: &[u8]) -> Result<Self, PlanError> {
        let mut ends: BTreeMap<(String, bool), Vec<u16>> = BTreeMap::new();
        let mut layers = 0;
        for entry in entries {
            let bad = |why: &str| PlanError::Statistics(format!("`{}` {why}", entry.name));
            let known = observed(&entry.name).ok_or_else(|| bad("is not a name of the format"))?;
            layers = layers.max(known.0 + 1);
            let key = (entry.name[..entry.name.len() - 4].to_owned(), known.1);
            let values = numbers(entry, bytes).map_err(|why| bad(&why))?;
            ends.insert(key, values);
        }
        let mut ranges = BTreeMap::new();
        for ((name, greatest), min) in &ends {
            if *greatest {
                if !ends.contains_key(&(name.clone(), false)) {
                    return Err(PlanError::Statistics(format!("`{name}.max` is there, `{name}.min` is not")));
                }
                continue;
            }
            let max = ends.get(&(name.clone(), true));
            let max =
                max.ok_or_else(|| PlanError::Statistics(format!("`{name}.min` is there, `{name}.max` is not")))?;
            let orderly = |(min, max): (&u16, &u16)| f16::from_bits(*min) <= f16::from_bits(*max);
            if min.len() != max.len() || !min.iter().zip(max).all(orderly) {
                let why = format!("`{name}.min` is not everywhere at most `{name}.max`");
                return Err(PlanError::Statistics(why));
            }
            ranges.insert(name.clone(), Range { min: min.clone(), max: max.clone() });
        }
        Ok(Self { ranges, layers })
    }

    /// Statistics of a model that was not run: every channel between -1 and 1. For plans whose sizes are wanted before.
    #[cfg(feature = "calibrate")]
    pub fn placeholder(spec: &Model) -> Self {
        let mut ranges = BTreeMap::new();
        for layer in 0..spec.layers() {
            for what in Observed::ALL {
                let all = |value| vec![f16::to_bits(value); usize::try_from(what.channels(spec)).unwrap_or(0)];
                let range = Range { min: all(f16::NEG_ONE), max: all(f16::ONE) };
                ranges.insert(what.name(layer), range);
            }
        }
        Self { ranges, layers: spec.layers() }
    }

    /// How many layers they are of.
    pub fn layers(&self) -> u32 {
        self.layers
    }

    /// The range of each channel of what is observed under a name, which must have `channels` channels.
    pub(super) fn range(&self, name: &str, channels: u64) -> Result<Range, PlanError> {
        let missing = || PlanError::Statistics(format!("`{name}.min` and `{name}.max` are not there"));
        let range = self.ranges.get(name).ok_or_else(missing)?;
        if range.min.len() as u64 != channels {
            let found = range.min.len();
            return Err(PlanError::Statistics(format!("`{name}` has {found} channels, the model has {channels}")));
        }
        Ok(range.clone())
    }
}

/// The layer, and whether it is the greatest, of a name of the format.
fn observed(name: &str) -> Option<(u32, bool)> {
    let (name, end) = name.rsplit_once('.')?;
    let greatest = match end {
        "min" => false,
        "max" => true,
        _ => return None,
    };
    let (layer, _) = decoder_layer(name)?;
    Observed::ALL.iter().any(|what| what.name(layer) == name).then_some((layer, greatest))
}

/// The numbers of a vector as fp16.
fn numbers(entry: &Entry, bytes: &[u8]) -> Result<Vec<u16>, String> {
    if entry.shape.ndim() != 1 || !matches!(entry.dtype, Dtype::F16 | Dtype::F32) {
        return Err(format!("is {}{}, not a vector of fp16 or fp32", entry.dtype, entry.shape));
    }
    let range = entry.extents.as_contiguous().and_then(|range| range.of(bytes)).unwrap_or_default();
    let wide = |b: &[u8; 4]| f16::from_f32(f32::from_le_bytes(*b));
    let values: Vec<f16> = match entry.dtype {
        Dtype::F16 => range.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b)).collect(),
        _ => range.as_chunks::<4>().0.iter().map(wide).collect(),
    };
    match values.iter().position(|v| !v.is_finite()) {
        Some(at) => Err(format!("is not a finite fp16 number at channel {at}")),
        None => Ok(values.into_iter().map(f16::to_bits).collect()),
    }
}
