//! Adapters of a checkpoint merged: which weight each changes.

use std::collections::{HashMap, HashSet};

use crate::model::LoraFactor;
use crate::model::naming::{is_lora, lora_factor};
use crate::plan::PlanError;
use crate::plan::catalog::Catalog;
use crate::plan::made::Pair;

impl Catalog {
    /// Has every adapter merged into its weight: `W + (alpha / r) B A`, where `r` is the number of rows of `A`.
    ///
    /// # Errors
    /// An adapter whose weight is not there, whose other factor is not there, or whose shape does not fit.
    pub fn merge_adapters(&mut self, alpha: f64) -> Result<usize, PlanError> {
        let mut found: HashMap<usize, (Option<usize>, Option<usize>)> = HashMap::new();
        let mut merged = HashSet::new();
        for (index, tensor) in self.tensors().iter().enumerate().filter(|(_, t)| is_lora(&t.name)) {
            let bad = |why: &str| PlanError::Adapter { name: tensor.name.to_string(), why: why.to_owned() };
            let (weight, factor) = lora_factor(&tensor.name).ok_or_else(|| bad("it is no factor of a known kind"))?;
            let weight = self.get(&weight).ok_or_else(|| bad("the weight that it changes is not there"))?;
            let pair = found.entry(weight).or_default();
            match factor {
                LoraFactor::A => pair.0 = Some(index),
                LoraFactor::B => pair.1 = Some(index),
            }
            merged.insert(index);
        }
        let mut updates = Vec::with_capacity(found.len());
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
            updates.push((weight, a, b, scale));
        }
        for &(weight, a, b, scale) in &updates {
            let [a, b] = [a, b].map(|factor| {
                self.vectors.push(self.tensors()[factor].clone());
                self.vectors.len() - 1
            });
            self.update(weight, Pair { a, b, scale });
        }
        self.merged = merged;
        Ok(updates.len())
    }
}
