//! The arithmetic of golden-stick 0.6.0, number by number, in fp16 as it does it (`cal_quantization_params`,
//! `_calc_smooth_scale`, `_fused_bias`, `AllQuantMatmul`).

use half::f16;

use crate::plan::{Arithmetic, Width};

/// Rounds a double to fp16 once. (`half` goes through fp32, and so rounds twice.)
pub(super) fn round_to_half(value: f64) -> f16 {
    #[expect(clippy::cast_possible_truncation, reason = "rounding is intended")]
    let nearest = value as f32;
    if value.is_nan() || f64::from(nearest).to_bits() == value.to_bits() || nearest.is_infinite() {
        return f16::from_f32(nearest);
    }
    // The neighbour towards zero with its last bit set ("round to odd"), which rounded once more gives what one rounding would.
    let too_far = f64::from(nearest).abs() > value.abs();
    f16::from_f32(f32::from_bits((nearest.to_bits() - u32::from(too_far)) | 1))
}

/// The symmetric scale of values up to `peak` in magnitude. Infinite where fp16 cannot hold it.
pub(super) fn scale(peak: f32, width: Width, arithmetic: Arithmetic) -> f32 {
    let (least, greatest) = range(width);
    let steps = greatest - least;
    match arithmetic {
        // peak - (-peak), then the 255 steps of int8, or the 15 of int4.
        Arithmetic::Half => half(half(peak + peak) / steps),
        Arithmetic::Single => (peak + peak) / steps,
    }
}

/// The least and the greatest integer.
pub(super) const fn range(width: Width) -> (f32, f32) {
    match width {
        Width::Int8 => (-128.0, 127.0),
        Width::Int4 => (-8.0, 7.0),
    }
}

/// A number rounded to fp16.
pub(super) fn half(value: f32) -> f32 {
    f16::from_f32(value).to_f32()
}

/// Scale and zero point of values between `min` and `max`. Where the zero point would leave int8, the range is widened to
/// hold 0, which golden-stick does not do: its zero point wraps around there, and the network computes nonsense.
pub(super) fn asymmetric(min: f32, max: f32) -> (f32, i32) {
    let of = |min: f32, max: f32| {
        if min.to_bits() == max.to_bits() {
            return (1.0, 0.0);
        }
        let scale = half(half(max - min) / 255.0);
        (scale, half(-128.0 - half(min / scale)).round_ties_even())
    };
    let (scale, zero) = match of(min, max) {
        (_, zero) if !(-128.0..=127.0).contains(&zero) => of(min.min(0.0), max.max(0.0)),
        inside => inside,
    };
    #[expect(clippy::cast_possible_truncation, reason = "clamped to int8")]
    let zero = zero.clamp(-128.0, 127.0) as i32;
    (scale, zero)
}

/// The factor of a column: how far the input's outliers go into the weight.
pub(super) fn smooth(input: f32, weight: f32, alpha: f32) -> f32 {
    let (input, weight) = (half(input.powf(half(alpha))), half(weight.powf(half(1.0 - alpha))));
    if input == 0.0 || weight == 0.0 {
        return 1.0;
    }
    half(input / weight).max(half(1e-5))
}

/// The bias that makes up for the input's zero point, and the bias that was there.
pub(super) fn bias(sum: i64, zero_point: i32, weight_scale: f32, input_scale: f32, before: Option<f32>) -> f32 {
    let whole = -(i64::from(zero_point) * sum);
    #[expect(clippy::cast_precision_loss, reason = "below 2^53: a row of 2^38 elements would be needed")]
    let made = round_to_half(whole as f64 * f64::from(half(weight_scale * input_scale))).to_f32();
    before.map_or(made, |before| half(made + before))
}

/// The product of both scales as MindSpore's operator expects it: an fp32's bits in the low half of an int64.
pub(super) fn packed(scale: f32) -> i64 {
    i64::from(scale.to_bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Doubles next to the middle between two halves: rounding them to fp32 first loses what decides.
    #[test]
    fn doubles_are_rounded_once() {
        let tie = 1.0 + 2f64.powi(-11);
        assert_eq!(round_to_half(tie).to_bits(), 0x3c00, "a tie goes to the even one");
        assert_eq!(round_to_half(tie + 2f64.powi(-40)).to_bits(), 0x3c01);
        assert_eq!(round_to_half(-(tie + 2f64.powi(-40))).to_bits(), 0xbc01);
        assert_eq!(round_to_half(1e300).to_bits(), 0x7c00);
        assert_eq!(round_to_half(2f64.powi(-24)).to_bits(), 1);
    }

    #[test]
    fn a_scale_that_fp16_cannot_hold_is_infinite() {
        for width in [Width::Int8, Width::Int4] {
            assert!(scale(40_000.0, width, Arithmetic::Half).is_infinite());
            assert!(scale(32_752.0, width, Arithmetic::Half).is_finite());
            assert!(scale(40_000.0, width, Arithmetic::Single).is_finite());
        }
    }

    #[test]
    fn a_zero_point_outside_int8_is_mended_and_others_are_left_alone() {
        let (scale, zero) = asymmetric(1.0, 2.0);
        // 0..2 in 255 steps: 0 is -128.
        assert_eq!((zero, f16::from_f32(scale)), (-128, f16::from_f32(2.0 / 255.0)));
        assert_eq!(asymmetric(-1.0, 1.0).1, 0);
        assert_eq!(asymmetric(0.0, 0.0), (1.0, 0));
    }
}
