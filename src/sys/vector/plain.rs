//! The operations of [`Lanes`] in plain code.

#![expect(clippy::inline_always, reason = "only what is inlined is compiled for the processor's vectors")]

use super::lanes::{LANES, Lanes};

/// In plain code, whatever the processor is: what the other implementations are held against.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Plain {
    #[inline(always)]
    fn each(a: [f32; LANES], b: [f32; LANES], of: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
        std::array::from_fn(|lane| of(a[lane], b[lane]))
    }
}

impl Lanes for Plain {
    type Numbers = [f32; LANES];

    #[inline(always)]
    fn splat(self, value: f32) -> [f32; LANES] {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> [f32; LANES] {
        *from
    }

    #[inline(always)]
    fn store(self, numbers: [f32; LANES], to: &mut [f32; LANES]) {
        *to = numbers;
    }

    #[inline(always)]
    fn halves(self, from: &[u8; 2 * LANES]) -> [f32; LANES] {
        let halves = from.as_chunks().0;
        std::array::from_fn(|lane| single(u16::from_le_bytes(halves[lane])))
    }

    #[inline(always)]
    fn round_to_half(self, a: [f32; LANES]) -> [f32; LANES] {
        if a.iter().fold(0, |most, value| value.abs().to_bits().max(most)) < OVERFLOW {
            a.map(|value| finite_single(finite_half(value)))
        } else {
            a.map(|value| single(half(value)))
        }
    }

    #[inline(always)]
    fn add(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        Self::each(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        Self::each(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        Self::each(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        Self::each(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn max(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        Self::each(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        Self::each(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max_magnitude(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        Self::each(a, b, |a, b| f32::from_bits(a.abs().to_bits().max(b.abs().to_bits())))
    }

    #[inline(always)]
    fn count_outside(self, a: [f32; LANES], low: [f32; LANES], high: [f32; LANES]) -> u32 {
        (0..LANES).map(|lane| u32::from(a[lane] < low[lane] || a[lane] >= high[lane])).sum()
    }

    #[inline(always)]
    fn integers(self, a: [f32; LANES]) -> [u8; LANES] {
        // Adding this rounds a number of small magnitude to an integer, half to even; the lowest bits are that integer.
        a.map(|value| (value + 12_582_912.0).to_bits().to_le_bytes()[0])
    }
}

/// The smallest magnitude that fp16 cannot hold: 65520 is half a unit in the last place above the largest, 65504.
const OVERFLOW: u32 = 0x477f_f000;

/// The fp32 of the same value as an fp16.
#[inline(always)]
fn single(half: u16) -> f32 {
    let special = match half & 0x7fff {
        ..0x7c00 => 0,
        0x7c00 => 0x7f80_0000,
        // What is no number becomes quiet, as it does for a processor.
        _ => 0x7fc0_0000,
    };
    f32::from_bits(finite_single(half).to_bits() | special)
}

/// The same, of what is finite.
#[inline(always)]
fn finite_single(half: u16) -> f32 {
    let bits = u32::from(half);
    // Exponent and fraction at their places in an fp32: the value times 2^-112, also of a subnormal. The product is exact.
    let value = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
    f32::from_bits(value.to_bits() | (bits & 0x8000) << 16)
}

/// The nearest fp16 to an fp32, ties to even.
#[inline(always)]
fn half(value: f32) -> u16 {
    match value.abs().to_bits() {
        ..OVERFLOW => finite_half(value),
        OVERFLOW..=0x7f80_0000 => low_half(0x7c00, value),
        nan => low_half(0x7e00 | nan >> 13 & 0x3ff, value),
    }
}

/// The same, where fp16 can hold it.
#[inline(always)]
fn finite_half(value: f32) -> u16 {
    let magnitude = value.abs().to_bits();
    // Half a unit in the last place less one, and one more where the last place that stays is odd. Then 13 places go.
    let normal = magnitude.wrapping_add(0xfff + (magnitude >> 13 & 1)).wrapping_sub((127 - 15) << 23) >> 13;
    // The last place of 0.5 is 2^-24, as that of fp16's subnormal numbers is: the sum is rounded as they are.
    let subnormal = (value.abs() + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    low_half(if magnitude < 0x3880_0000 { subnormal } else { normal }, value)
}

/// Exponent and fraction of an fp16, and the sign of an fp32.
#[inline(always)]
fn low_half(magnitude: u32, sign: f32) -> u16 {
    let [low, high, ..] = (magnitude | sign.to_bits() >> 16 & 0x8000).to_le_bytes();
    u16::from_le_bytes([low, high])
}
