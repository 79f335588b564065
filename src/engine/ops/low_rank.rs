//! Weights with a low-rank update: `W + scale * B A`, row by row in single precision.
//!
//! The sum over the rank is taken in its order, one product after the other, so that the result does not depend on how the
//! target is cut.

use super::operands::Operands;
use crate::plan::{LowRank, OperandId};
use crate::source::index;

/// Elements whose sums are taken side by side.
const BLOCK: usize = 1024;

/// The factors of an update, as far as a chunk needs them.
pub(super) struct Update<'a> {
    operands: &'a dyn Operands,
    how: &'a LowRank,
    /// `A`, whole.
    a: Vec<f32>,
    columns: usize,
    /// The row of `B` that was needed last.
    b: Vec<f32>,
    row: Option<u64>,
}

impl<'a> Update<'a> {
    /// Reads `A`.
    pub(super) fn new(operands: &'a dyn Operands, how: &'a LowRank) -> Self {
        let factor = operands.operand(how.a);
        let dims = factor.shape.dims();
        let (rank, columns) = (index(dims[0]), index(dims[1]));
        let mut a = vec![0f32; rank * columns];
        read(operands, how.a, 0, &mut a);
        Self { operands, how, a, columns, b: vec![0f32; rank], row: None }
    }

    /// Adds the update to elements of single precision; the first is element `at` of the target.
    pub(super) fn apply(&mut self, at: u64, elements: &[u8], made: &mut [u8]) {
        let mut values = [0f32; BLOCK];
        let blocks = elements.as_chunks::<4>().0.chunks(BLOCK).zip(made.as_chunks_mut::<4>().0.chunks_mut(BLOCK));
        for (number, (elements, made)) in (0..).zip(blocks) {
            let values = &mut values[..elements.len()];
            for (value, bytes) in values.iter_mut().zip(elements) {
                *value = f32::from_le_bytes(*bytes);
            }
            self.add(at + number * BLOCK as u64, values);
            for (bytes, value) in made.iter_mut().zip(values) {
                *bytes = value.to_le_bytes();
            }
        }
    }

    /// Adds the update to the values of elements `at ..` of the target.
    fn add(&mut self, at: u64, values: &mut [f32]) {
        let how = self.how;
        let mut done = 0;
        while done < values.len() {
            let element = at + done as u64;
            let (row, column) = how.place(element);
            let run = index(how.width - element % how.width).min(values.len() - done);
            if self.row != Some(row) {
                let from = row * (self.b.len() * size_of::<f32>()) as u64;
                read(self.operands, how.b, from, &mut self.b);
                self.row = Some(row);
            }
            let first = index(column);
            let mut sums = [0f32; BLOCK];
            let sums = &mut sums[..run];
            for (factor, row) in self.b.iter().zip(self.a.chunks_exact(self.columns)) {
                for (sum, a) in sums.iter_mut().zip(&row[first..first + run]) {
                    *sum += factor * a;
                }
            }
            for (value, sum) in values[done..done + run].iter_mut().zip(sums) {
                *value += how.scale * *sum;
            }
            done += run;
        }
    }
}

/// Numbers of a factor from a byte on.
fn read(operands: &dyn Operands, factor: OperandId, from: u64, numbers: &mut [f32]) {
    operands.read(factor, from, bytemuck::cast_slice_mut(numbers));
    // The file's bytes are little-endian.
    for number in numbers {
        *number = f32::from_bits(u32::from_le(number.to_bits()));
    }
}
