//! Conversion between floating-point types, to nearest even, counting finite values that became infinite.
//!
//! Sources need not be aligned. One loop for each pair of types goes over the elements by way of the bits of a single, and is
//! compiled for the vectors of the processor that it runs on: as fast as a core reads from memory.

pub(in crate::engine) mod float;

use float::{Bfloat, Float, Half, INFINITY, MAGNITUDE, Single};

use crate::sys::{Kernel, Vectors};
use crate::tensor::Dtype;

/// Elements of a block, which stays in the first cache.
pub(super) const BLOCK: usize = 1024;

/// Converts `src` (elements of `from`) to `dst` (as many elements of `to`); returns how many overflowed.
/// Both slices hold whole elements.
pub(super) fn convert(from: Dtype, to: Dtype, src: &[u8], dst: &mut [u8]) -> u64 {
    convert_with(Vectors::widest(), from, to, src, dst)
}

fn convert_with(vectors: Vectors, from: Dtype, to: Dtype, src: &[u8], dst: &mut [u8]) -> u64 {
    debug_assert_eq!(src.len() / from.size_in_memory(), dst.len() / to.size_in_memory());
    match from {
        Dtype::F16 => convert_from::<Half>(vectors, to, src, dst),
        Dtype::BF16 => convert_from::<Bfloat>(vectors, to, src, dst),
        Dtype::F32 => convert_from::<Single>(vectors, to, src, dst),
        _ => convert_doubles(vectors, to, src, dst),
    }
}

fn convert_from<F: Float>(vectors: Vectors, to: Dtype, src: &[u8], dst: &mut [u8]) -> u64 {
    match to {
        Dtype::F16 => vectors.run(Pair::<F, Half>::new(src, dst)),
        Dtype::BF16 => vectors.run(Pair::<F, Bfloat>::new(src, dst)),
        _ => vectors.run(Pair::<F, Single>::new(src, dst)),
    }
}

/// The loop for two types.
struct Pair<'a, F: Float, T: Float> {
    src: &'a [F::Bytes],
    dst: &'a mut [T::Bytes],
}

impl<'a, F: Float, T: Float> Pair<'a, F, T> {
    fn new(src: &'a [u8], dst: &'a mut [u8]) -> Self {
        Self { src: F::elements(src), dst: T::elements_mut(dst) }
    }
}

impl<F: Float, T: Float> Kernel for Pair<'_, F, T> {
    type Output = u64;

    #[expect(clippy::inline_always, reason = "only what is inlined is compiled for the processor's vectors")]
    #[inline(always)]
    fn run(self) -> u64 {
        let mut overflowed = 0;
        for (src, dst) in self.src.chunks(BLOCK).zip(self.dst.chunks_mut(BLOCK)) {
            // As a rule all are finite and stay so, which the largest magnitude shows.
            let mut largest = 0;
            for (from, to) in src.iter().zip(&mut *dst) {
                let bits = F::to_single_quickly(*from);
                largest = largest.max(bits & MAGNITUDE);
                *to = T::from_single_quickly(bits);
            }
            if largest >= F::SPECIAL.min(T::OVERFLOW) {
                overflowed += convert_all::<F, T>(src, dst);
            }
        }
        overflowed
    }
}

/// Converts a block with anything in it.
#[cold]
#[inline(never)]
fn convert_all<F: Float, T: Float>(src: &[F::Bytes], dst: &mut [T::Bytes]) -> u64 {
    let mut overflowed = 0;
    for (from, to) in src.iter().zip(dst) {
        let bits = F::to_single(*from);
        overflowed += u64::from((T::OVERFLOW..INFINITY).contains(&(bits & MAGNITUDE)));
        *to = T::from_single(bits);
    }
    overflowed
}

/// Doubles, by way of a block of singles.
fn convert_doubles(vectors: Vectors, to: Dtype, src: &[u8], dst: &mut [u8]) -> u64 {
    // The smallest magnitude that rounds to infinity, the tie again to the even neighbour.
    let limit = match to {
        Dtype::F16 => f64::from(f32::from_bits(Half::OVERFLOW)),
        Dtype::BF16 => f64::from(f32::from_bits(Bfloat::OVERFLOW)),
        _ => f64::from(f32::MAX) + f64::from(f32::MAX - f32::from_bits(0x7f7f_fffe)) / 2.0,
    };
    let mut singles = [0u8; BLOCK * 4];
    let mut overflowed = 0;
    let width = to.size_in_memory();
    for (src, dst) in src.as_chunks::<8>().0.chunks(BLOCK).zip(dst.chunks_mut(BLOCK * width)) {
        let singles = &mut singles[..src.len() * 4];
        overflowed += vectors.run(Doubles { src, dst: singles.as_chunks_mut().0, limit, odd: to != Dtype::F32 });
        // To odd, nothing became infinite on the way: what overflows now was counted already.
        convert_from::<Single>(vectors, to, singles, dst);
    }
    overflowed
}

/// The loop from doubles to singles.
struct Doubles<'a> {
    src: &'a [[u8; 8]],
    dst: &'a mut [[u8; 4]],
    limit: f64,
    /// Rounds to odd instead of to nearest.
    odd: bool,
}

impl Kernel for Doubles<'_> {
    type Output = u64;

    #[expect(clippy::inline_always, reason = "only what is inlined is compiled for the processor's vectors")]
    #[inline(always)]
    fn run(self) -> u64 {
        let mut overflowed = 0;
        for (from, to) in self.src.iter().zip(self.dst) {
            let wide = f64::from_le_bytes(*from);
            overflowed += u64::from(wide.abs() >= self.limit) & u64::from(wide.abs() < f64::INFINITY);
            #[expect(clippy::cast_possible_truncation, reason = "rounding is intended")]
            let nearest = wide as f32;
            *to = (if self.odd { to_odd(wide, nearest) } else { nearest }).to_le_bytes();
        }
        overflowed
    }
}

/// The single next to `wide`, to odd: rounded to nearest once more, to a type of at most 22 bits, it gives what one rounding
/// of the double would (Boldo and Melquiond, "When double rounding is odd").
#[expect(clippy::inline_always, reason = "only what is inlined is compiled for the processor's vectors")]
#[inline(always)]
fn to_odd(wide: f64, nearest: f32) -> f32 {
    if wide.is_nan() || f64::from(nearest).to_bits() == wide.to_bits() {
        return nearest;
    }
    // Inexact: the neighbour towards zero, with its last bit set.
    let too_far = f64::from(nearest).abs() > wide.abs();
    f32::from_bits((nearest.to_bits() - u32::from(too_far)) | 1)
}

#[cfg(test)]
mod tests;
