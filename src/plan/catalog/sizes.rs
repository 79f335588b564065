//! The sizes of the model's axes: as it was named, or as the shapes of the checkpoint show them.

use std::collections::BTreeMap;

use super::reader::{Named, Reader, Reading};
use super::sized::Sized;
use crate::layout::{Piece, Region};
use crate::model::{Captures, Companion, Fact, Quantity, Row};
use crate::plan::{Arrangement, PlanError};
use crate::tensor::Shape;

/// The dimensions of a name in the layers that hold it.
struct Dims<'a> {
    row: &'static Row,
    companion: Option<&'static Companion>,
    captures: Captures,
    all: Vec<(&'a Named, Shape)>,
}

impl Reader<'_> {
    /// The sizes of the model that was named, or those that the shapes show.
    pub(super) fn sizes(&self, readings: &[Reading]) -> Result<Option<Sized>, PlanError> {
        let Some(dialect) = self.dialect else { return Ok(None) };
        let family = dialect.family();
        if let Some(model) = self.spec {
            return Ok(Some(Sized { family, sizes: model.sizes().clone(), open: Vec::new(), facts: Vec::new() }));
        }
        if let Arrangement::Rules(2..) = self.arrangement
            && family.has_replicated_axes()
        {
            return Err(PlanError::Ambiguous(format!(
                "several ranks may hold the same of a {} model, which the shapes do not show: name the model with -y",
                family.name
            )));
        }
        let mut by_row: BTreeMap<(String, Option<&str>), Dims<'_>> = BTreeMap::new();
        for (one, reading) in self.named.iter().zip(readings) {
            let (Some(known), Reading::Laid { shape, .. }) = (&one.known, reading) else { continue };
            if !known.state.is_empty() {
                continue;
            }
            let stored = &known.stored;
            let companion = stored.companion.map(|companion| companion.tail.as_str());
            let dims = by_row.entry((stored.row.pattern.to_string(), companion)).or_insert_with(|| Dims {
                row: stored.row,
                companion: stored.companion,
                captures: stored.captures,
                all: Vec::new(),
            });
            dims.all.push((one, shape.clone()));
        }
        let mut facts = Vec::new();
        for dims in by_row.values() {
            let (_, shape) = dims.usual()?;
            let mut full = shape.dims().to_vec();
            // A quantised weight has the dimensions of the weight, and nothing else that goes with one does.
            match dims.companion.map(|companion| companion.quantity) {
                None | Some(Quantity::Weight) => {}
                Some(Quantity::PackedWeight) => {
                    if let Some(columns) = full.last_mut() {
                        *columns = columns.saturating_mul(2);
                    }
                }
                Some(_) => continue,
            }
            facts.push(Fact { row: dims.row, captures: dims.captures, dims: full });
        }
        let solved = family.solve(&facts, &[]).map_err(|error| PlanError::Ambiguous(error.to_string()))?;
        Ok(Some(Sized { family, sizes: solved.sizes, open: solved.open, facts }))
    }
}

impl<'a> Dims<'a> {
    /// Without a named model: a parameter has one shape in all layers.
    fn usual(&self) -> Result<&(&'a Named, Shape), PlanError> {
        let like = |one: &Shape| self.all.iter().filter(|(_, shape)| shape == one).count();
        // Of equally frequent ones the first.
        let usual = self.all.iter().rev().max_by_key(|(_, shape)| like(shape));
        let Some(usual) = usual else { return Err(PlanError::Lacks(Vec::new())) };
        match self.all.iter().find(|(_, shape)| *shape != usual.1) {
            None => Ok(usual),
            Some((odd, shape)) => Err(PlanError::OddShape {
                name: odd.name.to_string(),
                shape: shape.clone(),
                usual_name: usual.0.name.to_string(),
                usual: usual.1.clone(),
                count: like(&usual.1),
            }),
        }
    }
}

/// The boxes in which a view's elements are, where a file holds them with other strides than row-major ones.
pub(super) fn with_strides(piece: &Piece, dims: &[u64], strides: &[u64]) -> Option<Piece> {
    let dense = Piece::dense(Region::whole(dims));
    let place = |mut at: u64| {
        let mut found = 0;
        for (dense, stride) in dense.strides().iter().zip(strides) {
            found += at.checked_div(*dense)? * stride;
            at %= dense;
        }
        Some(found)
    };
    let steps = piece.strides().iter().map(|&stride| place(stride)).collect::<Option<Vec<_>>>()?;
    Some(Piece::new(piece.region.clone(), place(piece.offset)?, steps))
}
