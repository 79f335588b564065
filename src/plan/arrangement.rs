//! How a checkpoint's parameters lie over its ranks: by the family's rules, or by strategy files.

use super::StrategySet;
use super::tensor_id::Known;
use crate::layout::{OptimizerShard, TensorLayout};
use crate::model::Dialect;
use crate::tensor::Shape;

/// How a checkpoint's parameters lie over its ranks.
#[derive(Clone, Copy, Debug)]
pub enum Arrangement<'a> {
    /// Tensor parallelism over this many ranks, by the family's rules.
    Rules(u64),
    /// What strategy files say.
    Strategy(&'a StrategySet),
}

/// What the rules of a family say of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByRules {
    /// The ranks share this dimension.
    Cut(usize),
    /// Every rank holds it whole.
    Whole,
    /// Nothing.
    Unknown,
}

/// The names of a fused parameter and of its parts.
#[derive(Clone, Debug)]
pub(super) struct Related {
    /// The fused name.
    pub whole: String,
    /// The names of the parts.
    pub parts: Vec<String>,
    /// Whether the name in question is the fused one.
    is_whole: bool,
}

impl Related {
    /// The fused parameter that a name is, or is a part of.
    pub(super) fn of(dialect: &Dialect, known: &Known) -> Option<Self> {
        let join = dialect.join(&known.stored)?;
        let name = |stored| Some(format!("{}{}", known.state, dialect.name(stored)?));
        let parts = join.parts.iter().map(name).collect::<Option<_>>()?;
        Some(Self { whole: name(&join.whole)?, parts, is_whole: known.stored.is_joined() })
    }
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

    /// The layout of a parameter in a stage, fused or not, or `None` where nothing is known of it. A strategy that knows only the
    /// fused name, or only the parts (all of them, cut alike), says it for the other too: both are cut over the same devices.
    pub(super) fn layout(
        &self,
        stage: u64,
        name: &str,
        ndim: usize,
        by_rules: ByRules,
        related: &dyn Fn() -> Option<Related>,
    ) -> Option<(TensorLayout, Option<Shape>)> {
        match self {
            Self::Rules(1) => Some((TensorLayout::flat(1, ndim, None), None)),
            Self::Rules(ranks) => {
                let split = match by_rules {
                    ByRules::Cut(dim) => Some(dim),
                    ByRules::Whole => None,
                    ByRules::Unknown => return None,
                };
                if split.is_some_and(|dim| dim >= ndim) {
                    return None;
                }
                Some((TensorLayout::flat(*ranks, ndim, split), None))
            }
            Self::Strategy(set) => {
                let layouts = set.stages().get(usize::try_from(stage).ok()?)?;
                if let Some(found) = layouts.get(name) {
                    return Some((found.layout.clone(), found.full_shape.clone()));
                }
                let related = related()?;
                let known = if related.is_whole {
                    let parts: Vec<_> = related.parts.iter().map(|p| layouts.get(p)).collect::<Option<_>>()?;
                    let first = *parts.first()?;
                    parts.iter().all(|p| p.layout == first.layout).then_some(first)?
                } else {
                    layouts.get(&related.whole)?
                };
                // An optimizer shard cuts the rows of the one or of the other: it cannot be borrowed.
                (known.layout.optimizer_shard == OptimizerShard::None).then(|| (known.layout.clone(), None))
            }
        }
    }
}
