//! Weights with a low-rank update: `W + scale * B A`, row by row in single precision, then converted.
//!
//! The sum over the rank is taken in its order, one product after the other, so that the result does not depend on how the
//! target is cut.

use super::cast;
use super::view::Source;
use crate::plan::{LowRank, OutputTensor, Plan};
use crate::source::index;
use crate::tensor::Dtype;

/// Elements of a block.
const BLOCK: usize = cast::BLOCK;

/// Reads a factor's bytes from an offset on.
pub(super) type ReadFactor<'a> = &'a dyn Fn(&OutputTensor, u64, &mut [u8]);

/// The factors of an update, as far as a chunk needs them.
pub(super) struct Factors<'a> {
    plan: &'a Plan,
    read: ReadFactor<'a>,
    update: &'a LowRank,
    /// `A`, whole.
    a: Vec<f32>,
    columns: usize,
    /// The row of `B` that was needed last.
    b: Vec<f32>,
    row: Option<u64>,
}

impl<'a> Factors<'a> {
    /// Reads `A`.
    pub(super) fn new(plan: &'a Plan, update: &'a LowRank, read: ReadFactor<'a>) -> Self {
        let factor = &plan.factors[update.a];
        let dims = factor.shape.dims();
        let (rank, columns) = (index(dims[0]), index(dims[1]));
        let mut a = vec![0f32; rank * columns];
        read(factor, 0, bytemuck::cast_slice_mut(&mut a));
        little_endian(&mut a);
        Self { plan, read, update, a, columns, b: vec![0f32; rank], row: None }
    }

    /// Adds the update to the values of elements `at ..` of the source tensor.
    fn add(&mut self, at: u64, values: &mut [f32]) {
        let update = self.update;
        let mut done = 0;
        while done < values.len() {
            let element = at + done as u64;
            let (row, column) = update.place(element);
            let run = index(update.width - element % update.width).min(values.len() - done);
            if self.row != Some(row) {
                let from = row * (self.b.len() * size_of::<f32>()) as u64;
                (self.read)(&self.plan.factors[update.b], from, bytemuck::cast_slice_mut(&mut self.b));
                little_endian(&mut self.b);
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
                *value += update.scale * *sum;
            }
            done += run;
        }
    }

    /// Converts a run of updated elements, where it falls into the buffer, which begins at byte `begin` of the target. Elements
    /// that lie only partly in the buffer are cut; each is counted, if it overflows, where it begins.
    pub(super) fn update_run(&mut self, source: &Source<'_>, run: &Run, begin: u64, buf: &mut [u8]) -> u64 {
        let (width_in, width_out) = (run.from.size(), run.to.size());
        let end = begin + buf.len() as u64;
        let mut overflowed = 0;
        let (mut raw, mut out) = ([0u8; BLOCK * 8], [0u8; BLOCK * 8]);
        let mut values = [0f32; BLOCK];
        let mut done = 0;
        while done < run.count {
            let count = (run.count - done).min(BLOCK as u64);
            let raw = &mut raw[..index(count * width_in)];
            source.read((run.src + done) * width_in, raw);
            let values = &mut values[..index(count)];
            cast::convert(run.from, Dtype::F32, raw, bytemuck::cast_slice_mut(values));
            little_endian(values);
            self.add(run.src + done, values);
            little_endian(values);
            let at = (run.dst + done) * width_out;
            let out = &mut out[..index(count * width_out)];
            let bytes: &[u8] = bytemuck::cast_slice(values);
            let count_all = cast::convert(Dtype::F32, run.to, bytes, out);
            let (first, last) = (at.max(begin), (at + out.len() as u64).min(end));
            buf[index(first - begin)..index(last - begin)].copy_from_slice(&out[index(first - at)..index(last - at)]);
            overflowed += count_all;
            if at < begin {
                // The first element began before the buffer, where it was counted.
                let mut one = [0u8; 8];
                overflowed -= cast::convert(Dtype::F32, run.to, &bytes[..4], &mut one[..index(width_out)]);
            }
            done += count;
        }
        overflowed
    }
}

/// The factors were filled with the file's bytes, which are little-endian.
fn little_endian(values: &mut [f32]) {
    for value in values {
        *value = f32::from_bits(u32::from_le(value.to_bits()));
    }
}

/// Where a run of elements comes from and goes to.
pub(super) struct Run {
    pub from: Dtype,
    pub to: Dtype,
    /// The first element in the source tensor, and in the target.
    pub src: u64,
    pub dst: u64,
    pub count: u64,
}
