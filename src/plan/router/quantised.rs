//! What the elements of a quantised tensor are made of.

use super::boxes::{groups_of, rows_of, unpacked};
use super::{Router, in_target_order, to};
use crate::layout::{Piece, Region};
use crate::plan::PlanError;
use crate::plan::route::{Quantised, Transform};
use crate::plan::target::TargetEntry;
use crate::tensor::Dtype;

impl Router<'_> {
    /// How the boxes of a target tensor are quantised, where they are: its elements, and what belongs to its rows and columns.
    pub(in crate::plan) fn quantised(
        &mut self,
        pieces: &[(usize, Piece)],
        entry: &TargetEntry,
    ) -> Result<Option<Quantised>, PlanError> {
        let catalog = self.catalog;
        let of = |tensor: usize| catalog.tensors()[tensor].quantise.as_ref();
        let (Some((tensor, piece)), &[_, stored]) = (pieces.first(), entry.shape.dims()) else { return Ok(None) };
        let Some(first) = of(*tensor) else { return Ok(None) };
        let columns = stored * first.width.in_a_byte();
        let (mut operand, mut scales, mut divide) = (Vec::new(), Vec::new(), Vec::new());
        for (tensor, piece) in pieces {
            let Some(how) = of(*tensor) else { return Ok(None) };
            let transform = to(how.from, Dtype::F16);
            let piece = unpacked(piece, how.width.in_a_byte());
            self.elements(&catalog.tensors()[*tensor], &piece, how.from, transform, &mut operand);
            let rows = rows_of(&piece, columns);
            let scaled = match how.group {
                None => rows.clone(),
                Some(size) => groups_of(&piece, columns, size)
                    .ok_or_else(|| PlanError::Groups { name: entry.name.to_string(), size })?,
            };
            let dtype = how.arithmetic.scales();
            self.bring(&catalog.vectors[how.scales].holders, &scaled, dtype, Transform::Copy, &mut scales);
            if let Some(vector) = how.divide {
                self.bring(&catalog.vectors[vector].holders, &rows, Dtype::F16, Transform::Copy, &mut divide);
            }
        }
        // All parts of a fused weight have one input, and so the same columns with the same factors.
        let multiply = first.multiply.map(|vector| {
            let piece = unpacked(piece, first.width.in_a_byte());
            let axis = piece.region.len().len() - 1;
            let region = Region::new([piece.region.start()[axis]], [piece.region.len()[axis]]);
            let mut routes = Vec::new();
            let (holders, dtype) = (&catalog.vectors[vector].holders, Dtype::F16);
            self.bring(holders, &Piece::dense(region), dtype, Transform::Copy, &mut routes);
            routes
        });
        for routes in [&mut operand, &mut scales, &mut divide] {
            in_target_order(routes);
        }
        let divide = first.divide.map(|_| divide);
        let (group, width, arithmetic) = (first.group.unwrap_or(columns), first.width, first.arithmetic);
        Ok(Some(Quantised { columns, group, width, arithmetic, operand, scales, multiply, divide }))
    }
}
