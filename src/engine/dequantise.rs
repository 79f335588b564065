//! From elements that are quantised by blocks to floating-point numbers, on their way from a source to a target.

mod blocks;

pub(super) use blocks::decode;

use super::cast;
use super::view::Source;
use crate::source::index;
use crate::tensor::{BlockType, Dtype};

/// Elements that are computed in one go: whole blocks of every type. Few, for the buffers are cleared for each run of elements.
const STEP: usize = BlockType::MOST;
/// The bytes of as many: no type takes more for an element than two.
const STEP_BYTES: usize = 2 * STEP;

/// Converts `count` elements from `src` on to the target's elements from `dst` on, each of which falls at least partly into the
/// buffer, which begins at byte `begin` of the target. Returns how many overflowed; an element that lies only partly in the buffer is
/// counted where it begins.
pub(super) fn run(
    source: &Source<'_>,
    (kind, to): (BlockType, Dtype),
    (src, dst, count): (u64, u64, u64),
    begin: u64,
    buf: &mut [u8],
) -> u64 {
    let (step, width) = (STEP as u64, to.size());
    let end = begin + buf.len() as u64;
    let (mut raw, mut values, mut out) = ([0u8; STEP_BYTES], [0f32; STEP], [0u8; STEP * 4]);
    let (mut overflowed, mut done) = (0, 0);
    while done < count {
        // From the beginning of a block to the end of one, however the target is cut.
        let first = src + done;
        let (from, skipped) = (first - first % kind.elements(), index(first % kind.elements()));
        let taken = (count - done).min(step - first % kind.elements());
        let blocks = (first + taken - from).div_ceil(kind.elements());
        let elements = index(blocks * kind.elements());
        let (at, len) = (from / kind.elements() * kind.bytes(), index(blocks * kind.bytes()));
        let bytes: &[u8] = if let Some(bytes) = source.piece(at, len) {
            bytes
        } else {
            source.read(at, &mut raw[..len]);
            &raw[..len]
        };
        decode(kind, bytes, &mut values[..elements]);
        let values = &mut values[skipped..skipped + index(taken)];
        for value in values.iter_mut() {
            *value = f32::from_bits(value.to_bits().to_le());
        }
        let singles: &[u8] = bytemuck::cast_slice(values);
        let out = &mut out[..index(taken * width)];
        overflowed += cast::convert(Dtype::F32, to, singles, out);
        let at = (dst + done) * width;
        let (head, tail) = (at.max(begin), (at + out.len() as u64).min(end));
        buf[index(head - begin)..index(tail - begin)].copy_from_slice(&out[index(head - at)..index(tail - at)]);
        if at < begin {
            // The first element began before the buffer, where it was counted.
            let mut one = [0u8; 8];
            overflowed -= cast::convert(Dtype::F32, to, &singles[..4], &mut one[..index(width)]);
        }
        done += taken;
    }
    overflowed
}

#[cfg(test)]
mod tests;
