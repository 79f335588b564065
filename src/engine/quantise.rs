//! Quantising: the arithmetic, the blocks of it, and what is computed from whole rows before anything is written.

mod arithmetic;
mod block;
mod calculate;
mod fold;
mod tolerance;

use self::block::{BLOCK, Row, prepare_row, quantise_row};
use super::fill::{Inputs, index};
use super::view::View;
use crate::plan::{Arithmetic, Quantised, Route};

pub use self::calculate::{Calculated, QuantError, calculate};
pub use self::tolerance::{Distance, distances};

/// Quantises a whole row as w8a16 does: the scale of its greatest magnitude, then int8. `values`: room for the row. Answers the
/// scale.
pub(super) fn symmetric_row(bytes: &[u8], values: &mut [f32], out: &mut [u8]) -> f32 {
    let mut row = Row { arithmetic: Arithmetic::Half, scale: 0.0, multiply: None, divide: None };
    row.scale = arithmetic::scale(prepare_row(&row, bytes, values).0, row.arithmetic);
    quantise_row(&row, bytes, out);
    row.scale
}

impl Inputs<'_> {
    /// Writes int8 elements `from ..` of a quantised tensor to `buf`. Never more than a block of fp16 is held.
    pub(super) fn quantise(&self, how: &Quantised, from: u64, buf: &mut [u8], view: &View<'_>) {
        // Each byte is converted once, though what it is made of may be cast on the way.
        let converted = view.converted.get() + buf.len() as u64;
        let columns = how.columns.max(1);
        // The vectors are not counted: they are in memory.
        let aside = View::default();
        let multiply = how.multiply.as_ref().map(|routes| self.halves(routes, 0, how.columns, &aside));
        let mut operand = [0u8; BLOCK * 2];
        let mut done = 0;
        while done < buf.len() {
            let at = from + done as u64;
            let elements = (buf.len() - done).min(BLOCK);
            let operand = &mut operand[..elements * 2];
            self.fill_routes(&how.operand, at * 2, operand, view);
            let (first, last) = (at / columns, (at + elements as u64 - 1) / columns);
            let scales = self.floats(&how.scales, first, last - first + 1, &aside);
            let divide = how.divide.as_ref().map(|routes| self.halves(routes, first, last - first + 1, &aside));
            let mut begin = 0;
            for row in first..=last {
                let column = index((at + begin as u64) - row * columns);
                let len = (elements - begin).min(index(columns) - column);
                let place = index(row - first);
                let what = Row {
                    arithmetic: how.arithmetic,
                    scale: scales[place],
                    multiply: multiply.as_ref().map(|m| &m[column..column + len]),
                    divide: divide.as_ref().map(|d| d[place]),
                };
                let bytes = &operand[begin * 2..(begin + len) * 2];
                quantise_row(&what, bytes, &mut buf[done + begin..done + begin + len]);
                begin += len;
            }
            done += elements;
        }
        view.converted.set(converted);
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
