//! Quantising: the arithmetic, the blocks of it, and what is computed from whole rows before anything is written.

mod arithmetic;
mod block;
mod calculate;
mod fold;
mod rows;
mod tolerance;

use self::block::prepare_row;
use crate::plan::{Arithmetic, Width};

pub(super) use self::block::{Row, quantise_row};
pub use self::calculate::{Calculated, calculate};
pub use self::rows::QuantError;
pub use self::tolerance::{Distance, distances};

/// Quantises a whole row as w8a16 does: the scale of its greatest magnitude, then int8. `values`: room for the row. Answers the
/// scale.
pub(super) fn symmetric_row(bytes: &[u8], values: &mut [f32], out: &mut [u8]) -> f32 {
    let mut row = Row { width: Width::Int8, arithmetic: Arithmetic::Half, scale: 0.0, multiply: None, divide: None };
    row.scale = arithmetic::scale(prepare_row(&row, bytes, values).0, row.width, row.arithmetic);
    quantise_row(&row, bytes, out);
    row.scale
}
