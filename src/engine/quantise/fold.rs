//! The small numbers: factors and what divides by them, biases, scales of inputs and caches. Written to the computed range.

use half::{bf16, f16};

use super::arithmetic::{self, half};
use super::rows::Rows;
use crate::engine::EngineError;
use crate::engine::fill::Inputs;
use crate::engine::view::View;
use crate::plan::{Arithmetic, CacheScales, Calculation, InputScales, Inverse, OutputTensor, Range, Smooth, Width};
use crate::source::index;
use crate::tensor::Dtype;

/// Numbers that are in the computed range as fp16.
pub(super) fn halves(bytes: &[u8], at: u64, count: u64) -> Vec<f32> {
    let bytes = &bytes[index(at)..index(at + count * 2)];
    bytes.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect()
}

fn put_half(bytes: &mut [u8], at: u64, number: usize, value: f32) {
    put(bytes, at, number, f16::from_f32(value).to_le_bytes());
}

fn put<const N: usize>(bytes: &mut [u8], at: u64, number: usize, value: [u8; N]) {
    let at = index(at) + number * N;
    bytes[at..at + N].copy_from_slice(&value);
}

fn unusable(name: &str, row: usize, why: &'static str) -> EngineError {
    EngineError::Unquantisable { name: name.to_owned(), row: row as u64, why }
}

/// The column, among the shared ones, whose factor a column has.
fn shared(smooth: &Smooth, column: usize) -> usize {
    let (block, repeat) = (index(smooth.block.max(1)), index(smooth.repeat.max(1)));
    (column / (block * repeat)) * block + column % block
}

/// Factors of all smoothed columns, and their inverse where it goes. `peaks`: the columns' greatest magnitudes.
pub(super) fn smooth(
    matrices: &[&Calculation],
    inputs: &Inputs<'_>,
    peaks: &[Vec<f32>],
    bytes: &mut [u8],
) -> Result<(), EngineError> {
    for (calculation, peaks) in matrices.iter().zip(peaks) {
        let (Some(smooth), Some(input)) = (&calculation.smooth, &calculation.input) else { continue };
        let factors = factors(smooth, input, peaks);
        for (column, _) in peaks.iter().enumerate() {
            put_half(bytes, smooth.factors, column, factors[shared(smooth, column)]);
        }
        match &smooth.inverse {
            Inverse::Input => {}
            Inverse::Rows { to } => {
                for (row, factor) in factors.iter().enumerate() {
                    put_half(bytes, *to, row, *factor);
                }
            }
            Inverse::Vector { vector, dtype, to } => {
                let values = floats(inputs, vector);
                for (at, (value, factor)) in values.iter().zip(&factors).enumerate() {
                    let value = value / factor;
                    let finite = match dtype {
                        Dtype::F16 => {
                            put_half(bytes, *to, at, value);
                            half(value).is_finite()
                        }
                        Dtype::BF16 => {
                            put(bytes, *to, at, bf16::from_f32(value).to_le_bytes());
                            bf16::from_f32(value).is_finite()
                        }
                        _ => {
                            put(bytes, *to, at, value.to_le_bytes());
                            value.is_finite()
                        }
                    };
                    if !finite {
                        return Err(unusable(&calculation.name, at, "makes the norm before it overflow"));
                    }
                }
            }
        }
    }
    Ok(())
}

/// One factor for each group of columns that share it.
fn factors(smooth: &Smooth, input: &InputScales, peaks: &[f32]) -> Vec<f32> {
    let count = peaks.len() / index(smooth.repeat.max(1));
    let mut of_input = vec![0f32; count];
    let mut of_weight = vec![0f32; count];
    for (column, peak) in peaks.iter().enumerate() {
        let at = shared(smooth, column);
        let (min, max) = (number(input.range.min[column]), number(input.range.max[column]));
        of_input[at] = of_input[at].max(min.abs().max(max.abs()));
        of_weight[at] = of_weight[at].max(*peak);
    }
    #[expect(clippy::cast_precision_loss, reason = "at most 1000")]
    let alpha = smooth.alpha_milli as f32 / 1000.0;
    of_input.iter().zip(&of_weight).map(|(i, w)| arithmetic::smooth(*i, *w, alpha)).collect()
}

fn number(bits: u16) -> f32 {
    f16::from_bits(bits).to_f32()
}

/// The elements of a vector that is not written.
fn floats(inputs: &Inputs<'_>, vector: &OutputTensor) -> Vec<f32> {
    let mut bytes = vec![0; index(vector.shape.bytes(vector.dtype))];
    inputs.fill_tensor(vector, 0, &mut bytes, &View::default());
    match vector.dtype {
        Dtype::F16 => bytes.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        _ => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
    }
}

/// What is known of a matrix once its rows are: scales, and what its input needs.
pub(super) fn finish(
    calculation: &Calculation,
    inputs: &Inputs<'_>,
    rows: &Rows,
    bytes: &mut [u8],
) -> Result<(), EngineError> {
    for (group, scale) in rows.scales.iter().enumerate() {
        match calculation.arithmetic {
            Arithmetic::Half => put_half(bytes, calculation.scales, group, *scale),
            Arithmetic::Single => put(bytes, calculation.scales, group, scale.to_le_bytes()),
        }
        if let Some(at) = calculation.half_scales {
            put_half(bytes, at, group, *scale);
        }
    }
    let Some(input) = &calculation.input else { return Ok(()) };
    let columns = index(calculation.columns);
    let factors = calculation.smooth.as_ref().map(|s| (s, halves(bytes, s.factors, calculation.columns)));
    let (min, max) = (0..columns)
        .map(|column| {
            let factor = factors.as_ref().map(|(smooth, factors)| (&smooth.inverse, factors[column]));
            (seen(input.range.min[column], factor), seen(input.range.max[column], factor))
        })
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), (min, max)| (a.min(min), b.max(max)));
    let (scale, zero_point) = arithmetic::asymmetric(min, max);
    if !scale.is_finite() || scale == 0.0 {
        return Err(unusable(&calculation.name, 0, "has an input whose scale fp16 cannot hold"));
    }
    for column in 0..columns {
        let smoothed = factors.as_ref().filter(|(smooth, _)| smooth.inverse == Inverse::Input);
        let of_column = smoothed.map_or(scale, |(_, factors)| half(scale * factors[column]));
        put_half(bytes, input.scales, column, of_column);
        #[expect(clippy::cast_possible_truncation, reason = "within int8")]
        put(bytes, input.zero_points, column, (zero_point as i8).to_le_bytes());
    }
    let before = input.bias.as_ref().map(|bias| floats(inputs, bias));
    let divide = calculation.divide.map(|at| halves(bytes, at, calculation.rows));
    for (row, (weight_scale, sum)) in rows.scales.iter().zip(&rows.sums).enumerate() {
        // Rows that are divided give a divided output, so their bias is too.
        let divisor = divide.as_ref().map_or(1.0, |d| d[row]);
        let before = before.as_ref().map(|b| half(b[row] / divisor));
        let bias = arithmetic::bias(*sum, zero_point, *weight_scale, scale, before);
        if !bias.is_finite() {
            return Err(unusable(&calculation.name, row, "has a bias that fp16 cannot hold"));
        }
        put_half(bytes, input.new_bias, row, bias);
        let packed = arithmetic::packed(scale * weight_scale);
        put(bytes, input.dequant_scales, row, packed.to_le_bytes());
    }
    Ok(())
}

/// What an observed input is once its columns are smoothed: divided by the factor, as the code that takes the inverse does it.
fn seen(bits: u16, factor: Option<(&Inverse, f32)>) -> f32 {
    match factor {
        None => number(bits),
        Some((Inverse::Input, factor)) => half(number(bits) / factor),
        // The norm or the rows are divided, and their product with what comes in is rounded.
        Some((_, factor)) => half(number(bits) * (1.0 / factor)),
    }
}

/// Scales of keys and values, symmetric, channel by channel.
pub(super) fn cache(cache: &CacheScales, bytes: &mut [u8]) -> Result<(), EngineError> {
    let channels = cache.keys.min.len();
    let divide = cache.divide.map(|at| halves(bytes, at, channels as u64));
    let scales = |range: &Range, divide: Option<&Vec<f32>>| -> Result<Vec<f32>, EngineError> {
        let peak = |c: usize| {
            let factor = divide.map_or(1.0, |d| d[c]);
            half(number(range.min[c]).abs().max(number(range.max[c]).abs()) * (1.0 / factor))
        };
        // A channel that was never anything but 0 gets 1. golden-stick gives it 0, by which its network then divides.
        let of = |c| match arithmetic::scale(peak(c), Width::Int8, Arithmetic::Half) {
            0.0 => 1.0,
            scale => scale,
        };
        let scales: Vec<f32> = (0..channels).map(of).collect();
        match scales.iter().position(|s| !s.is_finite()) {
            Some(at) => Err(unusable(&cache.name, at, "has a cache scale that fp16 cannot hold")),
            None => Ok(scales),
        }
    };
    let (keys, values) = (scales(&cache.keys, None)?, scales(&cache.values, divide.as_ref())?);
    for (all, places) in [(&keys, &cache.key_scales), (&values, &cache.value_scales)] {
        for place in places {
            all.iter().enumerate().for_each(|(at, scale)| put_half(bytes, *place, at, *scale));
        }
    }
    for (at, scale) in keys.iter().chain(&values).enumerate() {
        put(bytes, cache.packed, at, arithmetic::packed(*scale).to_le_bytes());
    }
    Ok(())
}
