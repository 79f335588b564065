//! Quantising: the arithmetic, the blocks of it, and what is computed from whole rows before anything is written.

mod arithmetic;
mod block;
mod calculate;
mod fold;
mod rows;
mod tolerance;

use self::block::{BLOCK, Row, extent, quantise_row};
use super::fill::Inputs;
use super::view::View;
use crate::plan::{Arithmetic, Quantised, Route, Width};
use crate::source::index;

pub use self::calculate::{Calculated, calculate};
pub use self::rows::QuantError;
pub use self::tolerance::{Distance, distances};

/// Quantises a whole row as w8a16 does: the scale of its greatest magnitude, then int8. Returns the scale.
pub(super) fn symmetric_row(bytes: &[u8], out: &mut [u8]) -> f32 {
    let mut row = Row { width: Width::Int8, arithmetic: Arithmetic::Half, scale: 0.0, multiply: None, divide: None };
    row.scale = arithmetic::scale(extent(&row, bytes).peak, row.width, row.arithmetic);
    quantise_row(&row, bytes, out);
    row.scale
}

impl Inputs<'_> {
    /// Writes bytes `from ..` of a quantised tensor to `buf`. Never more than a block of fp16 is held.
    pub(super) fn quantise(&self, how: &Quantised, from: u64, buf: &mut [u8], view: &View<'_>) {
        // Each byte is converted once, though what it is made of may be cast on the way.
        let converted = view.converted.get() + buf.len() as u64;
        let (columns, group) = (how.columns.max(1), how.group.max(1));
        let in_a_byte = how.width.in_a_byte();
        // The vectors are not counted: they are in memory.
        let aside = View::default();
        let multiply = how.multiply.as_ref().map(|routes| self.halves(routes, 0, how.columns, &aside));
        let mut operand = [0u8; BLOCK * 2];
        let mut apart = [0u8; BLOCK];
        for (number, out) in (0..).zip(buf.chunks_mut(BLOCK / index(in_a_byte))) {
            // In elements, from here on.
            let at = (from + number * (BLOCK as u64 / in_a_byte)) * in_a_byte;
            let elements = out.len() * index(in_a_byte);
            let operand = &mut operand[..elements * 2];
            self.fill_routes(&how.operand, at * 2, operand, view);
            let end = at + elements as u64;
            // Groups divide the rows, so the groups of all rows are counted like the elements.
            let (first, last) = (at / group, (end - 1) / group);
            let scales = self.scales(how, first, last - first + 1, &aside);
            let first_row = at / columns;
            let rows = (end - 1) / columns - first_row + 1;
            let divide = how.divide.as_ref().map(|routes| self.halves(routes, first_row, rows, &aside));
            let integers = match how.width {
                Width::Int8 => &mut *out,
                Width::Int4 => &mut apart[..elements],
            };
            let mut begin = 0;
            for (of_group, scale) in (first..).zip(scales) {
                let element = at + begin as u64;
                let len = (elements - begin).min(index((of_group + 1) * group - element));
                let (row, column) = (element / columns, index(element % columns));
                let what = Row {
                    width: how.width,
                    arithmetic: how.arithmetic,
                    scale,
                    multiply: multiply.as_ref().map(|m| &m[column..column + len]),
                    divide: divide.as_ref().map(|d| d[index(row - first_row)]),
                };
                quantise_row(&what, &operand[begin * 2..(begin + len) * 2], &mut integers[begin..begin + len]);
                begin += len;
            }
            if how.width == Width::Int4 {
                for (out, [low, high]) in out.iter_mut().zip(apart.as_chunks::<2>().0) {
                    *out = (low & 0xf) | (high << 4);
                }
            }
        }
        view.converted.set(converted);
    }

    /// Scales of groups.
    fn scales(&self, how: &Quantised, from: u64, count: u64, view: &View<'_>) -> Vec<f32> {
        match how.arithmetic {
            Arithmetic::Half => self.halves(&how.scales, from, count, view),
            Arithmetic::Single => self.floats(&how.scales, from, count, view),
        }
    }

    /// Elements of a vector of fp32 numbers.
    fn floats(&self, routes: &[Route], from: u64, count: u64, view: &View<'_>) -> Vec<f32> {
        let mut bytes = vec![0; index(count * 4)];
        self.fill_routes(routes, from * 4, &mut bytes, view);
        bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    /// Elements of a vector of fp16 numbers.
    fn halves(&self, routes: &[Route], from: u64, count: u64, view: &View<'_>) -> Vec<f32> {
        let mut bytes = vec![0; index(count * 2)];
        self.fill_routes(routes, from * 2, &mut bytes, view);
        bytes.as_chunks::<2>().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect()
    }
}
