//! Casts against an oracle that knows nothing of `half`: exact arithmetic on the bits.

use super::*;

fn cast(from: Dtype, to: Dtype, src: &[u8]) -> (Vec<u8>, u64) {
    let mut dst = vec![0; src.len() / from.size_in_memory() * to.size_in_memory()];
    let overflowed = convert(from, to, src, &mut dst);
    (dst, overflowed)
}

/// The value of fp16 bits, by the definition of the format.
fn half_value(bits: u16) -> f64 {
    let (sign, exponent, fraction) = (bits >> 15, i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        e => (1.0 + fraction / 1024.0) * 2f64.powi(e - 15),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

/// The fp16 nearest to a value, ties to even, found by looking at the neighbours.
fn nearest_half(value: f64) -> u16 {
    let sign = u16::from(value.is_sign_negative()) << 15;
    let magnitude = value.abs();
    if magnitude >= 65_520.0 {
        return sign | 0x7c00;
    }
    // Positive finite fp16 are ordered like their bits.
    let (mut low, mut high) = (0u16, 0x7c00u16);
    while high - low > 1 {
        let middle = low.midpoint(high);
        if half_value(middle) <= magnitude { low = middle } else { high = middle }
    }
    let above = if high == 0x7c00 { 65_536.0 } else { half_value(high) };
    let (down, up) = (magnitude - half_value(low), above - magnitude);
    let bits = if down < up || (down.total_cmp(&up).is_eq() && low & 1 == 0) { low } else { high };
    sign | bits
}

#[test]
fn every_bf16_becomes_the_nearest_fp16() {
    let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let (out, overflowed) = cast(Dtype::BF16, Dtype::F16, &all);
    let mut beyond = 0;
    for (bits, got) in (0..=u16::MAX).zip(out.as_chunks::<2>().0) {
        let value = f64::from(f32::from_bits(u32::from(bits) << 16));
        let got = u16::from_le_bytes(*got);
        if value.is_nan() {
            assert!(half_value(got).is_nan());
        } else {
            assert_eq!(got, nearest_half(value), "{bits:#06x} = {value}");
            beyond += u64::from(value.is_finite() && half_value(got).is_infinite());
        }
    }
    assert_eq!(overflowed, beyond);
    assert!(beyond > 0);
}

#[test]
fn every_fp16_widens_exactly_and_comes_back() {
    let all: Vec<u8> = (0..=u16::MAX).filter(|b| !half_value(*b).is_nan()).flat_map(u16::to_le_bytes).collect();
    let (wide, _) = cast(Dtype::F16, Dtype::F32, &all);
    for (bits, value) in all.as_chunks::<2>().0.iter().zip(wide.as_chunks::<4>().0) {
        assert_eq!(f64::from(f32::from_le_bytes(*value)).to_bits(), half_value(u16::from_le_bytes(*bits)).to_bits());
    }
    assert_eq!(cast(Dtype::F32, Dtype::F16, &wide), (all, 0));
}

#[test]
fn ties_and_limits_round_to_even() {
    let f32s = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let ties =
        [1.0 + 1.0 / 2048.0, 1.0 + 3.0 / 2048.0, 65_519.996, 65_520.0, -65_520.0, f32::INFINITY, 2f32.powi(-25), 3e-45];
    let (out, overflowed) = cast(Dtype::F32, Dtype::F16, &f32s(&ties));
    let got: Vec<u16> = out.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect();
    assert_eq!(got, [0x3c00, 0x3c02, 0x7bff, 0x7c00, 0xfc00, 0x7c00, 0, 0]);
    assert_eq!(overflowed, 2, "an infinity in the source is no overflow");
    let near = [f32::from_bits(0x3f80_8000), f32::from_bits(0x3f81_8000), f32::MAX, f32::from_bits(0x7f7f_7fff)];
    let (out, overflowed) = cast(Dtype::F32, Dtype::BF16, &f32s(&near));
    let got: Vec<u16> = out.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect();
    assert_eq!(got, [0x3f80, 0x3f82, 0x7f80, 0x7f7f]);
    assert_eq!(overflowed, 1);
}

#[test]
fn doubles_round_once() {
    // 1 + 2^-11 + 2^-40 is above the tie: rounding to single first would lose that.
    let value = 1.0 + 2f64.powi(-11) + 2f64.powi(-40);
    let (out, _) = cast(Dtype::F64, Dtype::F16, &value.to_le_bytes());
    assert_eq!(out, 0x3c01u16.to_le_bytes());
    let (out, overflowed) = cast(Dtype::F64, Dtype::F32, &f64::MAX.to_le_bytes());
    assert_eq!((out, overflowed), (f32::INFINITY.to_le_bytes().to_vec(), 1));
}
