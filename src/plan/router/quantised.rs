//! What the elements of a quantised tensor are made of.

use super::boxes::{groups_of, rows_of, unpacked};
use super::{Router, Way};
use crate::layout::{Piece, Region};
use crate::plan::PlanError;
use crate::plan::ids::OperandId;
use crate::plan::op::{Op, Quantise};
use crate::plan::route::Route;
use crate::plan::target::TargetEntry;
use crate::tensor::{Dtype, Shape};

impl Router<'_> {
    /// What brings the boxes of a target tensor, quantised, where they are to be: its elements, and what belongs to its rows and
    /// columns.
    pub(in crate::plan) fn quantised(
        &mut self,
        pieces: &[(usize, Piece)],
        entry: &TargetEntry,
    ) -> Result<Option<Vec<Route>>, PlanError> {
        let catalog = self.catalog;
        let of = |tensor: usize| catalog.tensors()[tensor].quantise.as_ref();
        let (Some((tensor, _)), &[rows, stored]) = (pieces.first(), entry.shape.dims()) else { return Ok(None) };
        let Some(first) = of(*tensor) else { return Ok(None) };
        let in_a_byte = first.width.in_a_byte();
        let columns = stored * in_a_byte;
        let unpacked: Vec<(usize, Piece)> =
            pieces.iter().map(|(of, piece)| (*of, unpacked(piece, in_a_byte))).collect();
        let (mut scales, mut divide) = (Vec::new(), Vec::new());
        for (tensor, piece) in &unpacked {
            let Some(how) = of(*tensor) else { return Ok(None) };
            let of_rows = rows_of(piece, columns);
            let scaled = match how.group {
                None => of_rows.clone(),
                Some(size) => groups_of(piece, columns, size)
                    .ok_or_else(|| PlanError::Groups { name: entry.name.to_string(), size })?,
            };
            let dtype = how.arithmetic.scales();
            self.bring(&catalog.vectors[how.scales].shards, &scaled, dtype, &mut scales);
            if let Some(vector) = how.divide {
                self.bring(&catalog.vectors[vector].shards, &of_rows, Dtype::F16, &mut divide);
            }
        }
        // All parts of a fused weight have one input, and so the same columns with the same factors.
        let multiply = first.multiply.map(|vector| {
            let piece = &unpacked[0].1;
            let axis = piece.region.len().len() - 1;
            let region = Region::new([piece.region.start()[axis]], [piece.region.len()[axis]]);
            let mut routes = Vec::new();
            let shards = &catalog.vectors[vector].shards;
            self.bring(shards, &Piece::dense(region), Dtype::F16, &mut routes);
            routes
        });
        let group = first.group.unwrap_or(columns);
        let mut vector = |dtype, elements: u64, routes| -> Result<OperandId, PlanError> {
            let bad =
                |e: crate::tensor::ShapeError| PlanError::Layout { name: entry.name.to_string(), source: e.into() };
            Ok(self.operand(&entry.name, dtype, Shape::new([elements]).map_err(bad)?, routes))
        };
        let how = Quantise {
            columns,
            group,
            width: first.width,
            arithmetic: first.arithmetic,
            scales: vector(first.arithmetic.scales(), rows * columns.checked_div(group).unwrap_or(0), scales)?,
            multiply: multiply.map(|routes| vector(Dtype::F16, columns, routes)).transpose()?,
            divide: first.divide.map(|_| vector(Dtype::F16, rows, divide)).transpose()?,
        };
        let (quantise, mut routes) = (Some(Op::Quantise(how)), Vec::new());
        for (tensor, piece) in &unpacked {
            let from = of(*tensor).map_or(Dtype::F16, |how| how.from);
            let way = Way { from, to: Dtype::F16, then: quantise.clone(), columns };
            self.elements(&catalog.tensors()[*tensor], piece, &way, &mut routes);
        }
        self.in_target_order(&mut routes);
        Ok(Some(routes))
    }
}
