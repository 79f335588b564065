//! Casts against an oracle that knows formats by their definition and rounds by exact comparison of doubles.

use proptest::prelude::*;

use super::*;

/// A binary interchange format: bits of the exponent and of the fraction.
#[derive(Clone, Copy)]
struct Format(u32, u32);

impl Format {
    fn of(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F16 => Self(5, 10),
            Dtype::BF16 => Self(8, 7),
            Dtype::F32 => Self(8, 23),
            _ => panic!("{dtype} is not cast"),
        }
    }

    fn sign(self) -> u32 {
        1 << (self.0 + self.1)
    }

    fn infinity(self) -> u32 {
        self.sign() - (1 << self.1)
    }

    /// The value of a magnitude; infinity's is that of the number that would follow the largest one.
    fn magnitude(self, bits: u32) -> f64 {
        let (exponent, fraction) = (bits >> self.1, bits & ((1 << self.1) - 1));
        let place = i32::try_from(exponent.max(1)).unwrap() - (1 << (self.0 - 1)) + 1 - i32::try_from(self.1).unwrap();
        let significand = f64::from(fraction) + if exponent > 0 { f64::from(1 << self.1) } else { 0.0 };
        significand * 2f64.powi(place)
    }

    fn value(self, bits: u32) -> f64 {
        let magnitude = match bits & (self.sign() - 1) {
            finite if finite < self.infinity() => self.magnitude(finite),
            infinite if infinite == self.infinity() => f64::INFINITY,
            _ => f64::NAN,
        };
        if bits & self.sign() == 0 { magnitude } else { -magnitude }
    }

    /// The bits of the number nearest to `value`, ties to even.
    fn nearest(self, value: f64) -> u32 {
        // Magnitudes are ordered like their bits. The lowest one above is sought.
        let (mut low, mut high) = (0, self.infinity() + 1);
        while high - low > 1 {
            let middle = u32::midpoint(low, high);
            if self.magnitude(middle) <= value.abs() { low = middle } else { high = middle }
        }
        // Exact: the point between two neighbours takes one bit more than they have.
        let half_way = f64::midpoint(self.magnitude(low), self.magnitude(low + 1));
        let up = value.abs() > half_way || (value.abs().total_cmp(&half_way).is_eq() && low & 1 == 1);
        let sign = if value.is_sign_negative() { self.sign() } else { 0 };
        sign | (low + u32::from(up)).min(self.infinity())
    }
}

/// Casts with all vectors that there are, which must agree.
fn cast(from: Dtype, to: Dtype, src: &[u8]) -> (Vec<u8>, u64) {
    let mut all = Vectors::all().map(|vectors| {
        let mut dst = vec![0; src.len() / from.size_in_memory() * to.size_in_memory()];
        let overflowed = convert_with(vectors, from, to, src, &mut dst);
        (vectors, (dst, overflowed))
    });
    let (_, widest) = all.next().expect("a baseline");
    for (vectors, other) in all {
        assert!(widest == other, "{from} to {to} with {vectors:?} is not as with the widest");
    }
    widest
}

fn word(bytes: &[u8]) -> u32 {
    let mut word = [0; 4];
    word[..bytes.len()].copy_from_slice(bytes);
    u32::from_le_bytes(word)
}

/// Casts elements given by their values, which the oracle casts too.
fn check(from: Dtype, to: Dtype, src: &[u8], values: impl Iterator<Item = f64>) {
    let (out, overflowed) = cast(from, to, src);
    let format = Format::of(to);
    let (mut beyond, mut seen) = (0, 0);
    for (value, got) in values.zip(out.chunks(to.size_in_memory())) {
        let got = word(got);
        if value.is_nan() {
            assert!(format.value(got).is_nan(), "{from} to {to}: a NaN became {got:#x}");
            assert_eq!(got & format.sign() != 0, value.is_sign_negative(), "{from} to {to}: the sign of a NaN");
        } else {
            let wanted = format.nearest(value);
            assert_eq!(got, wanted, "{from} to {to}: {value} became {got:#x}, not {wanted:#x}");
            beyond += u64::from(value.is_finite() && wanted & (format.sign() - 1) == format.infinity());
        }
        seen += 1;
    }
    assert_eq!(seen, out.len() / to.size_in_memory());
    assert_eq!(overflowed, beyond, "{from} to {to}");
}

fn check_singles(to: Dtype, bits: &[u32]) {
    let src: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    check(Dtype::F32, to, &src, bits.iter().map(|bits| Format(8, 23).value(*bits)));
}

#[test]
fn every_value_of_two_bytes_goes_to_the_nearest() {
    let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    for from in [Dtype::F16, Dtype::BF16] {
        for to in [Dtype::F16, Dtype::BF16, Dtype::F32] {
            check(from, to, &all, (0..=u16::MAX).map(|bits| Format::of(from).value(bits.into())));
        }
    }
}

#[test]
fn every_value_of_two_bytes_comes_back_from_fp32() {
    for dtype in [Dtype::F16, Dtype::BF16] {
        let is_number = |bits: &u16| !Format::of(dtype).value((*bits).into()).is_nan();
        let all: Vec<u8> = (0..=u16::MAX).filter(is_number).flat_map(u16::to_le_bytes).collect();
        let (wide, _) = cast(dtype, Dtype::F32, &all);
        assert_eq!(cast(Dtype::F32, dtype, &wide), (all, 0));
    }
}

#[test]
fn singles_around_every_border_go_to_the_nearest() {
    for to in [Dtype::F16, Dtype::BF16] {
        let format = Format::of(to);
        // Each value and each half way to the next one, the last being where infinity begins; and the singles beside them.
        let mut bits = Vec::new();
        for low in 0..format.infinity() {
            let half_way = f64::midpoint(format.magnitude(low), format.magnitude(low + 1));
            for value in [format.magnitude(low), half_way] {
                let border = Format(8, 23).nearest(value);
                let around = border.saturating_sub(1)..=border + 1;
                bits.extend(around.flat_map(|magnitude| [magnitude, magnitude | 1 << 31]));
            }
        }
        check_singles(to, &bits);
    }
}

#[test]
fn what_is_not_a_number_stays_so_and_becomes_quiet() {
    // Signalling and quiet, with payloads in the places that stay and in those that go.
    let nans = [0x7f80_0001, 0x7f80_2000, 0x7fbf_ffff, 0x7fc0_0000, 0x7fff_ffff, 0xff80_0001, 0xffff_ffff];
    let src: Vec<u8> = nans.into_iter().flat_map(u32::to_le_bytes).collect();
    let halves = [0x7e00, 0x7e01, 0x7fff, 0x7e00, 0x7fff, 0xfe00, 0xffff];
    let bfloats = [0x7fc0, 0x7fc0, 0x7fff, 0x7fc0, 0x7fff, 0xffc0, 0xffff];
    for (to, wanted) in [(Dtype::F16, halves), (Dtype::BF16, bfloats)] {
        assert_eq!(cast(Dtype::F32, to, &src), (wanted.into_iter().flat_map(u16::to_le_bytes).collect(), 0));
    }
    let (wide, _) = cast(Dtype::F16, Dtype::F32, &[0x01, 0x7c, 0x00, 0xfe]);
    assert_eq!(wide, [0x7fc0_2000u32, 0xffc0_0000].map(u32::to_le_bytes).concat());
}

#[test]
fn any_length_at_any_place_is_cast_alike() {
    // What follows the last whole vector, and the border of a block, in slices that are not aligned.
    let lengths = (0..=70).chain(BLOCK - 2..=BLOCK + 2).chain([3 * BLOCK + 33]);
    let bytes: Vec<u8> = (0..4 * 4 * BLOCK).map(|i| ((i * 2_654_435_761) >> 7).to_le_bytes()[0]).collect();
    for len in lengths {
        for (from, to) in [(Dtype::BF16, Dtype::F16), (Dtype::F32, Dtype::F16), (Dtype::F16, Dtype::F32)] {
            let (width, width_out) = (from.size_in_memory(), to.size_in_memory());
            let src = &bytes[1..=len * width];
            let each = src.chunks(width).map(|element| cast(from, to, element));
            let (wanted, counts): (Vec<_>, Vec<_>) = each.unzip();
            let mut dst = vec![0xee; len * width_out + 3];
            let overflowed = convert(from, to, src, &mut dst[1..=len * width_out]);
            assert_eq!(dst[1..=len * width_out], wanted.concat(), "{len} elements of {from} to {to}");
            assert_eq!(overflowed, counts.iter().sum::<u64>());
            assert!(dst[0] == 0xee && dst[len * width_out + 1..] == [0xee; 2], "bytes beside the target");
        }
    }
}

#[test]
fn only_what_became_infinite_is_counted() {
    let values = [65_519.996f32, 65_520.0, -65_520.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -1e30];
    let src: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(cast(Dtype::F32, Dtype::F16, &src).1, 3);
    let src: Vec<u8> = [f32::MAX, f32::from_bits(0x7f7f_7fff)].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(cast(Dtype::F32, Dtype::BF16, &src), (vec![0x80, 0x7f, 0x7f, 0x7f], 1));
}

#[test]
fn doubles_round_once() {
    for to in [Dtype::F16, Dtype::BF16, Dtype::F32] {
        let format = Format::of(to);
        let mut values = vec![f64::MAX, f64::INFINITY, f64::NAN, f64::MIN_POSITIVE, 5e-324, 0.0];
        // Half way between neighbours, and the doubles beside that: rounding to single first would lose which side it is.
        for low in
            (0..format.infinity()).step_by(if to == Dtype::F32 { 65_521 } else { 1 }).chain([format.infinity() - 1])
        {
            let half_way = f64::midpoint(format.magnitude(low), format.magnitude(low + 1));
            values.extend([half_way.next_down(), half_way, half_way.next_up(), half_way * (1.0 + 1e-9)]);
        }
        values.extend(values.clone().iter().map(|value| -value));
        let src: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        check(Dtype::F64, to, &src, values.into_iter());
    }
}

proptest! {
    #[test]
    fn any_single_goes_to_the_nearest(bits in prop::collection::vec(any::<u32>(), 0..64)) {
        check_singles(Dtype::F16, &bits);
        check_singles(Dtype::BF16, &bits);
    }

    #[test]
    fn any_double_goes_to_the_nearest(values in prop::collection::vec(any::<f64>(), 0..64), scale in -30..40i32) {
        let values: Vec<f64> = values.into_iter().map(|value| value.fract() * 2f64.powi(scale)).collect();
        let src: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        for to in [Dtype::F16, Dtype::BF16, Dtype::F32] {
            check(Dtype::F64, to, &src, values.iter().copied());
        }
    }
}
