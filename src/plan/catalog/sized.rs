//! A family and the sizes of its axes.

use crate::layout::{Piece, Region};
use crate::model::{Axis, Canonical, Fact, Family, ModelError, OwnSizes, Row, Sizes};
use crate::plan::PlanError;
use crate::plan::tensor_id::TensorId;
use crate::tensor::Shape;

/// A family and the sizes of its axes.
#[derive(Clone, Debug)]
pub(in crate::plan) struct Sized {
    pub family: &'static Family,
    pub sizes: Sizes,
    /// Axes whose sizes the shapes do not show, as the number of heads.
    pub open: Vec<Axis>,
    /// The shapes that show them, where no model was named.
    pub(super) facts: Vec<Fact<'static>>,
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
