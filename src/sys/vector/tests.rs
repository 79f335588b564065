//! Every operation of every vectors against plain code, and conversions of fp16 against the `half` crate.

use half::f16;
use proptest::prelude::*;

use super::*;

/// All operations of some vectors on some numbers, as bits.
struct All<'a> {
    a: &'a [f32; LANES],
    b: &'a [f32; LANES],
    halves: &'a [u8; 2 * LANES],
}

impl Wide for All<'_> {
    type Output = (Vec<[u32; LANES]>, u32, [u8; LANES]);

    #[expect(clippy::inline_always, reason = "only what is inlined is compiled for the processor's vectors")]
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Self::Output {
        let (a, b) = (lanes.load(self.a), lanes.load(self.b));
        let results = [
            lanes.halves(self.halves),
            lanes.round_to_half(a),
            lanes.add(a, b),
            lanes.sub(a, b),
            lanes.mul(a, b),
            lanes.div(a, b),
            lanes.max(a, b),
            lanes.min(a, b),
            lanes.max_magnitude(a, b),
        ];
        let numbers = results.into_iter().enumerate().map(|(at, numbers)| {
            let mut stored = [0.0; LANES];
            lanes.store(numbers, &mut stored);
            // The bits of what is no number are promised of conversions and choices only.
            stored.map(|value| if value.is_nan() && (2..6).contains(&at) { u32::MAX } else { value.to_bits() })
        });
        let small = lanes.min(lanes.max(a, lanes.splat(-128.0)), lanes.splat(127.0));
        (numbers.collect(), lanes.count_outside(a, lanes.splat(-1.5), lanes.splat(1.5)), lanes.integers(small))
    }
}

fn quiet(value: f32) -> f32 {
    f32::from_bits(value.to_bits() | if value.is_nan() { 0x40_0000 } else { 0 })
}

#[test]
fn all_halves_are_what_the_half_crate_says() {
    for first in (0..=u16::MAX).step_by(LANES) {
        let bits: [u16; LANES] = std::array::from_fn(|lane| first + u16::try_from(lane).expect("few lanes"));
        let mut halves = [0; 2 * LANES];
        halves.as_chunks_mut().0.iter_mut().zip(bits).for_each(|(to, bits)| *to = bits.to_le_bytes());
        let expected = bits.map(|bits| f16::from_bits(bits).to_f32_const().to_bits());
        let expected = expected.map(|bits| quiet(f32::from_bits(bits)).to_bits());
        // What is half a unit in the last place away, and a little less and more.
        for off in [-1i32, 0, 1] {
            let near = expected.map(|bits| quiet(f32::from_bits((bits | 0x1000).wrapping_add_signed(off))));
            let rounded = near.map(|value| f16::from_f32_const(value).to_f32_const().to_bits());
            for vectors in Vectors::all() {
                let (found, ..) = vectors.run_wide(All { a: &near, b: &near, halves: &halves });
                assert_eq!((found[0], found[1]), (expected, rounded), "{vectors:?}");
            }
            let (found, ..) = All { a: &near, b: &near, halves: &halves }.run(Plain);
            assert_eq!((found[0], found[1]), (expected, rounded));
        }
    }
}

proptest! {
    #[test]
    fn every_operation_does_what_plain_code_does(
        numbers in prop::array::uniform32(prop_oneof![any::<u32>(), (-130.0f32..130.0).prop_map(f32::to_bits)]),
        halves in prop::array::uniform32(any::<u8>()),
    ) {
        let numbers = numbers.map(|bits| quiet(f32::from_bits(bits)));
        let [a, b] = numbers.as_chunks().0 else { unreachable!("32 are twice 16") };
        let all = || All { a, b, halves: &halves };
        let expected = all().run(Plain);
        for vectors in Vectors::all() {
            prop_assert_eq!(&vectors.run_wide(all()), &expected, "{:?}", vectors);
        }
    }
}
