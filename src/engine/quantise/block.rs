//! Rows and blocks of rows, many elements at once. Bit for bit what [`super::arithmetic`] says of one element.
//!
//! A product or quotient of two fp16 numbers in fp32, rounded to fp16, is the fp16 product or quotient rounded once (fp32 has
//! more than twice as many bits), so all of fp16's arithmetic is done in fp32. Everything is made of the operations of
//! [`Lanes`], and compiled for each kind of the processor's vectors.

#![expect(clippy::inline_always, reason = "only what is inlined is compiled for the processor's vectors")]

use crate::engine::quantise::arithmetic::range;
use crate::plan::{Arithmetic, Width};
use crate::sys::{LANES, Lanes, Vectors, Wide};

/// Elements whose sums are taken in fp32.
const STEP: usize = 512;

/// Adding this rounds an fp32 of small magnitude to an integer, half to even.
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

/// What is known of a row before it has a scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Extent {
    /// The greatest magnitude. Infinite or NaN where one is among the elements.
    pub peak: f32,
    /// The sum of the squares.
    pub squares: f64,
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

/// Elements (fp16 bytes) of a row from `at` on, multiplied and divided as the row says; each step rounds to fp16.
#[inline(always)]
fn elements<L: Lanes>(lanes: L, row: &Row<'_>, at: usize, bytes: &[u8; 2 * LANES]) -> L::Numbers {
    let mut values = lanes.halves(bytes);
    if let Some(factors) = row.multiply {
        let factors = &factors[at..];
        let factors = match factors.first_chunk() {
            Some(factors) => lanes.load(factors),
            None => lanes.load(&padded(factors, 1.0)),
        };
        values = lanes.round_to_half(lanes.mul(values, factors));
    }
    if let Some(divisor) = row.divide {
        values = lanes.round_to_half(lanes.div(values, lanes.splat(divisor)));
    }
    values
}

/// Fewer than all lanes have, and what the others get.
#[inline(always)]
fn padded<T: Copy, const N: usize>(some: &[T], other: T) -> [T; N] {
    let mut all = [other; N];
    all[..some.len()].copy_from_slice(some);
    all
}

/// What divides the elements of a row by its scale.
struct Divisor<'a, L: Lanes> {
    lanes: L,
    row: &'a Row<'a>,
    scale: L::Numbers,
    least: L::Numbers,
    greatest: L::Numbers,
}

impl<'a, L: Lanes> Divisor<'a, L> {
    #[inline(always)]
    fn new(lanes: L, row: &'a Row<'a>) -> Self {
        // A scale of 0 is that of a row of zeros.
        let scale = if row.scale == 0.0 { f32::INFINITY } else { row.scale };
        let (least, greatest) = range(row.width);
        Self { lanes, row, scale: lanes.splat(scale), least: lanes.splat(least), greatest: lanes.splat(greatest) }
    }

    /// The quotients before they are clamped to the width and rounded to integers.
    #[inline(always)]
    fn quotients(&self, values: L::Numbers) -> L::Numbers {
        let quotients = self.lanes.div(values, self.scale);
        match self.row.arithmetic {
            Arithmetic::Half => self.lanes.round_to_half(quotients),
            Arithmetic::Single => quotients,
        }
    }

    /// Clamped to the width. To do that before rounding gives the same as after it: the bounds are integers. What is no number
    /// becomes the least.
    #[inline(always)]
    fn clamped(&self, quotients: L::Numbers) -> L::Numbers {
        self.lanes.min(self.lanes.max(quotients, self.least), self.greatest)
    }

    /// The integers of the elements from `at` on.
    #[inline(always)]
    fn integers(&self, at: usize, bytes: &[u8; 2 * LANES]) -> [u8; LANES] {
        self.lanes.integers(self.clamped(self.quotients(elements(self.lanes, self.row, at, bytes))))
    }
}

/// Quantises a row, or a part of one, of fp16 elements, to one integer a byte, whatever the width.
pub(in crate::engine) fn quantise_row(row: &Row<'_>, bytes: &[u8], out: &mut [u8]) {
    Vectors::widest().run_wide(Quantise { row, bytes, out });
}

struct Quantise<'a, 'b> {
    row: &'a Row<'b>,
    bytes: &'a [u8],
    out: &'a mut [u8],
}

impl Wide for Quantise<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let divisor = Divisor::new(lanes, self.row);
        let (whole, rest) = self.bytes.as_chunks();
        let (out, last) = self.out.as_chunks_mut();
        for (number, (bytes, out)) in whole.iter().zip(&mut *out).enumerate() {
            *out = divisor.integers(number * LANES, bytes);
        }
        if !rest.is_empty() {
            last.copy_from_slice(&divisor.integers(out.len() * LANES, &padded(rest, 0))[..last.len()]);
        }
    }
}

/// What is known of a row, multiplied and divided.
pub(super) fn extent(row: &Row<'_>, bytes: &[u8]) -> Extent {
    Vectors::widest().run_wide(OfExtent { row, bytes })
}

struct OfExtent<'a, 'b> {
    row: &'a Row<'b>,
    bytes: &'a [u8],
}

impl Wide for OfExtent<'_, '_> {
    type Output = Extent;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Extent {
        let mut peak = lanes.splat(0.0);
        let mut squares = 0.0;
        for (step, bytes) in self.bytes.chunks(STEP * 2).enumerate() {
            let mut sums = lanes.splat(0.0);
            let (whole, rest) = bytes.as_chunks();
            for (number, bytes) in whole.iter().enumerate() {
                let values = elements(lanes, self.row, step * STEP + number * LANES, bytes);
                peak = lanes.max_magnitude(peak, values);
                sums = lanes.add(sums, lanes.mul(values, values));
            }
            let mut sums = stored(lanes, sums);
            if !rest.is_empty() {
                let values = elements(lanes, self.row, step * STEP + whole.len() * LANES, &padded(rest, 0));
                peak = lanes.max_magnitude(peak, values);
                stored(lanes, values)[..rest.len() / 2].iter().for_each(|value| sums[0] += value * value);
            }
            squares += sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
        }
        let peak = stored(lanes, peak).iter().map(|peak| peak.to_bits()).fold(0, u32::max);
        Extent { peak: f32::from_bits(peak), squares }
    }
}

#[inline(always)]
fn stored<L: Lanes>(lanes: L, numbers: L::Numbers) -> [f32; LANES] {
    let mut all = [0.0; LANES];
    lanes.store(numbers, &mut all);
    all
}

/// The greatest magnitude of each column so far, with one more row.
pub(super) fn raise_peaks(bytes: &[u8], peaks: &mut [f32]) {
    Vectors::widest().run_wide(Raise { bytes, peaks });
}

struct Raise<'a> {
    bytes: &'a [u8],
    peaks: &'a mut [f32],
}

impl Wide for Raise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (whole, rest) = self.bytes.as_chunks();
        let (peaks, last) = self.peaks.as_chunks_mut();
        for (bytes, peaks) in whole.iter().zip(peaks) {
            *peaks = raised(lanes, peaks, bytes);
        }
        if !rest.is_empty() {
            let raised = raised(lanes, &padded(last, 0.0), &padded(rest, 0));
            last.copy_from_slice(&raised[..last.len()]);
        }
    }
}

#[inline(always)]
fn raised<L: Lanes>(lanes: L, peaks: &[f32; LANES], bytes: &[u8; 2 * LANES]) -> [f32; LANES] {
    let magnitudes = lanes.max_magnitude(lanes.halves(bytes), lanes.splat(0.0));
    // What is not finite shows when the rows are measured.
    let finite = lanes.min(magnitudes, lanes.splat(65_536.0));
    stored(lanes, lanes.max(lanes.load(peaks), finite))
}

/// Quantises a row, all of whose elements are finite, only to see what that does.
pub(super) fn measure_row(row: &Row<'_>, bytes: &[u8]) -> RowOutcome {
    Vectors::widest().run_wide(Measure { row, bytes })
}

/// What sees what quantising does to the elements of a row.
struct Meter<'a, L: Lanes> {
    divisor: Divisor<'a, L>,
    scale: L::Numbers,
    magic: L::Numbers,
    /// Beyond these is what does not round to an integer of the width.
    low: L::Numbers,
    high: L::Numbers,
}

impl<'a, L: Lanes> Meter<'a, L> {
    #[inline(always)]
    fn new(lanes: L, row: &'a Row<'a>) -> Self {
        let (least, greatest) = range(row.width);
        Self {
            divisor: Divisor::new(lanes, row),
            scale: lanes.splat(row.scale),
            magic: lanes.splat(MAGIC),
            // Ties go to the even -128 and 128 (-8 and 8).
            low: lanes.splat(least - 0.5),
            high: lanes.splat(greatest + 0.5),
        }
    }

    /// Of the elements from `at` on: how many are beyond the range, the integers, and the differences to what they dequantise to.
    #[inline(always)]
    fn measure(&self, at: usize, bytes: &[u8; 2 * LANES]) -> (u32, L::Numbers, L::Numbers) {
        let lanes = self.divisor.lanes;
        let values = elements(lanes, self.divisor.row, at, bytes);
        let quotients = self.divisor.quotients(values);
        let integers = lanes.sub(lanes.add(self.divisor.clamped(quotients), self.magic), self.magic);
        let errors = lanes.sub(lanes.mul(integers, self.scale), values);
        (lanes.count_outside(quotients, self.low, self.high), integers, errors)
    }
}

struct Measure<'a, 'b> {
    row: &'a Row<'b>,
    bytes: &'a [u8],
}

impl Wide for Measure<'_, '_> {
    type Output = RowOutcome;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> RowOutcome {
        let meter = Meter::new(lanes, self.row);
        let mut outcome = RowOutcome::default();
        let mut furthest = lanes.splat(0.0);
        for (step, bytes) in self.bytes.chunks(STEP * 2).enumerate() {
            let (mut sums, mut squares) = (lanes.splat(0.0), lanes.splat(0.0));
            let mut clipped = 0;
            let (whole, rest) = bytes.as_chunks();
            for (number, bytes) in whole.iter().enumerate() {
                let (outside, integers, errors) = meter.measure(step * STEP + number * LANES, bytes);
                clipped += outside;
                // Of small integers, so exact.
                sums = lanes.add(sums, integers);
                furthest = lanes.max_magnitude(errors, furthest);
                squares = lanes.add(squares, lanes.mul(errors, errors));
            }
            let (mut sums, mut squares) = (stored(lanes, sums), stored(lanes, squares));
            if !rest.is_empty() {
                // The elements beyond the row are zeros, which are whole and inside.
                let (outside, integers, errors) = meter.measure(step * STEP + whole.len() * LANES, &padded(rest, 0));
                clipped += outside;
                furthest = lanes.max_magnitude(errors, furthest);
                sums[0] += stored(lanes, integers).iter().sum::<f32>();
                stored(lanes, errors)[..rest.len() / 2].iter().for_each(|error| squares[0] += error * error);
            }
            #[expect(clippy::cast_possible_truncation, reason = "whole, and below 2^24")]
            let sum = sums.iter().sum::<f32>() as i64;
            outcome.sum += sum;
            outcome.clipped += u64::from(clipped);
            outcome.squares += squares.iter().map(|&sum| f64::from(sum)).sum::<f64>();
        }
        outcome.greatest = stored(lanes, furthest).iter().fold(0.0, |a, &b| a.max(b));
        outcome
    }
}

#[cfg(test)]
mod tests;
