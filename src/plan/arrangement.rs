//! How a checkpoint's parameters lie over its ranks: by the family's rules, or by strategy files.

use super::StrategySet;
use crate::layout::{OptimizerShard, TensorLayout};
use crate::model::LoraFactor;
use crate::model::naming::{Split, fused, lora_factor, role};
use crate::tensor::Shape;

/// How a checkpoint's parameters lie over its ranks.
#[derive(Clone, Copy, Debug)]
pub enum Arrangement<'a> {
    /// Tensor parallelism over this many ranks, by the family's rules.
    Rules(u64),
    /// What strategy files say.
    Strategy(&'a StrategySet),
}

impl Arrangement<'_> {
    /// Ranks over all stages.
    pub fn ranks(&self) -> u64 {
        match self {
            Self::Rules(ranks) => *ranks,
            Self::Strategy(set) => set.ranks(),
        }
    }

    /// Ranks of one pipeline stage.
    pub fn devices(&self) -> u64 {
        match self {
            Self::Rules(ranks) => *ranks,
            Self::Strategy(set) => set.devices(),
        }
    }

    /// The number of pipeline stages.
    pub fn stages(&self) -> u64 {
        self.ranks() / self.devices()
    }

    /// The layout of a parameter in a stage, fused or not, or `None` where nothing is known of it.
    /// `vocabulary_whole`: whether the rules keep the embedding and `lm_head` whole. A strategy that knows only the fused
    /// name, or only the parts (all of them, cut alike), answers for the other too: both are cut over the same devices.
    pub(super) fn layout(
        &self,
        stage: u64,
        name: &str,
        ndim: usize,
        vocabulary_whole: bool,
    ) -> Option<(TensorLayout, Option<Shape>)> {
        match self {
            Self::Rules(1) => Some((TensorLayout::flat(1, ndim, None), None)),
            Self::Rules(ranks) => {
                let split = if let Some(role) = role(name) {
                    match role.split {
                        Split::Whole => None,
                        Split::Rows => Some(0),
                        Split::Columns => Some(1),
                        Split::Vocabulary => (!vocabulary_whole).then_some(0),
                    }
                } else if let Some((weight, factor)) = lora_factor(name) {
                    // As mindformers cuts adapters: the factor on the side that the weight is cut on.
                    let weight_split = match role(&weight) {
                        Some(role) => role.split,
                        None => fused(&weight).filter(|f| f.name == weight).map(|_| Split::Rows)?,
                    };
                    match (weight_split, factor) {
                        (Split::Rows, LoraFactor::B) => Some(0),
                        (Split::Columns, LoraFactor::A) => Some(1),
                        _ => None,
                    }
                } else {
                    let fused = fused(name).filter(|f| f.name == name)?;
                    (!fused.shared).then_some(0)
                };
                if split.is_some_and(|axis| axis >= ndim) {
                    return None;
                }
                Some((TensorLayout::flat(*ranks, ndim, split), None))
            }
            Self::Strategy(set) => {
                let layouts = set.stages().get(usize::try_from(stage).ok()?)?;
                if let Some(found) = layouts.get(name) {
                    return Some((found.layout.clone(), found.full_shape.clone()));
                }
                let related = fused(name)?;
                let known = if name == related.name {
                    let parts: Vec<_> = related.parts.iter().map(|p| layouts.get(p)).collect::<Option<_>>()?;
                    let first = *parts.first()?;
                    parts.iter().all(|p| p.layout == first.layout).then_some(first)?
                } else {
                    layouts.get(&related.name)?
                };
                // An optimizer shard cuts the rows of the one or of the other: it cannot be borrowed.
                (known.layout.optimizer_shard == OptimizerShard::None).then(|| (known.layout.clone(), None))
            }
        }
    }
}
