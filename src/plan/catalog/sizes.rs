//! The sizes of the model's axes: as it was named, or as the shapes of the checkpoint show them.

use std::collections::BTreeMap;

use super::{Named, Reader, Reading};
use crate::layout::{Piece, Region};
use crate::model::{Axis, Canonical, Captures, Companion, Fact, Family, ModelError, OwnSizes, Quantity, Row, Sizes};
use crate::plan::tensor_id::TensorId;
use crate::plan::{Arrangement, PlanError};
use crate::tensor::Shape;

/// A family and the sizes of its axes.
#[derive(Clone, Debug)]
pub(in crate::plan) struct Sized {
    pub family: &'static Family,
    pub sizes: Sizes,
    /// Axes whose sizes the shapes do not show, as the number of heads.
    pub open: Vec<Axis>,
    /// The shapes that show them, where no model was named.
    facts: Vec<Fact<'static>>,
}

impl Sized {
    /// Whether the order of a row follows axes that are not known.
    pub(in crate::plan) fn lacks_heads(&self, row: &Row) -> bool {
        !self.open.is_empty() && self.family.depends_on(row, &self.open)
    }

    /// The full shape of a tensor, and the axes as which its rows are read: one where the number of heads is not known.
    pub(in crate::plan) fn canonical(&self, id: TensorId, own: OwnSizes) -> Option<Canonical> {
        let canonical = self.by_axes(id, own)?;
        let rows = if self.open.is_empty() { canonical.rows } else { vec![canonical.rows.iter().product()] };
        Some(Canonical { rows, ..canonical })
    }

    fn by_axes(&self, id: TensorId, own: OwnSizes) -> Option<Canonical> {
        match id.companion() {
            None => self.family.canonical(id.param.param, &self.sizes),
            Some(companion) => self.family.canonical_companion(id.param.param, companion, own, &self.sizes),
        }
    }

    /// A box of a tensor in the axes of [`Self::canonical`].
    pub(in crate::plan) fn in_canonical_axes(&self, id: TensorId, own: OwnSizes, piece: Piece) -> Option<Piece> {
        if self.open.is_empty() {
            return Some(piece);
        }
        let radices = self.by_axes(id, own)?.rows;
        let (start, len, strides) = (piece.region.start(), piece.region.len(), piece.strides());
        let rows = radices.len();
        // No order of rows follows axes that are not known, so that the box is a range of rows.
        let first = start.iter().zip(&radices).fold(0, |row, (at, radix)| row * radix + at);
        let count = len[..rows].iter().product();
        let step = (0..rows).filter(|&axis| len[axis] > 1).map(|axis| strides[axis]).min().unwrap_or(0);
        let region = Region::new(
            [first].into_iter().chain(start[rows..].iter().copied()),
            [count].into_iter().chain(len[rows..].iter().copied()),
        );
        Some(Piece::new(region, piece.offset, [step].into_iter().chain(strides[rows..].iter().copied())))
    }

    /// The axes as which the rows of a tensor of this shape are read.
    pub(super) fn rows(&self, id: TensorId, shape: &Shape) -> Option<Vec<u64>> {
        let own = self.own_sizes(id, shape)?;
        self.canonical(id, own).filter(|canonical| canonical.shape == shape.dims()).map(|canonical| canonical.rows)
    }

    /// Sizes that are the checkpoint's own, by the full shape of a tensor.
    pub(in crate::plan) fn own_sizes(&self, id: TensorId, shape: &Shape) -> Option<OwnSizes> {
        let Some(companion) = id.companion() else { return Some(OwnSizes::NONE) };
        self.family.own_sizes(id.param.param, companion, shape.dims(), &self.sizes)
    }

    /// The sizes where this many heads of this many rows are known.
    ///
    /// # Errors
    /// Heads that do not make the rows.
    pub(in crate::plan) fn with_heads(&self, kv_heads: u64, head_dim: u64) -> Result<Sizes, PlanError> {
        let stated = self.family.heads(kv_heads, head_dim);
        let solved = self.family.solve(&self.facts, &stated).map_err(|e| PlanError::Ambiguous(e.to_string()))?;
        Ok(solved.sizes)
    }

    /// What is wrong with a name.
    pub(in crate::plan) fn error(name: &str, error: ModelError) -> PlanError {
        match error {
            ModelError::Layout(source) => PlanError::Layout { name: name.to_owned(), source },
            other => PlanError::Model { name: name.to_owned(), source: other },
        }
    }

    pub(super) fn too_large(name: &str) -> PlanError {
        Self::error(name, ModelError::TooLarge(name.to_owned()))
    }
}

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
