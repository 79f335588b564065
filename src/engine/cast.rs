//! Conversion between floating-point types, to nearest even, counting finite values that became infinite.
//!
//! Sources need not be aligned. Work is done in blocks of `f32` (of `f64` for fp64 sources) that stay in the first cache;
//! `half` converts slices with the processor's own instructions where it has them.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::tensor::Dtype;

/// Elements of a block.
pub(super) const BLOCK: usize = 1024;

/// The smallest magnitude that rounds to infinity, or `None` where every finite value of the source stays finite.
fn overflow_from(from: Dtype, to: Dtype) -> Option<f64> {
    match (from, to) {
        (Dtype::F16, _) | (Dtype::BF16, Dtype::F32) => None,
        // Half a unit in the last place above the largest finite value rounds away (to even).
        (_, Dtype::F16) => Some(65_520.0),
        (Dtype::F32 | Dtype::F64, Dtype::BF16) => Some(f64::from(f32::from_bits(0x7f7f_8000))),
        (Dtype::F64, Dtype::F32) => Some(f64::from(f32::MAX) + f64::from(f32::MAX - f32::from_bits(0x7f7f_fffe)) / 2.0),
        _ => None,
    }
}

/// Converts `src` (elements of `from`) to `dst` (as many elements of `to`); answers how many overflowed.
/// Both slices hold whole elements.
pub(super) fn convert(from: Dtype, to: Dtype, src: &[u8], dst: &mut [u8]) -> u64 {
    let (width_in, width_out) = (from.size_in_memory(), to.size_in_memory());
    debug_assert_eq!(src.len() / width_in, dst.len() / width_out);
    let limit = overflow_from(from, to);
    let mut overflowed = 0;
    for (src, dst) in src.chunks(BLOCK * width_in).zip(dst.chunks_mut(BLOCK * width_out)) {
        overflowed +=
            if from == Dtype::F64 { wide_block(to, limit, src, dst) } else { block(from, to, limit, src, dst) };
    }
    overflowed
}

fn block(from: Dtype, to: Dtype, limit: Option<f64>, src: &[u8], dst: &mut [u8]) -> u64 {
    let mut values = [0f32; BLOCK];
    let count = src.len() / from.size_in_memory();
    let values = &mut values[..count];
    match from {
        Dtype::F16 => {
            let mut halves = [f16::ZERO; BLOCK];
            for (half, bytes) in halves.iter_mut().zip(src.as_chunks::<2>().0) {
                *half = f16::from_le_bytes(*bytes);
            }
            halves[..count].convert_to_f32_slice(values);
        }
        Dtype::BF16 => {
            for (value, bytes) in values.iter_mut().zip(src.as_chunks::<2>().0) {
                *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            }
        }
        _ => {
            for (value, bytes) in values.iter_mut().zip(src.as_chunks::<4>().0) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
    }
    store(to, values, dst);
    // The limits are powers of two minus a half unit: exact as f32.
    #[expect(clippy::cast_possible_truncation, reason = "the limit is exactly representable")]
    limit.map_or(0, |limit| count_beyond(values, limit as f32))
}

/// Finite values of at least this magnitude. Without branches, so that it is done for many values at once.
fn count_beyond(values: &[f32], limit: f32) -> u64 {
    let beyond = |v: &f32| u32::from(v.abs() >= limit) & u32::from(v.abs() < f32::INFINITY);
    u64::from(values.iter().map(beyond).sum::<u32>())
}

fn wide_block(to: Dtype, limit: Option<f64>, src: &[u8], dst: &mut [u8]) -> u64 {
    let mut values = [0f32; BLOCK];
    let count = src.len() / 8;
    let mut overflowed = 0;
    for (value, bytes) in values.iter_mut().zip(src.as_chunks::<8>().0) {
        let wide = f64::from_le_bytes(*bytes);
        overflowed += u64::from(limit.is_some_and(|limit| wide.is_finite() && wide.abs() >= limit));
        #[expect(clippy::cast_possible_truncation, reason = "rounding is what is asked for")]
        let nearest = wide as f32;
        *value = if to == Dtype::F32 { nearest } else { to_odd(wide, nearest) };
    }
    store(to, &values[..count], dst);
    overflowed
}

/// The single next to `wide`, to odd: rounded to nearest once more, to a type of at most 22 bits, it gives what one rounding
/// of the double would (Boldo and Melquiond, "When double rounding is odd").
fn to_odd(wide: f64, nearest: f32) -> f32 {
    if wide.is_nan() || f64::from(nearest).to_bits() == wide.to_bits() {
        return nearest;
    }
    // Inexact: the neighbour towards zero, with its last bit set.
    let too_far = f64::from(nearest).abs() > wide.abs();
    f32::from_bits((nearest.to_bits() - u32::from(too_far)) | 1)
}

fn store(to: Dtype, values: &[f32], dst: &mut [u8]) {
    match to {
        Dtype::F16 => {
            let mut halves = [f16::ZERO; BLOCK];
            halves[..values.len()].convert_from_f32_slice(values);
            for (half, out) in halves.iter().zip(dst.as_chunks_mut::<2>().0) {
                *out = half.to_le_bytes();
            }
        }
        Dtype::BF16 => {
            let mut halves = [bf16::ZERO; BLOCK];
            halves[..values.len()].convert_from_f32_slice(values);
            for (half, out) in halves.iter().zip(dst.as_chunks_mut::<2>().0) {
                *out = half.to_le_bytes();
            }
        }
        _ => {
            for (value, out) in values.iter().zip(dst.as_chunks_mut::<4>().0) {
                *out = value.to_le_bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests;
