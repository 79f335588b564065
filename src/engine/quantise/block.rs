//! Rows and blocks of rows, many elements at once. Bit for bit what [`super::arithmetic`] says of one element.
//!
//! A product or quotient of two fp16 numbers in fp32, rounded to fp16, is the fp16 product or quotient rounded once (fp32 has
//! more than twice as many bits), so all of fp16's arithmetic is done in fp32. The loops are plain, and compiled for each width
//! of the processor's vectors.

#![expect(clippy::inline_always, reason = "only what is inlined is compiled for the processor's vectors")]

use crate::engine::cast::float::{Float, Half, INFINITY, MAGNITUDE};
use crate::engine::quantise::arithmetic::range;
use crate::plan::{Arithmetic, Width};
use crate::sys::{Kernel, Vectors};

/// Elements that go through all steps together.
const STEP: usize = 512;

/// Adding this rounds an fp32 of small magnitude to an integer, half to even; the lowest bits are that integer.
const MAGIC: f32 = 12_582_912.0;

/// A row, or a part of one.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Row<'a> {
    pub width: Width,
    pub arithmetic: Arithmetic,
    pub scale: f32,
    /// One factor for each element.
    pub multiply: Option<&'a [f32]>,
    pub divide: Option<f32>,
}

/// What quantising did to a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct RowOutcome {
    /// The sum of the integers.
    pub sum: i64,
    /// The greatest difference between an element and what it dequantises to.
    pub greatest: f32,
    /// The sum of the squares of the differences.
    pub squares: f64,
    /// Elements beyond the range of int8, or int4.
    pub clipped: u64,
}

/// Elements (fp16 bytes) as fp32.
#[inline(always)]
fn widen(bytes: &[u8], values: &mut [f32]) {
    for (value, half) in values.iter_mut().zip(Half::elements(bytes)) {
        *value = f32::from_bits(Half::to_single(*half));
    }
}

/// A number rounded to fp16, infinite where fp16 cannot hold it.
#[inline(always)]
fn to_half(value: f32) -> f32 {
    let bits = value.to_bits();
    let rounded = Half::to_single_quickly(Half::from_single_quickly(bits));
    let beyond = bits & MAGNITUDE >= Half::OVERFLOW;
    // NaN has a magnitude above infinity's and becomes infinite too: neither can be quantised.
    f32::from_bits(if beyond { INFINITY } else { rounded })
}

/// Multiplies and divides as the row says; each step rounds to fp16. `at`: the first element's place in the row.
#[inline(always)]
fn scale_elements(row: &Row<'_>, at: usize, values: &mut [f32]) {
    if let Some(factors) = row.multiply {
        for (value, factor) in values.iter_mut().zip(&factors[at..]) {
            *value = to_half(*value * factor);
        }
    }
    if let Some(divisor) = row.divide {
        for value in values {
            *value = to_half(*value / divisor);
        }
    }
}

/// Quotients by the scale, before they are clamped to the width and rounded to integers. A scale of 0 is that of a row of zeros.
#[inline(always)]
fn quotients(row: &Row<'_>, values: &mut [f32]) {
    let scale = if row.scale == 0.0 { f32::INFINITY } else { row.scale };
    match row.arithmetic {
        Arithmetic::Half => {
            for value in values {
                // Far beyond int8 nothing changes any more, and fp16 can hold it.
                let quotient = (*value / scale).clamp(-1024.0, 1024.0);
                *value = f32::from_bits(Half::to_single_quickly(Half::from_single_quickly(quotient.to_bits())));
            }
        }
        Arithmetic::Single => values.iter_mut().for_each(|value| *value /= scale),
    }
}

/// Rounds half to even after clamping, which gives the same as clamping after rounding: the bounds are integers.
#[inline(always)]
fn to_integers((least, greatest): (f32, f32), quotients: &[f32], out: &mut [u8]) {
    for (out, quotient) in out.iter_mut().zip(quotients) {
        let bits = (quotient.clamp(least, greatest) + MAGIC).to_bits();
        *out = bits.to_le_bytes()[0];
    }
}

/// Quantises a row, or a part of one, of fp16 elements, to one integer a byte, whatever the width.
pub(in crate::engine) fn quantise_row(row: &Row<'_>, bytes: &[u8], out: &mut [u8]) {
    Vectors::widest().run(Quantise { row, bytes, out });
}

struct Quantise<'a, 'b> {
    row: &'a Row<'b>,
    bytes: &'a [u8],
    out: &'a mut [u8],
}

impl Kernel for Quantise<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let mut values = [0f32; STEP];
        let bounds = range(self.row.width);
        for (step, (bytes, out)) in self.bytes.chunks(STEP * 2).zip(self.out.chunks_mut(STEP)).enumerate() {
            let values = &mut values[..out.len()];
            widen(bytes, values);
            scale_elements(self.row, step * STEP, values);
            quotients(self.row, values);
            to_integers(bounds, values, out);
        }
    }
}

/// A whole row as fp32, multiplied and divided. Answers the greatest magnitude (infinite or NaN where one is among the elements)
/// and the sum of the squares.
pub(super) fn prepare_row(row: &Row<'_>, bytes: &[u8], values: &mut [f32]) -> (f32, f64) {
    Vectors::widest().run(Prepare { row, bytes, values })
}

struct Prepare<'a, 'b> {
    row: &'a Row<'b>,
    bytes: &'a [u8],
    values: &'a mut [f32],
}

impl Kernel for Prepare<'_, '_> {
    type Output = (f32, f64);

    #[inline(always)]
    fn run(self) -> (f32, f64) {
        let (mut peak, mut squares) = ([0u32; LANES], 0.0);
        for (step, (bytes, values)) in self.bytes.chunks(STEP * 2).zip(self.values.chunks_mut(STEP)).enumerate() {
            widen(bytes, values);
            scale_elements(self.row, step * STEP, values);
            let mut sums = [0f32; LANES];
            let (whole, rest) = values.as_chunks::<LANES>();
            for values in whole {
                for lane in 0..LANES {
                    // The bits of magnitudes are ordered as they are, with infinity and NaN above all.
                    peak[lane] = peak[lane].max(values[lane].to_bits() & MAGNITUDE);
                    sums[lane] += values[lane] * values[lane];
                }
            }
            for value in rest {
                peak[0] = peak[0].max(value.to_bits() & MAGNITUDE);
                sums[0] += value * value;
            }
            squares += sums.iter().map(|&s| f64::from(s)).sum::<f64>();
        }
        (f32::from_bits(peak.into_iter().fold(0, u32::max)), squares)
    }
}

/// Sums that are taken side by side.
const LANES: usize = 16;

/// The greatest magnitude of each column so far, with one more row.
pub(super) fn raise_peaks(bytes: &[u8], peaks: &mut [f32]) {
    Vectors::widest().run(Raise { bytes, peaks });
}

struct Raise<'a> {
    bytes: &'a [u8],
    peaks: &'a mut [f32],
}

impl Kernel for Raise<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (peak, half) in self.peaks.iter_mut().zip(Half::elements(self.bytes)) {
            // What is not finite shows when the rows are prepared.
            *peak = peak.max(f32::from_bits(Half::to_single_quickly(*half)).abs());
        }
    }
}

/// Quantises a row only to see what it does. `values`: the row as [`prepare_row`] leaves it.
pub(super) fn measure_row(row: &Row<'_>, values: &[f32]) -> RowOutcome {
    Vectors::widest().run(Measure { row, values })
}

struct Measure<'a, 'b> {
    row: &'a Row<'b>,
    values: &'a [f32],
}

impl Kernel for Measure<'_, '_> {
    type Output = RowOutcome;

    #[inline(always)]
    fn run(self) -> RowOutcome {
        let mut outcome = RowOutcome::default();
        let (mut quotient, mut whole) = ([0f32; STEP], [0f32; STEP]);
        let (least, greatest) = range(self.row.width);
        for values in self.values.chunks(STEP) {
            let (quotient, whole) = (&mut quotient[..values.len()], &mut whole[..values.len()]);
            quotient.copy_from_slice(values);
            quotients(self.row, quotient);
            let (mut sum, mut clipped) = (0i32, 0u32);
            for (whole, &q) in whole.iter_mut().zip(&*quotient) {
                // Beyond what rounds to -128 or 127 (-8 or 7); ties go to the even -128 and 128 (-8 and 8).
                clipped += u32::from(q < least - 0.5) + u32::from(q >= greatest + 0.5);
                let shifted = q.clamp(least, greatest) + MAGIC;
                sum += shifted.to_bits().cast_signed() - MAGIC.to_bits().cast_signed();
                *whole = shifted - MAGIC;
            }
            let (mut furthest, mut squares) = ([0f32; LANES], [0f32; LANES]);
            let ((values, rest), (wholes, last)) = (values.as_chunks::<LANES>(), whole.as_chunks::<LANES>());
            for (values, wholes) in values.iter().zip(wholes) {
                for lane in 0..LANES {
                    let error = (wholes[lane] * self.row.scale - values[lane]).abs();
                    furthest[lane] = if error > furthest[lane] { error } else { furthest[lane] };
                    squares[lane] += error * error;
                }
            }
            for (value, whole) in rest.iter().zip(last) {
                let error = (whole * self.row.scale - value).abs();
                furthest[0] = furthest[0].max(error);
                squares[0] += error * error;
            }
            outcome.sum += i64::from(sum);
            outcome.clipped += u64::from(clipped);
            outcome.greatest = furthest.iter().fold(outcome.greatest, |a, &b| a.max(b));
            outcome.squares += squares.iter().map(|&s| f64::from(s)).sum::<f64>();
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    /// Every quotient of an fp16 element by some scales, against arithmetic in doubles, where nothing but the last step rounds.
    #[test]
    fn every_half_is_quantised_like_one_by_one_in_doubles() {
        let elements: Vec<u8> =
            (0..=u16::MAX).filter(|b| f16::from_bits(*b).is_finite()).flat_map(u16::to_le_bytes).collect();
        for scale in [1.0, 0.007_057, 0.001_051, 6.0e-8, 100.0, 513.7].map(|s| f16::from_f32(s).to_f32()) {
            let row = Row { width: Width::Int8, arithmetic: Arithmetic::Half, scale, multiply: None, divide: None };
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
    fn int4_is_clamped_to_its_own_range() {
        let row = Row { width: Width::Int4, arithmetic: Arithmetic::Half, scale: 0.5, multiply: None, divide: None };
        let elements = [100.0, -100.0, 3.75, -4.25, 0.25, -0.75, 1.0];
        let bytes: Vec<u8> = elements.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        let mut out = [0; 7];
        quantise_row(&row, &bytes, &mut out);
        // 7.5 would be 8; 0.5 goes to the even 0, -1.5 to -2.
        assert_eq!(out.map(u8::cast_signed), [7, -8, 7, -8, 0, -2, 2]);
    }

    #[test]
    fn what_a_row_lost_is_counted_and_a_row_of_zeros_stays_one() {
        let values = [1.0, -1.0, 127.5, -128.0, 126.5, 0.25];
        let row = Row { width: Width::Int8, arithmetic: Arithmetic::Half, scale: 1.0, multiply: None, divide: None };
        let outcome = measure_row(&row, &values);
        // 127.5 would round to 128; 126.5 goes to the even 126.
        assert_eq!(outcome.clipped, 1);
        assert_eq!(outcome.sum, 125);
        assert!((outcome.greatest - 0.5).abs() < 1e-6);
        assert!((outcome.squares - (0.25 + 0.25 + 0.0625)).abs() < 1e-6);
        // The same by int4: 1, -1, 7, -8, 7 and 0, of which the third to the fifth are beyond its range.
        let narrow = measure_row(&Row { width: Width::Int4, ..row }, &values);
        assert_eq!((narrow.clipped, narrow.sum), (3, 6));
        let zeros = Row { scale: 0.0, ..row };
        assert_eq!(measure_row(&zeros, &[0.0, -0.0]), RowOutcome::default());
        let halves =
            |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect() };
        let mut room = [0.0; 3];
        assert!(!prepare_row(&row, &halves(&[1.0, f32::NAN, 2.0]), &mut room).0.is_finite());
        let (peak, squares) = prepare_row(&row, &halves(&[1.0, -3.0, 2.0]), &mut room);
        assert!((peak - 3.0).abs() < 1e-9 && (squares - 14.0).abs() < 1e-9);
        // 60000 times 2 is more than fp16 holds.
        let doubled = Row { multiply: Some(&[2.0; 3]), ..row };
        assert!(!prepare_row(&doubled, &halves(&[1.0, 60_000.0, 2.0]), &mut room).0.is_finite());
    }
}
