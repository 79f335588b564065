//! In which order the rows of a fused gate and up are, as far as the sizes of the rows show it.
//!
//! The rows of gate and of up have different sizes in a trained model. One part after the other, the two halves of the rows
//! differ, and even rows are like odd ones; row by row in turn it is the reverse. What is compared are the means of the
//! logarithms of the sizes, in units of their standard error (Welch's t): in SmolLM2-135M 5.6 to 54 for the right order and
//! at most 1.3 for the other, layer by layer. The rows of a model that was not trained differ in neither way.

use crate::formats::Entry;
use crate::input::{Input, LoadedFile, read_tensor};
use crate::model::FusionLayout;
use crate::model::naming::{fused, is_lora};
use crate::sys::FileError;
use crate::tensor::Dtype;

/// How many parameters are looked at, spread over the layers.
const PARAMETERS: usize = 4;
/// How many rows of each half, and how many elements of a row.
const ROWS: u64 = 512;
const COLUMNS: u64 = 128;
/// Sum of the squares of t over the parameters from which an order is seen, and how many times the other order's it must be.
/// Where nothing differs, the sum is about the number of parameters.
const SEEN: f64 = 64.0;
const TIMES: f64 = 16.0;

/// The order that the sizes of a checkpoint's rows show. `None`: they show none, or nothing is fused. Reads a few MiB of the
/// lowest rank's weights.
///
/// # Errors
/// A source that cannot be read.
pub(super) fn order(input: &Input) -> Result<Option<FusionLayout>, FileError> {
    let Some(lowest) = input.files.iter().map(|file| file.rank).min() else { return Ok(None) };
    let of_lowest = input.files.iter().filter(|file| file.rank == lowest);
    let all: Vec<_> = of_lowest.flat_map(|file| file.entries.iter().map(move |entry| (file, entry))).collect();
    let candidates: Vec<_> = all.into_iter().filter(|(_, entry)| is_gate_and_up(entry)).collect();
    let (mut concatenated, mut in_turn) = (0.0, 0.0);
    for (file, entry) in candidates.iter().step_by(candidates.len().div_ceil(PARAMETERS).max(1)) {
        let Some(rows) = sizes(file, entry)? else { continue };
        let half = entry.shape.dims()[0] / 2;
        concatenated += t(&rows, |row| row < half).powi(2);
        in_turn += t(&rows, |row| row.is_multiple_of(2)).powi(2);
    }
    let clear = |one: f64, other: f64| one >= SEEN && one >= TIMES * other;
    Ok(if clear(concatenated, in_turn) {
        Some(FusionLayout::RankConcat)
    } else if clear(in_turn, concatenated) {
        Some(FusionLayout::Grouped)
    } else {
        None
    })
}

fn is_gate_and_up(entry: &Entry) -> bool {
    let fused = fused(&entry.name).filter(|f| *f.name == *entry.name && f.query_rows_of.is_none() && !f.shared);
    fused.is_some() && !is_lora(&entry.name) && entry.shape.ndim() == 2
}

/// Rows of both halves, each with the logarithm of its size. `None`: a row of zeros, or of what is no number.
fn sizes(file: &LoadedFile, entry: &Entry) -> Result<Option<Vec<(u64, f64)>>, FileError> {
    let &[rows, columns] = entry.shape.dims() else { return Ok(None) };
    let (half, looked_at) = (rows / 2, (rows / 2).min(ROWS));
    let size = entry.dtype.size();
    let (mut bytes, mut sizes) = (Vec::new(), Vec::new());
    for row in (0..looked_at).chain(half..half + looked_at) {
        let wanted = (row * columns * size, columns.min(COLUMNS) * size);
        read_tensor(&file.mapping, &entry.extents, wanted, &mut bytes)?;
        let squares = sum_of_squares(&bytes, entry.dtype).filter(|sum| *sum > 0.0 && sum.is_finite());
        let Some(squares) = squares else { return Ok(None) };
        sizes.push((row, squares.ln()));
    }
    Ok(Some(sizes))
}

fn sum_of_squares(bytes: &[u8], dtype: Dtype) -> Option<f64> {
    let square = |value: f32| f64::from(value) * f64::from(value);
    let two = |decode: fn([u8; 2]) -> f32| bytes.as_chunks().0.iter().map(|b| square(decode(*b))).sum();
    Some(match dtype {
        Dtype::F16 => two(|b| half::f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => two(|b| half::bf16::from_le_bytes(b).to_f32()),
        Dtype::F32 => bytes.as_chunks().0.iter().map(|b| square(f32::from_le_bytes(*b))).sum(),
        _ => return None,
    })
}

/// Welch's t between the rows that are of the first kind and the others; 0 where there are too few.
fn t(rows: &[(u64, f64)], is_first: impl Fn(u64) -> bool) -> f64 {
    let moments = |first: bool| {
        let values = || rows.iter().filter(|(row, _)| is_first(*row) == first).map(|(_, value)| *value);
        let (count, sum) = values().fold((0.0, 0.0), |(n, sum), value| (n + 1.0, sum + value));
        let mean = sum / count;
        let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    };
    let ((a, of_a), (b, of_b)) = (moments(true), moments(false));
    let t = (a - b) / (of_a + of_b).sqrt();
    if t.is_finite() { t } else { 0.0 }
}
