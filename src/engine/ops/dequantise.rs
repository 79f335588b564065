//! From elements that are quantised by blocks to numbers of single precision.

mod blocks;

pub(in crate::engine) use self::blocks::decode;
use crate::tensor::BlockType;

/// The op.
pub(super) struct Decoder {
    from: BlockType,
    /// Elements of the first block that are not requested.
    skipped: usize,
    values: Vec<f32>,
}

impl Decoder {
    pub(super) fn new(from: BlockType) -> Self {
        Self { from, skipped: 0, values: Vec::new() }
    }

    /// That the next elements begin with this one of the source.
    pub(super) fn begin(&mut self, element: u64) {
        self.skipped = crate::source::index(element % self.from.elements());
    }

    /// Makes of whole blocks as many elements as are requested.
    pub(super) fn apply(&mut self, blocks: &[u8], made: &mut [u8]) {
        let of_block = [self.from.elements(), self.from.bytes()].map(crate::source::index);
        self.values.resize(blocks.len() / of_block[1] * of_block[0], 0.0);
        decode(self.from, blocks, &mut self.values);
        for (bytes, value) in made.as_chunks_mut::<4>().0.iter_mut().zip(&self.values[self.skipped..]) {
            *bytes = value.to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests;
