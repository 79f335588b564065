//! Floating-point formats as bits, each a step from and to single precision.
//!
//! Integer arithmetic without branches, so that a loop over it is done for many elements at once, and the result is the same on
//! every processor. All steps are inlined into the loops that [`crate::sys::Vectors`] run.

#![expect(clippy::inline_always, reason = "only what is inlined is compiled for the processor's vectors")]

/// A floating-point format that single precision contains.
pub(in crate::engine) trait Float {
    /// An element in memory.
    type Bytes: Copy;

    /// The smallest magnitude of a single that rounds to infinity, as bits; above all numbers where none does.
    const OVERFLOW: u32;

    /// The elements of a slice. Bytes after the last whole one are left out.
    fn elements(bytes: &[u8]) -> &[Self::Bytes];

    /// The elements of a slice. Bytes after the last whole one are left out.
    fn elements_mut(bytes: &mut [u8]) -> &mut [Self::Bytes];

    /// What the quick way to a single makes of infinity, as bits, and less than what it makes of all that is not a number;
    /// above all numbers where it does them right.
    const SPECIAL: u32;

    /// The bits of the single with the same value. What is not a number stays so, and may become quiet.
    fn to_single(bytes: Self::Bytes) -> u32;

    /// The nearest value to a single, ties to even. What is not a number stays so, and becomes quiet.
    fn from_single(bits: u32) -> Self::Bytes;

    /// [`Self::to_single`] for finite numbers.
    #[inline(always)]
    fn to_single_quickly(bytes: Self::Bytes) -> u32 {
        Self::to_single(bytes)
    }

    /// [`Self::from_single`] for magnitudes below [`Self::OVERFLOW`].
    #[inline(always)]
    fn from_single_quickly(bits: u32) -> Self::Bytes {
        Self::from_single(bits)
    }
}

const SIGN: u32 = 1 << 31;
pub(in crate::engine) const MAGNITUDE: u32 = !SIGN;
/// The bits of infinity. Larger magnitudes are not numbers.
pub(in crate::engine) const INFINITY: u32 = 0x7f80_0000;
/// The bit that marks a quiet NaN.
const QUIET: u32 = 0x0040_0000;

/// IEEE 754 half precision.
pub(in crate::engine) struct Half;

impl Half {
    /// What a half's exponent is less than a single's of the same value, in a single's exponent bits.
    const BIAS: u32 = (127 - 15) << 23;
    /// The smallest half with an implicit leading one: 2^-14.
    const NORMAL: u32 = 0x3880_0000;
}

impl Float for Half {
    type Bytes = [u8; 2];

    /// 65520: half a unit in the last place above the largest half, 65504. The tie goes to the even neighbour, infinity.
    const OVERFLOW: u32 = 0x477f_f000;

    /// 65536: the exponent of all ones, read like any other.
    const SPECIAL: u32 = 0x4780_0000;

    #[inline(always)]
    fn elements(bytes: &[u8]) -> &[[u8; 2]] {
        bytes.as_chunks().0
    }

    #[inline(always)]
    fn elements_mut(bytes: &mut [u8]) -> &mut [[u8; 2]] {
        bytes.as_chunks_mut().0
    }

    #[inline(always)]
    fn to_single(bytes: [u8; 2]) -> u32 {
        let value = Self::to_single_quickly(bytes);
        match value & MAGNITUDE {
            ..Self::SPECIAL => value,
            Self::SPECIAL => value | INFINITY,
            _ => value | INFINITY | QUIET,
        }
    }

    #[inline(always)]
    fn to_single_quickly(bytes: [u8; 2]) -> u32 {
        let half = u32::from(u16::from_le_bytes(bytes));
        // Exponent and fraction at their places in a single: the value times 2^-112, also of a subnormal. The product is exact.
        let scaled = f32::from_bits((half & 0x7fff) << 13);
        (scaled * f32::from_bits((127 + 112) << 23)).to_bits() | (half & 0x8000) << 16
    }

    #[inline(always)]
    fn from_single(bits: u32) -> [u8; 2] {
        let sign = (bits >> 16) & 0x8000;
        match bits & MAGNITUDE {
            ..Self::OVERFLOW => Self::from_single_quickly(bits),
            Self::OVERFLOW..=INFINITY => low_half(sign | 0x7c00),
            nan => low_half(sign | 0x7e00 | (nan >> 13) & 0x3ff),
        }
    }

    #[inline(always)]
    fn from_single_quickly(bits: u32) -> [u8; 2] {
        let magnitude = bits & MAGNITUDE;
        // Half a unit in the last place less one, and one more where the last place that stays is odd. Then 13 places go.
        let even = (magnitude >> 13) & 1;
        let normal = magnitude.wrapping_add(0xfff + even).wrapping_sub(Self::BIAS) >> 13;
        // The last place of 0.5 is 2^-24, as that of subnormal halves is: the sum is rounded as they are, and its fraction is
        // theirs. A carry to the smallest normal half is that half too.
        let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
        low_half((bits >> 16) & 0x8000 | if magnitude < Self::NORMAL { subnormal } else { normal })
    }
}

/// The upper half of a single.
pub(super) struct Bfloat;

impl Float for Bfloat {
    type Bytes = [u8; 2];

    /// Half a unit in the last place above the largest one. The tie goes to the even neighbour, infinity.
    const OVERFLOW: u32 = 0x7f7f_8000;

    const SPECIAL: u32 = u32::MAX;

    #[inline(always)]
    fn elements(bytes: &[u8]) -> &[[u8; 2]] {
        bytes.as_chunks().0
    }

    #[inline(always)]
    fn elements_mut(bytes: &mut [u8]) -> &mut [[u8; 2]] {
        bytes.as_chunks_mut().0
    }

    #[inline(always)]
    fn to_single(bytes: [u8; 2]) -> u32 {
        u32::from(u16::from_le_bytes(bytes)) << 16
    }

    #[inline(always)]
    fn from_single(bits: u32) -> [u8; 2] {
        if bits & MAGNITUDE > INFINITY { low_half((bits | QUIET) >> 16) } else { Self::from_single_quickly(bits) }
    }

    #[inline(always)]
    fn from_single_quickly(bits: u32) -> [u8; 2] {
        let even = (bits >> 16) & 1;
        low_half(bits.wrapping_add(0x7fff + even) >> 16)
    }
}

/// IEEE 754 single precision itself.
pub(super) struct Single;

impl Float for Single {
    type Bytes = [u8; 4];

    const OVERFLOW: u32 = u32::MAX;

    const SPECIAL: u32 = u32::MAX;

    #[inline(always)]
    fn elements(bytes: &[u8]) -> &[[u8; 4]] {
        bytes.as_chunks().0
    }

    #[inline(always)]
    fn elements_mut(bytes: &mut [u8]) -> &mut [[u8; 4]] {
        bytes.as_chunks_mut().0
    }

    #[inline(always)]
    fn to_single(bytes: [u8; 4]) -> u32 {
        u32::from_le_bytes(bytes)
    }

    #[inline(always)]
    fn from_single(bits: u32) -> [u8; 4] {
        bits.to_le_bytes()
    }
}

#[inline(always)]
fn low_half(bits: u32) -> [u8; 2] {
    let [a, b, ..] = bits.to_le_bytes();
    [a, b]
}
