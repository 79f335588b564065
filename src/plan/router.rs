//! Boxes to routes: what the shards of a tensor give to a box of it.

mod boxes;
mod low_rank;
mod quantised;

use std::collections::HashMap;

use super::SourceFile;
use super::catalog::{Catalog, LogicalTensor};
use super::derive::quantise::Gathered;
use super::ids::{OperandId, OpsId, SourceId, StoredId};
use super::made::Pair;
use super::op::{LowRank, Op};
use super::route::{OutputFile, OutputTensor, Route, SourceTensor};
use super::shards::{Shard, Shards};
use super::source::hold_blocks;
use super::value::{Plan, PlanSource};
use crate::layout::{Piece, Region};
use crate::tensor::{Dtype, Shape};

pub(super) struct Router<'a> {
    files: &'a [SourceFile<'a>],
    catalog: &'a Catalog,
    /// Whether any tensor is quantised by blocks.
    by_blocks: bool,
    /// (file, entry) to the tensor in the plan.
    index: HashMap<(usize, usize), StoredId>,
    /// The plan so far: no outputs.
    plan: Plan,
    /// Whether adapters are merged into their weights.
    pub merge: bool,
    /// Pipelines that only convert.
    casts: HashMap<(Dtype, Dtype), OpsId>,
    /// Factors in the catalog to those in the plan.
    pairs: HashMap<(usize, usize), (OperandId, OperandId)>,
}

/// What becomes of elements on their way to a tensor.
pub(super) struct Way {
    /// What they are in the source.
    pub from: Dtype,
    /// What they become.
    pub to: Dtype,
    /// What is done with that.
    pub then: Option<Op>,
    /// Elements of a row of the tensor.
    pub columns: u64,
}

impl Way {
    /// The ops of elements that are stored as this dtype, where that is added to them.
    fn ops(&self, stored: Dtype, update: Option<LowRank>) -> Vec<Op> {
        let read = |stored, to| match stored {
            Dtype::Blocks(from) => [Some(Op::Dequantise { from }), cast(Dtype::F32, to)],
            _ => [cast(stored, to), None],
        };
        let mut ops = Vec::new();
        if let Some(update) = update {
            ops.extend(read(stored, Dtype::F32).into_iter().flatten());
            ops.push(Op::AddLowRank(update));
            ops.extend(cast(Dtype::F32, self.to));
        } else {
            ops.extend(read(stored, self.to).into_iter().flatten());
        }
        ops.extend(self.then.clone());
        ops
    }

    /// Elements that are converted, or only moved, to a tensor of this shape.
    pub(super) fn cast(from: Dtype, to: Dtype, shape: &Shape) -> Self {
        Self { from, to, then: None, columns: shape.dims().get(1).copied().unwrap_or(1) }
    }
}

/// What brings elements of one floating-point type to another.
fn cast(from: Dtype, to: Dtype) -> Option<Op> {
    (from != to).then_some(Op::Cast { from, to })
}

impl<'a> Router<'a> {
    pub(super) fn new(files: &'a [SourceFile<'a>], catalog: &'a Catalog) -> Self {
        let sources = files.iter().map(|f| PlanSource { path: f.path.clone(), len: f.len, rank: f.rank });
        let plan = Plan { sources: sources.collect(), ..Plan::default() };
        let (index, casts, pairs) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { files, catalog, by_blocks: hold_blocks(files), index, plan, merge: true, casts, pairs }
    }

    /// The plan so far: sources, and what routes are made of; no outputs.
    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The plan, with these outputs.
    pub(super) fn into_plan(self, outputs: Vec<OutputFile>) -> Plan {
        Plan { outputs, ..self.plan }
    }

    /// The id of a pipeline.
    pub(super) fn pipeline(&mut self, ops: Vec<Op>) -> OpsId {
        let cast = match ops.as_slice() {
            [] => return OpsId::COPY,
            [Op::Cast { from, to }] => Some((*from, *to)),
            _ => None,
        };
        if let Some(known) = cast.and_then(|cast| self.casts.get(&cast)) {
            return *known;
        }
        // The parts of a fused weight go through the same one.
        if self.plan.pipelines.last().is_some_and(|last| **last == *ops) {
            return OpsId::new(self.plan.pipelines.len());
        }
        self.plan.pipelines.push(ops.into());
        let id = OpsId::new(self.plan.pipelines.len());
        if let Some(cast) = cast {
            self.casts.insert(cast, id);
        }
        id
    }

    /// Something that ops take: a vector or matrix of the catalog, or a part of one.
    fn operand(&mut self, name: &str, dtype: Dtype, shape: Shape, mut routes: Vec<Route>) -> OperandId {
        self.in_target_order(&mut routes);
        self.plan.operands.push(OutputTensor { name: name.into(), dtype, shape, first_holder: true, routes });
        OperandId::new(self.plan.operands.len() - 1)
    }

    /// Routes by where their bytes begin in the target.
    pub(super) fn in_target_order(&self, routes: &mut [Route]) {
        routes.sort_by_key(|route| self.plan.unit(route).byte(route.moves.dst));
    }

    /// The factors that are merged into a weight, whole and in single precision.
    fn pair(&mut self, pair: Pair) -> (OperandId, OperandId, f32) {
        let (a, b) = if let Some(known) = self.pairs.get(&(pair.a, pair.b)) {
            *known
        } else {
            let made = (self.factor(pair.a), self.factor(pair.b));
            self.pairs.insert((pair.a, pair.b), made);
            made
        };
        (a, b, pair.scale)
    }

    fn factor(&mut self, vector: usize) -> OperandId {
        let tensor = &self.catalog.vectors[vector];
        let mut routes = Vec::new();
        self.elements(tensor, &whole(tensor), &Way::cast(tensor.dtype, Dtype::F32, &tensor.shape), &mut routes);
        self.operand(&tensor.name, Dtype::F32, tensor.shape.clone(), routes)
    }

    /// What the catalog's vectors give to a matrix or vector that is not written.
    pub(super) fn gather(&mut self, name: &str, what: &Gathered) -> OutputTensor {
        let catalog = self.catalog;
        let (mut routes, mut rows) = (Vec::new(), 0);
        let mut dims = Vec::new();
        for &(vector, first) in &what.parts {
            let tensor = &catalog.vectors[vector];
            let dense = whole(tensor);
            let piece = Piece::new(dense.region.clone(), first * what.columns, dense.strides().iter().copied());
            let way = Way { from: tensor.dtype, to: what.dtype, then: None, columns: what.columns };
            self.elements(tensor, &piece, &way, &mut routes);
            rows += tensor.shape.dims().first().copied().unwrap_or(1);
            dims = tensor.shape.dims().to_vec();
        }
        if let Some(first) = dims.first_mut() {
            *first = rows;
        }
        self.in_target_order(&mut routes);
        // The parts' shapes are sound, and no model has 2^60 rows.
        let shape = Shape::new(dims).unwrap_or_default();
        OutputTensor { name: name.into(), dtype: what.dtype, shape, first_holder: true, routes }
    }

    /// What the shards give to the boxes of a target tensor, in target order.
    pub(super) fn routes(&mut self, pieces: &[(usize, Piece)], way: &Way) -> Vec<Route> {
        let catalog = self.catalog;
        let mut routes = Vec::new();
        for (tensor, piece) in pieces {
            self.elements(&catalog.tensors()[*tensor], piece, way, &mut routes);
        }
        self.in_target_order(&mut routes);
        routes
    }

    /// What a tensor gives to a box: its elements, and what is added to them.
    fn elements(&mut self, tensor: &LogicalTensor, piece: &Piece, way: &Way, routes: &mut Vec<Route>) {
        let pair = tensor.update.filter(|_| self.merge).map(|pair| self.pair(pair));
        let update = pair.map(|pair| low_rank::update(pair, piece, &tensor.radices, way.columns));
        let mut last: Option<(Dtype, OpsId)> = None;
        for shard in tensor.shards.near(&piece.region) {
            let Some(moves) = shard.piece.to(piece) else { continue };
            let stored = self.stored_as(shard, way.from);
            let ops = match last {
                Some((dtype, ops)) if dtype == stored => ops,
                _ => self.pipeline(way.ops(stored, update.clone())),
            };
            last = Some((stored, ops));
            let moves = if ops == OpsId::COPY { moves.scaled(stored.size()) } else { moves };
            routes.push(Route { source: self.source(shard.file, shard.entry), ops, moves });
        }
    }

    /// What a shard's elements are in its file. Where any tensor is quantised by blocks, all are read as one type, which need not
    /// be the file's.
    fn stored_as(&self, shard: &Shard, dtype: Dtype) -> Dtype {
        if self.by_blocks && dtype.is_float() { self.files[shard.file].entries[shard.entry].dtype } else { dtype }
    }

    /// What shards give to a box, as it is.
    fn bring(&mut self, shards: &Shards, piece: &Piece, dtype: Dtype, routes: &mut Vec<Route>) {
        for shard in shards.near(&piece.region) {
            if let Some(moves) = shard.piece.to(piece) {
                let (source, ops) = (self.source(shard.file, shard.entry), OpsId::COPY);
                routes.push(Route { source, ops, moves: moves.scaled(dtype.size()) });
            }
        }
    }

    pub(super) fn source(&mut self, file: usize, entry: usize) -> StoredId {
        let (files, tensors) = (self.files, &mut self.plan.tensors);
        *self.index.entry((file, entry)).or_insert_with(|| {
            let found = &files[file].entries[entry];
            let (name, dtype, extents) = (found.name.clone(), found.dtype, found.extents.clone());
            tensors.push(SourceTensor { file: SourceId::new(file), name, dtype, extents });
            StoredId::new(tensors.len() - 1)
        })
    }
}

/// All of a tensor, in the axes as which its rows are read.
fn whole(tensor: &LogicalTensor) -> Piece {
    let axes: Vec<u64> = tensor.radices.iter().chain(tensor.shape.dims().iter().skip(1)).copied().collect();
    Piece::dense(Region::whole(&axes))
}
