//! The sizes of the model's axes: as it was named, or as the shapes of the checkpoint show them.

use std::collections::BTreeMap;

use super::{Named, Reader, Reading};
use crate::layout::{Piece, Region};
use crate::model::{Axis, Canonical, Captures, Family, Fact, ModelError, OwnSizes, Row, Sizes};
use crate::models::columns_in_one;
use crate::plan::PlanError;
use crate::plan::tensor_id::{Known, TensorId};
use crate::tensor::Shape;

/// A family and the sizes of its axes.
#[derive(Clone, Debug)]
pub(in crate::plan) struct Sized {
    pub family: &'static Family,
    pub sizes: Sizes,
    /// Axes whose sizes the shapes do not show, as the number of heads.
    pub open: Vec<Axis>,
}

impl Sized {
    /// Whether the order of a row follows axes that are not known.
    pub(in crate::plan) fn lacks_heads(&self, row: &Row) -> bool {
        !self.open.is_empty() && self.family.depends_on(row, &self.open)
    }

    /// The dimensions of a name over all ranks.
    pub(super) fn full_dims(&self, known: &Known, own: OwnSizes) -> Result<Vec<u64>, ModelError> {
        let stored = &known.stored;
        match stored.companion {
            None => self.family.full_dims(stored.row, stored.captures, &self.sizes),
            Some(companion) => {
                self.family.full_companion_dims(stored.row, stored.captures, companion, own, &self.sizes)
            }
        }
    }

    /// The full shape of a tensor, and the axes as which its rows are read.
    pub(in crate::plan) fn canonical(&self, id: TensorId, own: OwnSizes) -> Option<Canonical> {
        match id.companion() {
            None => self.family.canonical(id.param.param, &self.sizes),
            Some(companion) => self.family.canonical_companion(id.param.param, companion, own, &self.sizes),
        }
    }

    /// The axes as which the rows of a tensor of this shape are read.
    pub(super) fn rows(&self, id: TensorId, shape: &Shape) -> Option<Vec<u64>> {
        let own = self.own_sizes(id, shape)?;
        self.canonical(id, own).filter(|canonical| canonical.shape == shape.dims()).map(|canonical| canonical.rows)
    }

    /// Sizes that are the checkpoint's own, by the full shape of a tensor.
    pub(in crate::plan) fn own_sizes(&self, id: TensorId, shape: &Shape) -> Option<OwnSizes> {
        let Some(companion) = id.companion() else { return Some(OwnSizes { group: 1, lora_rank: 1 }) };
        self.family.own_sizes_of(id.param.param, companion, shape.dims(), &self.sizes)
    }

    /// What is wrong with a name.
    pub(in crate::plan) fn error(&self, name: &str, error: ModelError) -> PlanError {
        match error {
            ModelError::Layout(source) => PlanError::Layout { name: name.to_owned(), source },
            other => PlanError::Model { name: name.to_owned(), source: other },
        }
    }

    pub(super) fn too_large(&self, name: &str) -> PlanError {
        self.error(name, ModelError::TooLarge(name.to_owned()))
    }
}

/// The dimensions of a name in the layers that hold it.
struct Dims<'a> {
    row: &'static Row,
    captures: Captures,
    all: Vec<(&'a Named, Shape)>,
}

impl Reader<'_> {
    /// The sizes of the model that was named, or those that the shapes show.
    pub(super) fn sizes(&self, readings: &[Reading]) -> Result<Option<Sized>, PlanError> {
        let Some(dialect) = self.dialect else { return Ok(None) };
        let family = dialect.family();
        if let Some(model) = self.spec {
            return Ok(Some(Sized { family, sizes: model.sizes().clone(), open: Vec::new() }));
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
                captures: stored.captures,
                all: Vec::new(),
            });
            dims.all.push((one, shape.clone()));
        }
        let mut facts = Vec::new();
        for ((_, companion), dims) in &by_row {
            let usual = dims.usual()?;
            let (one, shape) = usual;
            let mut full = shape.dims().to_vec();
            if let Some(tail) = companion {
                // A quantised weight has the dimensions of the weight.
                if crate::models::before(&one.name).is_none() || !tail.ends_with("weight") {
                    continue;
                }
                if let Some(columns) = full.last_mut() {
                    *columns = columns.saturating_mul(columns_in_one(&one.name));
                }
            }
            facts.push(Fact { row: dims.row, captures: dims.captures, dims: full });
        }
        let solved = family.solve(&facts, &[]).map_err(|error| self.unsolved(error))?;
        Ok(Some(Sized { family, sizes: solved.sizes, open: solved.open }))
    }

    fn unsolved(&self, error: ModelError) -> PlanError {
        PlanError::Ambiguous(error.to_string())
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
