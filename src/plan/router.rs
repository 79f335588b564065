//! Boxes to routes: what the holders of a tensor give to a box of it.

mod boxes;
mod low_rank;
mod quantised;

use std::collections::HashMap;

use super::SourceFile;
use super::catalog::{Catalog, LogicalTensor};
use super::derive::quantise::Gathered;
use super::holders::{Holder, Holders};
use super::made::Pair;
use super::route::{LowRank, OutputTensor, Route, SourceTensor, Transform};
use super::source::hold_blocks;
use super::value::{Plan, PlanSource};
use crate::layout::{Piece, Region};
use crate::tensor::{Dtype, Shape};

/// The source files as a plan lists them.
pub(super) fn sources(files: &[SourceFile<'_>]) -> Vec<PlanSource> {
    files.iter().map(|f| PlanSource { path: f.path.clone(), len: f.bytes.len() as u64, rank: f.rank }).collect()
}

/// Routes by where their bytes begin in the target.
fn in_target_order(routes: &mut [Route]) {
    routes.sort_by_key(|r| r.moves.dst * r.transform.unit());
}

/// What brings elements of one floating-point type to another.
fn to(from: Dtype, to: Dtype) -> Transform {
    if from == to { Transform::Copy } else { Transform::Cast { from, to } }
}

pub(super) struct Router<'a> {
    files: &'a [SourceFile<'a>],
    catalog: &'a Catalog,
    /// Whether any tensor is quantised by blocks.
    by_blocks: bool,
    /// (file, entry) to the index among `tensors`.
    index: HashMap<(usize, usize), usize>,
    pub tensors: Vec<SourceTensor>,
    /// Whether adapters are merged into their weights.
    pub merge: bool,
    pub updates: Vec<LowRank>,
    pub factors: Vec<OutputTensor>,
    /// Factors in the catalog to those in the plan.
    pairs: HashMap<(usize, usize), (usize, usize)>,
}

impl<'a> Router<'a> {
    pub(super) fn new(files: &'a [SourceFile<'a>], catalog: &'a Catalog) -> Self {
        let (tensors, updates, factors) = (Vec::new(), Vec::new(), Vec::new());
        let (by_blocks, index, pairs) = (hold_blocks(files), HashMap::new(), HashMap::new());
        Self { files, catalog, by_blocks, index, tensors, merge: true, updates, factors, pairs }
    }

    /// The factors that are merged into a weight, whole and in single precision, and their scale.
    fn pair(&mut self, pair: Pair) -> (usize, usize, f32) {
        if let Some(&(a, b)) = self.pairs.get(&(pair.a, pair.b)) {
            return (a, b, pair.scale);
        }
        let (catalog, first) = (self.catalog, self.factors.len());
        for index in [pair.a, pair.b] {
            let tensor = &catalog.vectors[index];
            let whole: Vec<u64> = tensor.radices.iter().chain(tensor.shape.dims().iter().skip(1)).copied().collect();
            let transform = match tensor.dtype {
                Dtype::F32 => Transform::Copy,
                from => Transform::Cast { from, to: Dtype::F32 },
            };
            let mut routes = Vec::new();
            self.elements(tensor, &Piece::dense(Region::whole(&whole)), tensor.dtype, transform, &mut routes);
            in_target_order(&mut routes);
            let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
            self.factors.push(OutputTensor {
                name,
                dtype: Dtype::F32,
                shape,
                first_holder: true,
                routes,
                quantised: None,
            });
        }
        self.pairs.insert((pair.a, pair.b), (first, first + 1));
        (first, first + 1, pair.scale)
    }

    /// A plan of what was gathered only, without outputs.
    pub(super) fn into_plan(self) -> Plan {
        Plan { sources: sources(self.files), tensors: self.tensors, ..Plan::default() }
    }

    /// What the catalog's vectors give to a matrix or vector that is not written.
    pub(super) fn gather(&mut self, name: &str, what: &Gathered) -> OutputTensor {
        let catalog = self.catalog;
        let (mut routes, mut rows) = (Vec::new(), 0);
        let mut dims = Vec::new();
        for &(vector, first) in &what.parts {
            let tensor = &catalog.vectors[vector];
            let axes: Vec<u64> = tensor.radices.iter().chain(tensor.shape.dims().iter().skip(1)).copied().collect();
            let dense = Piece::dense(Region::whole(&axes));
            let piece = Piece::new(dense.region.clone(), first * what.columns, dense.strides().iter().copied());
            self.elements(tensor, &piece, tensor.dtype, to(tensor.dtype, what.dtype), &mut routes);
            rows += tensor.shape.dims().first().copied().unwrap_or(1);
            dims = tensor.shape.dims().to_vec();
        }
        if let Some(first) = dims.first_mut() {
            *first = rows;
        }
        in_target_order(&mut routes);
        OutputTensor {
            name: name.into(),
            dtype: what.dtype,
            // The parts' shapes are sound, and no model has 2^60 rows.
            shape: Shape::new(dims).unwrap_or_default(),
            first_holder: true,
            routes,
            quantised: None,
        }
    }

    /// What the holders give to the boxes of a target tensor, in target order.
    pub(super) fn routes(&mut self, pieces: &[(usize, Piece)], dtype: Dtype, transform: Transform) -> Vec<Route> {
        let catalog = self.catalog;
        let mut routes = Vec::new();
        for (tensor, piece) in pieces {
            self.elements(&catalog.tensors()[*tensor], piece, dtype, transform, &mut routes);
        }
        in_target_order(&mut routes);
        routes
    }

    /// What a tensor gives to a box: its elements, of `dtype` in the source, and what is added to them.
    fn elements(
        &mut self,
        tensor: &LogicalTensor,
        piece: &Piece,
        dtype: Dtype,
        transform: Transform,
        routes: &mut Vec<Route>,
    ) {
        let Some(pair) = tensor.update.filter(|_| self.merge) else {
            return self.bring(&tensor.holders, piece, dtype, transform, routes);
        };
        let pair = self.pair(pair);
        for holder in tensor.holders.near(&piece.region) {
            let Some(moves) = holder.piece.to(piece) else { continue };
            let to = if let Transform::Cast { to, .. } = transform { to } else { dtype };
            self.updates.push(low_rank::place(self.files, tensor, holder, pair));
            let transform = Transform::Update { from: dtype, to, update: self.updates.len() - 1 };
            routes.push(Route { source: self.source(holder.file, holder.entry), transform, moves });
        }
    }

    /// What holders give to a box.
    fn bring(&mut self, holders: &Holders, piece: &Piece, dtype: Dtype, transform: Transform, routes: &mut Vec<Route>) {
        for holder in holders.near(&piece.region) {
            if let Some(moves) = holder.piece.to(piece) {
                let (transform, to) = self.decoding(holder, dtype, transform);
                let moves = if transform == Transform::Copy { moves.scaled(to.size()) } else { moves };
                routes.push(Route { source: self.source(holder.file, holder.entry), transform, moves });
            }
        }
    }

    /// What is done to the elements of a holder, and what they become. Where any tensor is quantised by blocks, a holder's dtype need
    /// not be that of its tensor.
    fn decoding(&self, holder: &Holder, dtype: Dtype, transform: Transform) -> (Transform, Dtype) {
        let to = if let Transform::Cast { to, .. } = transform { to } else { dtype };
        let transform = match self.files[holder.file].entries[holder.entry].dtype {
            Dtype::Blocks(from) => Transform::Dequantise { from, to },
            from if self.by_blocks && dtype.is_float() => self::to(from, to),
            _ => transform,
        };
        (transform, to)
    }

    pub(super) fn source(&mut self, file: usize, entry: usize) -> usize {
        *self.index.entry((file, entry)).or_insert_with(|| {
            let found = &self.files[file].entries[entry];
            self.tensors.push(SourceTensor {
                file,
                name: found.name.clone(),
                dtype: found.dtype,
                extents: found.extents.clone(),
            });
            self.tensors.len() - 1
        })
    }
}
