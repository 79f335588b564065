//! ggml's blocks as singles, bit for bit what `dequantize_row_*` of ggml and gguf-py compute.
//!
//! The order of operations is theirs: each product and sum is rounded to single precision, and none is contracted.

#![expect(clippy::inline_always, reason = "only what is inlined is compiled for the processor's vectors")]

use crate::engine::cast::float::{Float, Half};
use crate::sys::{Kernel, Vectors};
use crate::tensor::BlockType;

/// Decodes whole blocks to as many elements as they hold.
pub(in crate::engine) fn decode(kind: BlockType, blocks: &[u8], out: &mut [f32]) {
    decode_with(Vectors::widest(), kind, blocks, out);
}

pub(super) fn decode_with(vectors: Vectors, kind: BlockType, blocks: &[u8], out: &mut [f32]) {
    match kind {
        BlockType::Q4_0 => vectors.run(Blocks { bytes: blocks, out, decode: q4_0 }),
        BlockType::Q4_1 => vectors.run(Blocks { bytes: blocks, out, decode: q4_1 }),
        BlockType::Q5_0 => vectors.run(Blocks { bytes: blocks, out, decode: q5_0 }),
        BlockType::Q5_1 => vectors.run(Blocks { bytes: blocks, out, decode: q5_1 }),
        BlockType::Q8_0 => vectors.run(Blocks { bytes: blocks, out, decode: q8_0 }),
        BlockType::Q4K => vectors.run(Blocks { bytes: blocks, out, decode: q4_k }),
        BlockType::Q5K => vectors.run(Blocks { bytes: blocks, out, decode: q5_k }),
        BlockType::Q6K => vectors.run(Blocks { bytes: blocks, out, decode: q6_k }),
    }
}

/// The loop over blocks of `BYTES` bytes and `ELEMENTS` elements.
struct Blocks<'a, F, const BYTES: usize, const ELEMENTS: usize>
where
    F: Fn(&[u8; BYTES], &mut [f32; ELEMENTS]),
{
    bytes: &'a [u8],
    out: &'a mut [f32],
    decode: F,
}

impl<F, const BYTES: usize, const ELEMENTS: usize> Kernel for Blocks<'_, F, BYTES, ELEMENTS>
where
    F: Fn(&[u8; BYTES], &mut [f32; ELEMENTS]),
{
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (block, out) in self.bytes.as_chunks().0.iter().zip(self.out.as_chunks_mut().0) {
            (self.decode)(block, out);
        }
    }
}

#[inline(always)]
fn half(bytes: &[u8], at: usize) -> f32 {
    f32::from_bits(Half::to_single([bytes[at], bytes[at + 1]]))
}

#[inline(always)]
fn signed(byte: u8) -> f32 {
    f32::from(byte.cast_signed())
}

/// The four bits of an element, of which the first half of a block has the low ones and the second half the high ones.
#[inline(always)]
fn nibble(bytes: &[u8], element: usize) -> u8 {
    if element < 16 { bytes[element] & 15 } else { bytes[element - 16] >> 4 }
}

#[inline(always)]
fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half(block, 0);
    for (element, out) in out.iter_mut().enumerate() {
        *out = d * (f32::from(nibble(&block[2..], element)) - 8.0);
    }
}

#[inline(always)]
fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for (element, out) in out.iter_mut().enumerate() {
        *out = d * f32::from(nibble(&block[4..], element)) + m;
    }
}

/// As [`nibble`], with the fifth bit from the mask of the block.
#[inline(always)]
fn five(mask: &[u8], bytes: &[u8], element: usize) -> f32 {
    let high = mask[element / 8] >> (element % 8) & 1;
    f32::from(nibble(bytes, element) | high << 4)
}

#[inline(always)]
fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = half(block, 0);
    for (element, out) in out.iter_mut().enumerate() {
        *out = d * (five(&block[2..6], &block[6..], element) - 16.0);
    }
}

#[inline(always)]
fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for (element, out) in out.iter_mut().enumerate() {
        *out = d * five(&block[4..8], &block[8..], element) + m;
    }
}

#[inline(always)]
fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half(block, 0);
    for (byte, out) in block[2..].iter().zip(out) {
        *out = signed(*byte) * d;
    }
}

/// The scale and the minimum of each of the 8 groups of a block of 4 or 5 bits. The 12 bytes hold 6 bits of each: of the first four
/// groups as they are; of the others 4 bits in the last four bytes, and the upper 2 bits above those of the first ones.
#[inline(always)]
fn groups(block: &[u8]) -> [(f32, f32); 8] {
    let (d, minimum, packed) = (half(block, 0), half(block, 2), &block[4..16]);
    let mut found = [(0.0, 0.0); 8];
    for group in 0..4 {
        let (scale, min, both) = (packed[group], packed[group + 4], packed[group + 8]);
        found[group] = (d * f32::from(scale & 63), minimum * f32::from(min & 63));
        found[group + 4] =
            (d * f32::from(both & 15 | scale >> 2 & 0x30), minimum * f32::from(both >> 4 | min >> 2 & 0x30));
    }
    found
}

#[inline(always)]
fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let nibbles = &block[16..];
    for (group, (scale, min)) in groups(block).into_iter().enumerate() {
        let (bytes, shift) = (&nibbles[group / 2 * 32..][..32], group % 2 * 4);
        for (byte, out) in bytes.iter().zip(&mut out[group * 32..]) {
            *out = scale * f32::from(byte >> shift & 15) - min;
        }
    }
}

#[inline(always)]
fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (high, nibbles) = (&block[16..48], &block[48..]);
    for (group, (scale, min)) in groups(block).into_iter().enumerate() {
        let (bytes, shift) = (&nibbles[group / 2 * 32..][..32], group % 2 * 4);
        for ((byte, high), out) in bytes.iter().zip(high).zip(&mut out[group * 32..]) {
            *out = scale * f32::from(byte >> shift & 15 | (high >> group & 1) << 4) - min;
        }
    }
}

#[inline(always)]
fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (low, high, scales, d) = (&block[..128], &block[128..192], &block[192..208], half(block, 208));
    for row in 0..8 {
        let (part, of_part) = (row / 4, row % 4);
        let low = &low[part * 64 + of_part % 2 * 32..][..32];
        let high = &high[part * 32..][..32];
        let (low_shift, high_shift) = (of_part / 2 * 4, of_part * 2);
        for element in 0..32 {
            let scale = d * signed(scales[row * 2 + element / 16]);
            let six = low[element] >> low_shift & 15 | (high[element] >> high_shift & 3) << 4;
            out[row * 32 + element] = scale * (f32::from(six) - 32.0);
        }
    }
}
