//! What is remarkable about the values that are written: those that are not numbers or infinite, and tensors of zeros.
//!
//! Counted while a chunk is in the cache for its sum anyway. One integer operation for each element finds the largest magnitude
//! of a block; only a block whose largest is no finite number is looked at again.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use super::fill::{Inputs, Target};
use super::view::View;
use crate::source::index;
use crate::sys::{Kernel, Vectors};
use crate::tensor::Dtype;

/// What is remarkable about the values of a tensor, or of a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Values {
    /// Values that are not numbers.
    pub nan: u64,
    /// Infinite values.
    pub infinite: u64,
    /// Whether any value is not zero.
    pub nonzero: bool,
}

impl AddAssign for Values {
    fn add_assign(&mut self, other: Self) {
        self.nan += other.nan;
        self.infinite += other.infinite;
        self.nonzero |= other.nonzero;
    }
}

/// A part of an element that chunks cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment {
    /// Index of the file.
    file: usize,
    /// Index of the tensor in it.
    tensor: usize,
    /// Where in the tensor the part begins.
    at: u64,
    bytes: [u8; 8],
    len: usize,
}

impl Fragment {
    fn new(file: usize, tensor: usize, at: u64, part: &[u8]) -> Self {
        let mut bytes = [0; 8];
        bytes[..part.len()].copy_from_slice(part);
        Self { file, tensor, at, bytes, len: part.len() }
    }
}

/// Looks at a chunk of a tensor that begins at byte `at` of it. Elements that the chunk holds a part of go to `fragments`.
/// `sum` gets all bytes, in order: each step is looked at while it is in the first cache.
pub(super) fn of_chunk(
    dtype: Dtype,
    (file, tensor): (usize, usize),
    at: u64,
    bytes: &[u8],
    fragments: &mut Vec<Fragment>,
    mut sum: impl FnMut(&[u8]),
) -> Values {
    if !dtype.is_float() {
        sum(bytes);
        // As a rule one of the first bytes decides.
        return Values { nonzero: bytes.iter().any(|byte| *byte != 0), ..Values::default() };
    }
    let width = dtype.size();
    let head = index(at.next_multiple_of(width) - at).min(bytes.len());
    let whole = (bytes.len() - head) / dtype.size_in_memory() * dtype.size_in_memory();
    let (first, rest) = bytes.split_at(head);
    let (middle, last) = rest.split_at(whole);
    for (at, part) in [(at, first), (at + (head + whole) as u64, last)] {
        if !part.is_empty() {
            fragments.push(Fragment::new(file, tensor, at, part));
        }
    }
    let vectors = Vectors::widest();
    let mut found = Values::default();
    sum(first);
    for step in middle.chunks(STEP) {
        sum(step);
        found += of(vectors, dtype, step);
    }
    sum(last);
    found
}

/// Joins parts of elements, and looks at each element that begins in one of them. What another process holds the rest of is
/// put together from the sources.
pub(super) fn of_fragments(
    inputs: &Inputs<'_>,
    targets: &[Target<'_>],
    mut fragments: Vec<Fragment>,
) -> Vec<((usize, usize), Values)> {
    fragments.sort_unstable_by_key(|f| (f.file, f.tensor, f.at));
    let tensor_of = |f: &Fragment| &targets[f.file].tensors[f.tensor];
    let element = |f: &Fragment| (f.file, f.tensor, f.at / tensor_of(f).dtype.size());
    let mut found = Vec::new();
    for parts in fragments.chunk_by(|a, b| element(a) == element(b)) {
        let Some(first) = parts.first() else { continue };
        let tensor = tensor_of(first);
        let (width, bytes) = (tensor.dtype.size_in_memory(), &mut [0; 8]);
        if !first.at.is_multiple_of(width as u64) {
            // It begins in another chunk, which counts it.
            continue;
        }
        if parts.iter().map(|part| part.len).sum::<usize>() == width {
            for part in parts {
                let from = index(part.at - first.at);
                bytes[from..from + part.len].copy_from_slice(&part.bytes[..part.len]);
            }
        } else {
            inputs.fill_tensor(tensor, first.at, &mut bytes[..width], &View::default());
        }
        found.push(((first.file, first.tensor), of(Vectors::widest(), tensor.dtype, &bytes[..width])));
    }
    found
}

/// Looks at whole elements of a floating-point type.
fn of(vectors: Vectors, dtype: Dtype, bytes: &[u8]) -> Values {
    match dtype {
        Dtype::F16 => vectors.run(Halves::<0x7c00>(bytes.as_chunks().0)),
        Dtype::BF16 => vectors.run(Halves::<0x7f80>(bytes.as_chunks().0)),
        Dtype::F32 => vectors.run(Singles(bytes.as_chunks().0)),
        _ => vectors.run(Doubles(bytes.as_chunks().0)),
    }
}

/// Bytes that are summed and looked at in one go; whole elements of every type.
const STEP: usize = 16 << 10;
/// Elements of a block.
const BLOCK: usize = 4096;

/// The loop for one type, whose infinity has these bits. Without the sign, the magnitudes of the numbers are in the order of
/// their bits, and larger ones than infinity's are not numbers. Signed, because the oldest vectors compare only signed ones.
macro_rules! look {
    ($elements:expr, $int:ty, $infinity:expr) => {{
        let mut found = Values::default();
        for block in $elements.chunks(BLOCK) {
            let mut largest = 0;
            for element in block {
                largest = largest.max(<$int>::from_le_bytes(*element) & <$int>::MAX);
            }
            found.nonzero |= largest != 0;
            if largest >= $infinity {
                for element in block {
                    let magnitude = <$int>::from_le_bytes(*element) & <$int>::MAX;
                    found.nan += u64::from(magnitude > $infinity);
                    found.infinite += u64::from(magnitude == $infinity);
                }
            }
        }
        found
    }};
}

/// fp16 or bf16, by the bits of its infinity.
struct Halves<'a, const INFINITY: i16>(&'a [[u8; 2]]);

impl<const INFINITY: i16> Kernel for Halves<'_, INFINITY> {
    type Output = Values;

    #[expect(clippy::inline_always, reason = "only what is inlined is compiled for the processor's vectors")]
    #[inline(always)]
    fn run(self) -> Values {
        look!(self.0, i16, INFINITY)
    }
}

struct Singles<'a>(&'a [[u8; 4]]);

impl Kernel for Singles<'_> {
    type Output = Values;

    #[expect(clippy::inline_always, reason = "only what is inlined is compiled for the processor's vectors")]
    #[inline(always)]
    fn run(self) -> Values {
        look!(self.0, i32, 0x7f80_0000)
    }
}

struct Doubles<'a>(&'a [[u8; 8]]);

impl Kernel for Doubles<'_> {
    type Output = Values;

    #[expect(clippy::inline_always, reason = "only what is inlined is compiled for the processor's vectors")]
    #[inline(always)]
    fn run(self) -> Values {
        look!(self.0, i64, 0x7ff0_0000_0000_0000)
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};
    use proptest::prelude::*;

    use super::*;

    /// By the processor's and the crate's own idea of the types.
    fn expected(dtype: Dtype, bytes: &[u8]) -> Values {
        let values: Vec<f64> = match dtype {
            Dtype::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f64()).collect(),
            Dtype::BF16 => bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f64()).collect(),
            Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect(),
            _ => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        };
        Values {
            nan: values.iter().filter(|v| v.is_nan()).count() as u64,
            infinite: values.iter().filter(|v| v.is_infinite()).count() as u64,
            nonzero: values.iter().any(|v| *v != 0.0),
        }
    }

    const TYPES: [Dtype; 4] = [Dtype::F16, Dtype::BF16, Dtype::F32, Dtype::F64];

    #[test]
    fn all_halves_are_what_they_are() {
        let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for vectors in Vectors::all() {
            for dtype in [Dtype::F16, Dtype::BF16] {
                assert_eq!(of(vectors, dtype, &all), expected(dtype, &all), "{dtype} {vectors:?}");
                for element in all.as_chunks::<2>().0 {
                    assert_eq!(of(vectors, dtype, element), expected(dtype, element), "{element:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_vectors_find_what_is_there(
            elements in prop::collection::vec(
                prop::sample::select(vec![0u64, 1, 1 << 63, 0x7ff0 << 48, 0xfff0 << 48, (0x7ff0 << 48) + 1, 0x7fff << 48,
                    0x7f80_0000_7f80_0000, 0xff80_0000_0000_0000, 0x7f80_0001_0000_0000, 0x7f80, 0x7c00, 0xfc01, 0x3f80]),
                0..3000),
        ) {
            let bytes: Vec<u8> = elements.iter().flat_map(|e| e.to_le_bytes()).collect();
            for vectors in Vectors::all() {
                for dtype in TYPES {
                    prop_assert_eq!(of(vectors, dtype, &bytes), expected(dtype, &bytes));
                }
            }
        }
    }
}
