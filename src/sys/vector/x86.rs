//! AVX2 and AVX-512.

#[allow(clippy::wildcard_imports, reason = "names of instructions, which all begin with `_mm`")]
use std::arch::x86_64::*;

use super::instructions::instructions;
use super::lanes::LANES;

/// AVX-512 of the width of all numbers.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(pub(super) ());

instructions! {
    Avx512, __m512, "avx512f,avx512bw,avx512dq,avx512vl",

    fn splat(value: f32) -> __m512 { _mm512_set1_ps(value) }

    fn load(from: &[f32; LANES]) -> __m512 {
        // SAFETY: 64 bytes may be read; they need not be aligned.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    fn store(numbers: __m512, to: &mut [f32; LANES]) -> () {
        // SAFETY: 64 bytes may be written; they need not be aligned.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), numbers) }
    }

    fn halves(from: &[u8; 2 * LANES]) -> __m512 {
        // SAFETY: 32 bytes may be read; they need not be aligned.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(from.as_ptr().cast()) })
    }

    fn round_to_half(a: __m512) -> __m512 {
        _mm512_cvtph_ps(_mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }

    fn add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }

    fn sub(a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }

    fn mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }

    fn div(a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }

    fn max(a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }

    fn min(a: __m512, b: __m512) -> __m512 { _mm512_min_ps(a, b) }

    fn max_magnitude(a: __m512, b: __m512) -> __m512 {
        let bits = |a| _mm512_castps_si512(_mm512_abs_ps(a));
        _mm512_castsi512_ps(_mm512_max_epu32(bits(a), bits(b)))
    }

    fn count_outside(a: __m512, low: __m512, high: __m512) -> u32 {
        let below = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, low);
        (below | _mm512_cmp_ps_mask::<_CMP_GE_OQ>(a, high)).count_ones()
    }

    fn integers(a: __m512) -> [u8; LANES] {
        to_bytes(_mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)))
    }
}

/// AVX2, twice half of the numbers, with F16C, which every such processor has.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(pub(super) ());

instructions! {
    Avx2, [__m256; 2], "avx2,f16c",

    fn splat(value: f32) -> [__m256; 2] { [_mm256_set1_ps(value); 2] }

    fn load(from: &[f32; LANES]) -> [__m256; 2] {
        let [low, high] = from.as_chunks::<8>().0 else { unreachable!("16 are twice 8") };
        // SAFETY: 32 bytes may be read; they need not be aligned.
        let load = |half: &[f32; 8]| unsafe { _mm256_loadu_ps(half.as_ptr()) };
        [load(low), load(high)]
    }

    fn store(numbers: [__m256; 2], to: &mut [f32; LANES]) -> () {
        for (half, to) in numbers.into_iter().zip(to.as_chunks_mut::<8>().0) {
            // SAFETY: 32 bytes may be written; they need not be aligned.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), half) };
        }
    }

    fn halves(from: &[u8; 2 * LANES]) -> [__m256; 2] {
        let [low, high] = from.as_chunks::<16>().0 else { unreachable!("32 are twice 16") };
        // SAFETY: 16 bytes may be read; they need not be aligned.
        let load = |half: &[u8; 16]| unsafe { _mm_loadu_si128(half.as_ptr().cast()) };
        [_mm256_cvtph_ps(load(low)), _mm256_cvtph_ps(load(high))]
    }

    fn round_to_half(a: [__m256; 2]) -> [__m256; 2] {
        let rounded = |a| _mm256_cvtph_ps(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a));
        [rounded(a[0]), rounded(a[1])]
    }

    fn add(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }

    fn sub(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }

    fn mul(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }

    fn div(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }

    fn max(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }

    fn min(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }

    fn max_magnitude(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        let bits = |a| _mm256_and_si256(_mm256_castps_si256(a), _mm256_set1_epi32(i32::MAX));
        let greater = |a, b| _mm256_castsi256_ps(_mm256_max_epi32(bits(a), bits(b)));
        [greater(a[0], b[0]), greater(a[1], b[1])]
    }

    fn count_outside(a: [__m256; 2], low: [__m256; 2], high: [__m256; 2]) -> u32 {
        let outside = |a, low, high| {
            let below = _mm256_cmp_ps::<_CMP_LT_OQ>(a, low);
            _mm256_movemask_ps(_mm256_or_ps(below, _mm256_cmp_ps::<_CMP_GE_OQ>(a, high))).count_ones()
        };
        outside(a[0], low[0], high[0]) + outside(a[1], low[1], high[1])
    }

    fn integers(a: [__m256; 2]) -> [u8; LANES] {
        // Each quarter of the vectors is packed by itself: the first and third have the first eight, two by two.
        let words = _mm256_packs_epi32(_mm256_cvtps_epi32(a[0]), _mm256_cvtps_epi32(a[1]));
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
        to_bytes(_mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words)))
    }
}

#[inline]
#[target_feature(enable = "sse2")]
fn to_bytes(vector: __m128i) -> [u8; LANES] {
    let mut bytes = [0; LANES];
    // SAFETY: 16 bytes may be written; they need not be aligned.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), vector) };
    bytes
}
