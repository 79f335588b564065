//! NEON.

use std::arch::aarch64::{
    float32x4_t, uint16x4_t, vabsq_f32, vaddq_f32, vaddvq_u32, vbslq_f32, vcgeq_f32, vcgtq_f32, vcltq_f32,
    vcombine_s16, vcvtnq_s32_f32, vdivq_f32, vdupq_n_f32, vld1_u16, vld1q_f32, vmaxq_u32, vmovn_s16, vmovn_s32,
    vmulq_f32, vorrq_u32, vreinterpretq_f32_u32, vreinterpretq_u32_f32, vshrq_n_u32, vst1_s8, vst1q_f32, vsubq_f32,
};
use std::arch::asm;

use super::instructions::instructions;
use super::lanes::LANES;

/// NEON, four times a quarter of the numbers.
#[derive(Clone, Copy, Debug)]
pub struct Neon(pub(super) ());

type Quarters = [float32x4_t; 4];

instructions! {
    Neon, Quarters, "neon",

    fn splat(value: f32) -> Quarters { [vdupq_n_f32(value); 4] }

    fn load(from: &[f32; LANES]) -> Quarters {
        let quarters = from.as_chunks::<4>().0;
        // SAFETY: 16 bytes may be read; they need not be aligned.
        std::array::from_fn(|at| unsafe { vld1q_f32(quarters[at].as_ptr()) })
    }

    fn store(numbers: Quarters, to: &mut [f32; LANES]) -> () {
        for (quarter, to) in numbers.into_iter().zip(to.as_chunks_mut::<4>().0) {
            // SAFETY: 16 bytes may be written; they need not be aligned.
            unsafe { vst1q_f32(to.as_mut_ptr(), quarter) };
        }
    }

    fn halves(from: &[u8; 2 * LANES]) -> Quarters {
        let quarters = from.as_chunks::<8>().0;
        // SAFETY: 8 bytes may be read; they need not be aligned.
        std::array::from_fn(|at| widen(unsafe { vld1_u16(quarters[at].as_ptr().cast()) }))
    }

    fn round_to_half(a: Quarters) -> Quarters { a.map(|a| widen(narrow(a))) }

    fn add(a: Quarters, b: Quarters) -> Quarters { std::array::from_fn(|at| vaddq_f32(a[at], b[at])) }

    fn sub(a: Quarters, b: Quarters) -> Quarters { std::array::from_fn(|at| vsubq_f32(a[at], b[at])) }

    fn mul(a: Quarters, b: Quarters) -> Quarters { std::array::from_fn(|at| vmulq_f32(a[at], b[at])) }

    fn div(a: Quarters, b: Quarters) -> Quarters { std::array::from_fn(|at| vdivq_f32(a[at], b[at])) }

    fn max(a: Quarters, b: Quarters) -> Quarters {
        // The maximum of the instruction is NaN where either is.
        std::array::from_fn(|at| vbslq_f32(vcgtq_f32(a[at], b[at]), a[at], b[at]))
    }

    fn min(a: Quarters, b: Quarters) -> Quarters {
        std::array::from_fn(|at| vbslq_f32(vcltq_f32(a[at], b[at]), a[at], b[at]))
    }

    fn max_magnitude(a: Quarters, b: Quarters) -> Quarters {
        let bits = |a| vreinterpretq_u32_f32(vabsq_f32(a));
        std::array::from_fn(|at| vreinterpretq_f32_u32(vmaxq_u32(bits(a[at]), bits(b[at]))))
    }

    fn count_outside(a: Quarters, low: Quarters, high: Quarters) -> u32 {
        let outside = |at: usize| vorrq_u32(vcltq_f32(a[at], low[at]), vcgeq_f32(a[at], high[at]));
        (0..4).map(|at| vaddvq_u32(vshrq_n_u32::<31>(outside(at)))).sum()
    }

    fn integers(a: Quarters) -> [u8; LANES] {
        let words = a.map(|a| vmovn_s32(vcvtnq_s32_f32(a)));
        let mut bytes = [0; LANES];
        for (to, half) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words.as_chunks::<2>().0) {
            // SAFETY: 8 bytes may be written; they need not be aligned.
            unsafe { vst1_s8(to.as_mut_ptr().cast(), vmovn_s16(vcombine_s16(half[0], half[1]))) };
        }
        bytes
    }
}

/// The intrinsic needs a type of fp16 that stable Rust has only since 1.94.
#[inline]
#[target_feature(enable = "neon")]
fn widen(halves: uint16x4_t) -> float32x4_t {
    let singles;
    // SAFETY: the instruction is of the baseline, and changes its target register only.
    unsafe {
        asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) singles, in(vreg) halves, options(pure, nomem, nostack, preserves_flags));
    }
    singles
}

/// To the nearest, ties to even: the mode that Rust runs in.
#[inline]
#[target_feature(enable = "neon")]
fn narrow(singles: float32x4_t) -> uint16x4_t {
    let halves;
    // SAFETY: as above.
    unsafe {
        asm!("fcvtn {0:v}.4h, {1:v}.4s", out(vreg) halves, in(vreg) singles, options(pure, nomem, nostack, preserves_flags));
    }
    halves
}
