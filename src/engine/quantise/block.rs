//! Rows and blocks of rows, many elements at once. Bit for bit what [`super::arithmetic`] says of one element.
//!
//! A product or quotient of two fp16 numbers in fp32, rounded to fp16, is the fp16 product or quotient rounded once (fp32 has
//! more than twice as many bits), so all of fp16's arithmetic is done in fp32, with the processor's own conversions.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::plan::Arithmetic;

/// Elements that are held at once: they stay in the first cache.
pub(super) const BLOCK: usize = 4096;
/// Elements that are converted at once.
const STEP: usize = 512;

/// Adding this rounds an fp32 of small magnitude to an integer, half to even; the lowest bits are that integer.
const MAGIC: f32 = 12_582_912.0;

/// A row, or a part of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub arithmetic: Arithmetic,
    pub scale: f32,
    /// One factor for each element.
    pub multiply: Option<&'a [f32]>,
    pub divide: Option<f32>,
}

/// What quantising did to a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct RowOutcome {
    /// The sum of the int8 elements.
    pub sum: i64,
    /// The greatest difference between an element and what it dequantises to.
    pub greatest: f32,
    /// The sum of the squares of the differences.
    pub squares: f64,
    /// Elements beyond the range of int8.
    pub clipped: u64,
}

/// Elements (fp16 bytes) as fp32.
pub(super) fn widen(bytes: &[u8], values: &mut [f32]) {
    let mut halves = [f16::ZERO; STEP];
    for (bytes, values) in bytes.chunks(STEP * 2).zip(values.chunks_mut(STEP)) {
        for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *half = f16::from_le_bytes(*bytes);
        }
        halves[..values.len()].convert_to_f32_slice(values);
    }
}

/// Rounds to fp16 and back.
pub(super) fn round_half(values: &mut [f32]) {
    let mut halves = [f16::ZERO; STEP];
    for values in values.chunks_mut(STEP) {
        let halves = &mut halves[..values.len()];
        halves.convert_from_f32_slice(values);
        halves.convert_to_f32_slice(values);
    }
}

/// Multiplies and divides as the row says; each step rounds to fp16.
pub(super) fn scale_elements(row: &Row<'_>, at: usize, values: &mut [f32]) {
    if let Some(factors) = row.multiply {
        for (value, factor) in values.iter_mut().zip(&factors[at..]) {
            *value *= factor;
        }
        round_half(values);
    }
    if let Some(divisor) = row.divide {
        for value in &mut *values {
            *value /= divisor;
        }
        round_half(values);
    }
}

/// Quotients by the scale, before they are clamped and rounded. A scale of 0 is that of a row of zeros.
fn quotients(row: &Row<'_>, values: &mut [f32]) {
    let scale = if row.scale == 0.0 { f32::INFINITY } else { row.scale };
    for value in &mut *values {
        *value /= scale;
    }
    if row.arithmetic == Arithmetic::Half {
        round_half(values);
    }
}

/// Rounds half to even after clamping, which gives the same as clamping after rounding: the bounds are integers.
fn to_int8(quotients: &[f32], out: &mut [u8]) {
    for (out, quotient) in out.iter_mut().zip(quotients) {
        let bits = (quotient.clamp(-128.0, 127.0) + MAGIC).to_bits();
        *out = bits.to_le_bytes()[0];
    }
}

/// Quantises a row, or a part of one, of fp16 elements.
pub(super) fn quantise_row(row: &Row<'_>, bytes: &[u8], out: &mut [u8]) {
    let mut values = [0f32; STEP];
    for (step, (bytes, out)) in bytes.chunks(STEP * 2).zip(out.chunks_mut(STEP)).enumerate() {
        let values = &mut values[..out.len()];
        widen(bytes, values);
        scale_elements(row, step * STEP, values);
        quotients(row, values);
        to_int8(values, out);
    }
}

/// Quantises a row only to see what it does. `values`: the row after [`scale_elements`].
pub(super) fn measure_row(row: &Row<'_>, values: &[f32]) -> RowOutcome {
    let mut outcome = RowOutcome::default();
    let (mut quotient, mut bytes) = ([0f32; STEP], [0u8; STEP]);
    for values in values.chunks(STEP) {
        let (quotient, bytes) = (&mut quotient[..values.len()], &mut bytes[..values.len()]);
        quotient.copy_from_slice(values);
        quotients(row, quotient);
        to_int8(quotient, bytes);
        let (mut sum, mut clipped, mut greatest, mut squares) = (0i32, 0u32, [0f32; 8], [0f32; 8]);
        // Beyond what rounds to -128 or 127; ties go to the even -128 and 128.
        for (&q, &byte) in quotient.iter().zip(&*bytes) {
            clipped += u32::from(!(-128.5..127.5).contains(&q));
            sum += i32::from(i8::from_le_bytes([byte]));
        }
        for (bytes, values) in bytes.chunks(8).zip(values.chunks(8)) {
            for (lane, (&byte, &value)) in bytes.iter().zip(values).enumerate() {
                let error = (f32::from(i8::from_le_bytes([byte])) * row.scale - value).abs();
                greatest[lane] = greatest[lane].max(error);
                squares[lane] += error * error;
            }
        }
        outcome.sum += i64::from(sum);
        outcome.clipped += u64::from(clipped);
        outcome.greatest = greatest.iter().fold(outcome.greatest, |a, &b| a.max(b));
        outcome.squares += squares.iter().map(|&s| f64::from(s)).sum::<f64>();
    }
    outcome
}

/// The greatest magnitude; NaN or infinity where one is among the values.
pub(super) fn peak(values: &[f32]) -> f32 {
    let mut lanes = [0u32; 8];
    for values in values.chunks(8) {
        for (lane, value) in lanes.iter_mut().zip(values) {
            // The bits of magnitudes are ordered as they are, with infinity and NaN above all.
            *lane = (*lane).max(value.to_bits() & 0x7fff_ffff);
        }
    }
    f32::from_bits(lanes.into_iter().fold(0, u32::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every quotient of an fp16 element by some scales, against arithmetic in doubles, where nothing but the last step rounds.
    #[test]
    fn every_half_is_quantised_like_one_by_one_in_doubles() {
        let elements: Vec<u8> =
            (0..=u16::MAX).filter(|b| f16::from_bits(*b).is_finite()).flat_map(u16::to_le_bytes).collect();
        for scale in [1.0, 0.007_057, 0.001_051, 6.0e-8, 100.0, 513.7].map(|s| f16::from_f32(s).to_f32()) {
            let row = Row { arithmetic: Arithmetic::Half, scale, multiply: None, divide: None };
            let mut out = vec![0; elements.len() / 2];
            quantise_row(&row, &elements, &mut out);
            for (bytes, out) in elements.as_chunks::<2>().0.iter().zip(out) {
                let quotient = f64::from(f16::from_le_bytes(*bytes).to_f32()) / f64::from(scale);
                let rounded = super::super::arithmetic::round_to_half(quotient).to_f64().round_ties_even();
                let expected = rounded.clamp(-128.0, 127.0);
                assert!((f64::from(i8::from_le_bytes([out])) - expected).abs() < 0.5, "{bytes:?} / {scale}");
            }
        }
    }

    #[test]
    fn what_a_row_lost_is_counted_and_a_row_of_zeros_stays_one() {
        let values = [1.0, -1.0, 127.5, -128.0, 126.5, 0.25];
        let row = Row { arithmetic: Arithmetic::Half, scale: 1.0, multiply: None, divide: None };
        let outcome = measure_row(&row, &values);
        // 127.5 would round to 128; 126.5 goes to the even 126.
        assert_eq!(outcome.clipped, 1);
        assert_eq!(outcome.sum, 125);
        assert!((outcome.greatest - 0.5).abs() < 1e-6);
        assert!((outcome.squares - (0.25 + 0.25 + 0.0625)).abs() < 1e-6);
        let zeros = Row { scale: 0.0, ..row };
        assert_eq!(measure_row(&zeros, &[0.0, -0.0]), RowOutcome::default());
        assert!(peak(&[1.0, f32::NAN, 2.0]).is_nan());
        assert!((peak(&[1.0, -3.0, 2.0]) - 3.0).abs() < 1e-9);
    }
}
