//! Every vector version against plain code, and plain code against arithmetic in doubles.

use half::f16;
use proptest::prelude::*;

use super::*;
use crate::sys::Plain;

fn halves(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect()
}

const PLAIN: Row<'_> =
    Row { width: Width::Int8, arithmetic: Arithmetic::Half, scale: 1.0, multiply: None, divide: None };

/// Every quotient of an fp16 element by some scales, against arithmetic in doubles, where nothing but the last step rounds.
#[test]
fn every_half_is_quantised_like_one_by_one_in_doubles() {
    let elements: Vec<u8> =
        (0..=u16::MAX).filter(|b| f16::from_bits(*b).is_finite()).flat_map(u16::to_le_bytes).collect();
    for scale in [1.0, 0.007_057, 0.001_051, 6.0e-8, 100.0, 513.7].map(|s| f16::from_f32(s).to_f32()) {
        let mut out = vec![0; elements.len() / 2];
        quantise_row(&Row { scale, ..PLAIN }, &elements, &mut out);
        for (bytes, out) in elements.as_chunks::<2>().0.iter().zip(out) {
            let quotient = f64::from(f16::from_le_bytes(*bytes).to_f32()) / f64::from(scale);
            let rounded = super::super::arithmetic::round_to_half(quotient).to_f64().round_ties_even();
            let expected = rounded.clamp(-128.0, 127.0);
            assert!((f64::from(i8::from_le_bytes([out])) - expected).abs() < 0.5, "{bytes:?} / {scale}");
        }
    }
}

#[test]
fn int4_is_clamped_to_its_own_range() {
    let row = Row { width: Width::Int4, scale: 0.5, ..PLAIN };
    let mut out = [0; 7];
    quantise_row(&row, &halves(&[100.0, -100.0, 3.75, -4.25, 0.25, -0.75, 1.0]), &mut out);
    // 7.5 would be 8; 0.5 goes to the even 0, -1.5 to -2.
    assert_eq!(out.map(u8::cast_signed), [7, -8, 7, -8, 0, -2, 2]);
}

#[test]
fn what_a_row_lost_is_counted_and_a_row_of_zeros_stays_one() {
    let bytes = halves(&[1.0, -1.0, 127.5, -128.0, 126.5, 0.25]);
    let outcome = measure_row(&PLAIN, &bytes);
    // 127.5 would round to 128; 126.5 goes to the even 126.
    assert_eq!(outcome.clipped, 1);
    assert_eq!(outcome.sum, 125);
    assert!((outcome.greatest - 0.5).abs() < 1e-6);
    assert!((outcome.squares - (0.25 + 0.25 + 0.0625)).abs() < 1e-6);
    // The same by int4: 1, -1, 7, -8, 7 and 0, of which the third to the fifth are beyond its range.
    let narrow = measure_row(&Row { width: Width::Int4, ..PLAIN }, &bytes);
    assert_eq!((narrow.clipped, narrow.sum), (3, 6));
    let zeros = Row { scale: 0.0, ..PLAIN };
    assert_eq!(measure_row(&zeros, &halves(&[0.0, -0.0])), RowOutcome::default());
    assert!(!extent(&PLAIN, &halves(&[1.0, f32::NAN, 2.0])).peak.is_finite());
    let Extent { peak, squares } = extent(&PLAIN, &halves(&[1.0, -3.0, 2.0]));
    assert!((peak - 3.0).abs() < 1e-9 && (squares - 14.0).abs() < 1e-9);
    // 60000 times 2 is more than fp16 holds.
    let doubled = Row { multiply: Some(&[2.0; 3]), ..PLAIN };
    assert!(!extent(&doubled, &halves(&[1.0, 60_000.0, 2.0])).peak.is_finite());
}

/// Bits of fp16: everything there is, and more of what is odd.
fn element() -> impl Strategy<Value = u16> {
    let odd = [0, 1, 0x3ff, 0x400, 0x401, 0x3bff, 0x3c00, 0x57f8, 0x5800, 0x7bff, 0x7c00, 0x7c01, 0x7e00, 0x7fff];
    let magnitude = prop_oneof![4 => any::<u16>(), 4 => 0x2000u16..0x3c00, 1 => prop::sample::select(odd.to_vec())];
    (magnitude, any::<bool>()).prop_map(|(bits, negative)| bits | u16::from(negative) << 15)
}

/// The numbers of a result, whatever they are.
fn bits(extent: Extent, outcome: RowOutcome) -> [u64; 6] {
    let RowOutcome { sum, greatest, squares, clipped } = outcome;
    let nan = |value: f64| if value.is_nan() { u64::MAX } else { value.to_bits() };
    [
        extent.peak.to_bits().into(),
        nan(extent.squares),
        sum.cast_unsigned(),
        greatest.to_bits().into(),
        nan(squares),
        clipped,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Rows with infinities and what is no number too, of every length.
    #[test]
    fn all_vectors_do_what_plain_code_does(
        row in prop::collection::vec((element(), element()), 1..700),
        finite in any::<bool>(),
        (int4, single) in any::<(bool, bool)>(),
        (multiply, divide) in any::<(bool, Option<u16>)>(),
        scale in prop::option::of(element()),
    ) {
        let of = |bits: u16| if finite && !f16::from_bits(bits).is_finite() { bits & 0xbbff } else { bits };
        let bytes: Vec<u8> = row.iter().flat_map(|(bits, _)| of(*bits).to_le_bytes()).collect();
        let positive = |bits: u16| f16::from_bits(bits & 0x3fff).to_f32();
        let factors: Vec<f32> = row.iter().map(|(_, bits)| positive(*bits)).collect();
        let mut row = Row {
            width: if int4 { Width::Int4 } else { Width::Int8 },
            arithmetic: if single { Arithmetic::Single } else { Arithmetic::Half },
            scale: scale.map_or(0.0, |bits| f16::from_bits(bits & 0x7fff).to_f32()),
            multiply: multiply.then_some(&factors),
            divide: divide.map(|bits| positive(bits | 1)),
        };
        let expected = OfExtent { row: &row, bytes: &bytes }.run(Plain);
        // As it is used: by the scale of the peak, where that is one.
        if scale.is_none() && expected.peak.is_finite() {
            row.scale = super::super::arithmetic::scale(expected.peak, row.width, row.arithmetic);
        }
        let measured = expected.peak.is_finite() && row.scale.is_finite();
        let expected = bits(expected, Measure { row: &row, bytes: &bytes }.run(Plain));
        let (mut integers, mut peaks) = (vec![0; bytes.len() / 2], factors.clone());
        Quantise { row: &row, bytes: &bytes, out: &mut integers }.run(Plain);
        Raise { bytes: &bytes, peaks: &mut peaks }.run(Plain);
        for vectors in Vectors::all() {
            let extent = vectors.run_wide(OfExtent { row: &row, bytes: &bytes });
            let outcome = vectors.run_wide(Measure { row: &row, bytes: &bytes });
            let (found, compared) = (bits(extent, outcome), if measured { 6 } else { 1 });
            prop_assert_eq!(&found[..compared], &expected[..compared], "{:?}", vectors);
            let (mut out, mut raised) = (vec![0; integers.len()], factors.clone());
            vectors.run_wide(Quantise { row: &row, bytes: &bytes, out: &mut out });
            vectors.run_wide(Raise { bytes: &bytes, peaks: &mut raised });
            prop_assert_eq!(&out, &integers, "{:?}", vectors);
            prop_assert_eq!(&raised, &peaks, "{:?}", vectors);
        }
    }
}
