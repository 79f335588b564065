//! Adapters of a checkpoint: which weight each changes, and where in the weight a stored shard of it lies.

use std::collections::HashMap;

use super::catalog::{Catalog, LogicalTensor};
use super::holders::Holder;
use super::route::LowRank;
use super::{PlanError, SourceFile};
use crate::models::{LoraFactor, is_lora, lora_factor};

/// The adapters that are merged into their weights.
#[derive(Clone, Debug, Default)]
pub(super) struct Adapters {
    /// Weight to its factors, by index in the catalog.
    by_weight: HashMap<usize, Pair>,
    /// The factors themselves, which do not go to the target.
    factors: Vec<usize>,
}

/// The factors of one weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    pub a: usize,
    pub b: usize,
    pub scale: f32,
}

impl Adapters {
    pub(super) fn of(&self, weight: usize) -> Option<Pair> {
        self.by_weight.get(&weight).copied()
    }

    pub(super) fn is_factor(&self, tensor: usize) -> bool {
        self.factors.contains(&tensor)
    }
}

impl Catalog {
    /// Has every adapter merged into its weight: `W + (alpha / r) B A`, where `r` is the number of rows of `A`.
    ///
    /// # Errors
    /// An adapter whose weight is not there, whose other factor is not there, or whose shape does not fit.
    pub fn merge_adapters(&mut self, alpha: f64) -> Result<usize, PlanError> {
        let mut found: HashMap<usize, (Option<usize>, Option<usize>)> = HashMap::new();
        let mut adapters = Adapters::default();
        for (index, tensor) in self.tensors().iter().enumerate().filter(|(_, t)| is_lora(&t.name)) {
            let bad = |why: &str| PlanError::Adapter { name: tensor.name.to_string(), why: why.to_owned() };
            let (weight, factor) = lora_factor(&tensor.name).ok_or_else(|| bad("it is no factor of a known kind"))?;
            let weight = self.get(&weight).ok_or_else(|| bad("the weight that it changes is not there unfused"))?;
            let pair = found.entry(weight).or_default();
            match factor {
                LoraFactor::A => pair.0 = Some(index),
                LoraFactor::B => pair.1 = Some(index),
            }
            adapters.factors.push(index);
        }
        for (weight, pair) in found {
            let name = self.tensors()[weight].name.to_string();
            let bad = |why: String| PlanError::Adapter { name: name.clone(), why };
            let (Some(a), Some(b)) = pair else {
                return Err(bad("only one factor of its adapter is there".to_owned()));
            };
            let dims = |index: usize| self.tensors()[index].shape.dims();
            let (&[rows, columns], &[rank, a_columns], &[b_rows, b_rank]) = (dims(weight), dims(a), dims(b)) else {
                return Err(bad("it or its adapter is no matrix".to_owned()));
            };
            if (a_columns, b_rows) != (columns, rows) || rank != b_rank || rank == 0 {
                let (a, b) = (&self.tensors()[a].shape, &self.tensors()[b].shape);
                return Err(bad(format!("the factors {b} and {a} do not make {}", self.tensors()[weight].shape)));
            }
            if [weight, a, b].iter().any(|&index| !self.tensors()[index].dtype.is_float()) {
                return Err(bad("it or its adapter is not of floating point".to_owned()));
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_precision_loss,
                reason = "computed in single precision"
            )]
            let scale = (alpha / rank as f64) as f32;
            adapters.by_weight.insert(weight, Pair { a, b, scale });
        }
        let count = adapters.by_weight.len();
        self.adapters = adapters;
        Ok(count)
    }
}

/// Where in the whole weight a stored shard of it lies. `a`, `b`: the factors in the plan.
pub(super) fn place(
    files: &[SourceFile<'_>],
    tensor: &LogicalTensor,
    holder: &Holder,
    (a, b, scale): (usize, usize, f32),
) -> LowRank {
    // The rows may be read as several axes; the last axis is the columns.
    let start = holder.piece.region.start();
    let (heads, column) = start.split_at(tensor.radices.len().min(start.len()));
    let row = heads.iter().zip(&tensor.radices).fold(0, |row, (at, radix)| row * radix + at);
    let width = files[holder.file].entries[holder.entry].shape.dims().get(1).copied().unwrap_or(1).max(1);
    // A piece may begin within the shard, always at the shard's own first column.
    let row = row - holder.piece.offset / width;
    LowRank { a, b, scale, width, row, column: column.first().copied().unwrap_or(0) }
}
