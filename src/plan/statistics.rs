//! Statistics of a model's activations: what `--stats` reads. The format is described in `docs/en/statistics.md`.

use std::collections::BTreeMap;

use half::f16;

use super::PlanError;
use super::calculation::Range;
use crate::formats::Entry;
use crate::models::ModelSpec;
use crate::tensor::Dtype;

/// The inputs that are observed, by the fused name of the layer that they go into, and the two caches.
const OBSERVED: [&str; 6] = [
    "attention.w_qkv.input",
    "attention.wo.input",
    "feed_forward.w_gate_hidden.input",
    "feed_forward.w2.input",
    "attention.key",
    "attention.value",
];

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
    pub fn placeholder(spec: &ModelSpec) -> Self {
        let mut ranges = BTreeMap::new();
        for layer in 0..spec.layers {
            for what in OBSERVED {
                let channels = match what {
                    "attention.wo.input" => spec.query_rows(),
                    "feed_forward.w2.input" => spec.ffn,
                    "attention.key" | "attention.value" => spec.key_rows(),
                    _ => spec.hidden,
                };
                let all = |value| vec![f16::to_bits(value); usize::try_from(channels).unwrap_or(0)];
                let range = Range { min: all(f16::NEG_ONE), max: all(f16::ONE) };
                ranges.insert(format!("model.layers.{layer}.{what}"), range);
            }
        }
        Self { ranges, layers: spec.layers }
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
    let (layer, what) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let layer = layer.parse().ok().filter(|&n: &u32| n < 10_000)?;
    OBSERVED.contains(&what).then_some((layer, greatest))
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
