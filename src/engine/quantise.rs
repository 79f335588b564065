//! Quantising: the arithmetic, the blocks of it, and what is computed from whole rows before anything is written.

mod arithmetic;
mod block;
mod calculate;
mod fold;
mod rows;
mod tolerance;

use self::block::extent;
use crate::plan::{Arithmetic, Width};

pub(super) use self::block::{Row, quantise_row};
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
