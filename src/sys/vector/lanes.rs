//! Sixteen fp32 numbers side by side, as the instructions of a processor have them.

/// How many numbers.
pub const LANES: usize = 16;

/// Operations on [`LANES`] numbers, each a few instructions. A value of the type exists only where the processor has them.
///
/// Every implementation returns the same bits for the same numbers. Of NaN only that is promised which is said of an operation, and
/// nothing of a signalling one, which no operation returns. All methods are `#[inline(always)]`, and belong in a [`super::Wide`].
pub trait Lanes: Copy {
    /// The numbers.
    type Numbers: Copy;

    /// All alike.
    fn splat(self, value: f32) -> Self::Numbers;

    /// From memory.
    fn load(self, from: &[f32; LANES]) -> Self::Numbers;

    /// To memory.
    fn store(self, numbers: Self::Numbers, to: &mut [f32; LANES]);

    /// The values of fp16 numbers. Infinity and NaN stay what they are.
    fn halves(self, from: &[u8; 2 * LANES]) -> Self::Numbers;

    /// The nearest fp16 numbers, ties to even, as fp32: infinite where fp16 cannot hold them. NaN stays NaN.
    fn round_to_half(self, a: Self::Numbers) -> Self::Numbers;

    /// Sums.
    fn add(self, a: Self::Numbers, b: Self::Numbers) -> Self::Numbers;

    /// Differences.
    fn sub(self, a: Self::Numbers, b: Self::Numbers) -> Self::Numbers;

    /// Products.
    fn mul(self, a: Self::Numbers, b: Self::Numbers) -> Self::Numbers;

    /// Quotients.
    fn div(self, a: Self::Numbers, b: Self::Numbers) -> Self::Numbers;

    /// The greater of each two; `b` where `a` is no number.
    fn max(self, a: Self::Numbers, b: Self::Numbers) -> Self::Numbers;

    /// The lesser of each two; `b` where `a` is no number.
    fn min(self, a: Self::Numbers, b: Self::Numbers) -> Self::Numbers;

    /// The greater magnitude of each two, by the order of their bits: infinity is above all numbers, NaN above infinity.
    fn max_magnitude(self, a: Self::Numbers, b: Self::Numbers) -> Self::Numbers;

    /// How many are below `low`, or `high` or above it. What is no number is neither.
    fn count_outside(self, a: Self::Numbers, low: Self::Numbers, high: Self::Numbers) -> u32;

    /// Integers of numbers between -128 and 127, half to even.
    fn integers(self, a: Self::Numbers) -> [u8; LANES];
}
