//! What is known of the rows of a matrix that is quantised, and what that costs.

use super::block::RowOutcome;
use crate::plan::Calculation;
use crate::tensor::TensorName;

/// What quantising does to one matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantError {
    /// The matrix.
    pub name: TensorName,
    /// The greatest difference between an element and what it dequantises to.
    pub greatest: f64,
    /// The root of the mean square of the differences.
    pub rms: f64,
    /// The same of the elements themselves, to compare with.
    pub rms_of_elements: f64,
    /// The part of the elements that were beyond the range of int8 (or int4).
    pub clipped: f64,
}

/// What is known of the rows of a matrix.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    /// One for each group of columns, row by row.
    pub scales: Vec<f32>,
    /// One for each row, where inputs are quantised.
    pub sums: Vec<i64>,
    pub total: RowOutcome,
    /// The sum of the elements' squares.
    pub squares: f64,
}

impl Rows {
    pub(super) fn error(&self, calculation: &Calculation) -> QuantError {
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let count = ((calculation.rows * calculation.columns) as f64).max(1.0);
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let clipped = self.total.clipped as f64 / count;
        QuantError {
            name: calculation.name.clone(),
            greatest: f64::from(self.total.greatest),
            rms: (self.total.squares / count).sqrt(),
            rms_of_elements: (self.squares / count).sqrt(),
            clipped,
        }
    }
}
