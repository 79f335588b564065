//! Collecting which rank holds what, tensor by tensor.

use std::collections::{BTreeSet, HashMap};

use super::{Catalog, LogicalTensor};
use crate::model::{Captures, Stored};
use crate::plan::PlanError;
use crate::plan::shards::{Shard, Shards};
use crate::plan::tensor_id::TensorId;
use crate::tensor::{Dtype, Shape, TensorName};

/// The shards of a tensor.
#[derive(Clone, Default)]
pub(super) struct Held {
    /// Those of the lowest stage, which are read.
    pub used: Vec<Shard>,
    /// Those of other stages, as of a tied embedding.
    pub copies: Vec<Shard>,
}

impl Held {
    pub(super) fn push(&mut self, lowest_stage: bool, shard: Shard) {
        if lowest_stage { self.used.push(shard) } else { self.copies.push(shard) }
    }
}

/// A tensor whose shards are being collected.
pub(super) struct Tensor {
    pub name: TensorName,
    pub id: Option<TensorId>,
    pub dtype: Dtype,
    pub shape: Shape,
    pub radices: Vec<u64>,
    pub held: Held,
    pub loose: bool,
    /// The names that hold it, where each holds one expert.
    pub by_expert: Option<ByExpert>,
}

/// Names that each hold one expert of a tensor.
#[derive(Clone)]
pub(super) struct ByExpert {
    names: Stored,
    /// Those that are there.
    experts: BTreeSet<u32>,
}

impl ByExpert {
    /// The name of one of them; `None` where names are not by expert.
    pub(super) fn of(stored: &Stored) -> Option<Self> {
        Some(Self { names: *stored, experts: BTreeSet::from([stored.captures.expert?]) })
    }

    /// The names that are not there.
    fn lacks(&self, experts: u64) -> Vec<String> {
        let absent = (0..u32::try_from(experts).unwrap_or(u32::MAX)).filter(|expert| !self.experts.contains(expert));
        let of = |expert| Captures { expert: Some(expert), ..self.names.captures };
        absent.take(MOST_NAMES).filter_map(|expert| Stored { captures: of(expert), ..self.names }.name()).collect()
    }
}

/// More names of one tensor are not listed.
const MOST_NAMES: usize = 1000;

/// A catalog that is being filled.
pub(super) struct Adding<'a> {
    pub catalog: &'a mut Catalog,
    tensors: Vec<Tensor>,
    by_name: HashMap<TensorName, usize>,
}

impl<'a> Adding<'a> {
    pub(super) fn new(catalog: &'a mut Catalog) -> Self {
        Self { catalog, tensors: Vec::new(), by_name: HashMap::new() }
    }

    /// Adds a tensor, or another expert of one.
    pub(super) fn add(&mut self, tensor: Tensor) -> Result<(), PlanError> {
        let Some(&at) = self.by_name.get(&tensor.name) else {
            self.by_name.insert(tensor.name.clone(), self.tensors.len());
            self.tensors.push(tensor);
            return Ok(());
        };
        let known = &mut self.tensors[at];
        let name = &tensor.name;
        let (Some(one), Some(other)) = (&mut known.by_expert, &tensor.by_expert) else {
            return Err(PlanError::Ambiguous(format!("`{name}` is there both by itself and in a fused parameter")));
        };
        if one.names.row.pattern != other.names.row.pattern {
            // A checkpoint that holds both `wq` and `w_qkv` of one layer.
            return Err(PlanError::Ambiguous(format!("`{name}` is there both by itself and in a fused parameter")));
        }
        if known.dtype != tensor.dtype {
            let (one, other) = (known.dtype, tensor.dtype);
            return Err(PlanError::Ambiguous(format!("some experts of `{name}` are {one}, others {other}")));
        }
        one.experts.extend(&other.experts);
        known.held.used.extend(tensor.held.used);
        known.held.copies.extend(tensor.held.copies);
        Ok(())
    }

    /// Puts all of them into the catalog.
    pub(super) fn finish(self) -> Result<(), PlanError> {
        let mut lacks = Vec::new();
        for Tensor { name, id, dtype, shape, radices, held, loose, by_expert } in self.tensors {
            let shards = Shards::new(held.used, held.copies);
            // Each name is held whole; of experts there may be fewer than the model has.
            let held: u64 = shards.used().iter().map(|shard| shard.piece.region.volume()).sum();
            if let Some(by_expert) = by_expert.filter(|_| held != shape.elements()) {
                let experts = self.catalog.sized.as_ref().map_or(0, |sized| sized.family.experts(&sized.sizes));
                let absent = by_expert.lacks(experts);
                lacks.extend(if absent.is_empty() { vec![format!("{name} of some experts")] } else { absent });
            }
            let (quantise, update) = (None, None);
            self.catalog.put(LogicalTensor { name, id, dtype, shape, radices, shards, loose, quantise, update });
        }
        if lacks.is_empty() { Ok(()) } else { Err(PlanError::Lacks(lacks)) }
    }
}
