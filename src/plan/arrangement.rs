//! How a checkpoint's parameters lie over its ranks: by the family's rules, or by strategy files.

use super::StrategySet;
use super::tensor_id::Known;
use crate::layout::{OptimizerShard, TensorLayout};
use crate::model::{Dialect, Family, Sizes, Stored};
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
    /// The ranks share this dimension in so many blocks, each of which several hold.
    Shared { dim: usize, ways: u64 },
    /// The ranks share this dimension, but several hold the same of some of the parts in it: no layout says what each holds, only
    /// its share of the model. How long it is over all ranks.
    Mixed { dim: usize, length: u64 },
    /// Every rank holds it whole.
    Whole,
    /// Nothing.
    Unknown,
}

impl ByRules {
    /// A dimension that the ranks share.
    pub(super) fn cut(dim: usize, stored: &Stored, family: &Family, sizes: Option<&Sizes>, ranks: u64) -> Self {
        let Some(sizes) = sizes.filter(|sizes| family.exceeds(stored.row, sizes, ranks)) else { return Self::Cut(dim) };
        match family.shares(stored.row, sizes, ranks) {
            Some(ways) if ways == ranks => Self::Cut(dim),
            Some(ways) => Self::Shared { dim, ways },
            // What is of the rows has as many as the weight.
            None => {
                match family.full_dims(stored.row, stored.captures, sizes).ok().and_then(|dims| dims.get(dim).copied())
                {
                    Some(length) => Self::Mixed { dim, length },
                    None => Self::Unknown,
                }
            }
        }
    }

    /// The layout over so many ranks. `None`: nothing says it.
    pub(super) fn layout(self, ranks: u64, ndim: usize) -> Option<TensorLayout> {
        let (split, ways) = match self {
            Self::Cut(dim) | Self::Mixed { dim, .. } => (Some(dim), ranks),
            Self::Shared { dim, ways } => (Some(dim), ways),
            Self::Whole => (None, ranks),
            Self::Unknown => return None,
        };
        if split.is_some_and(|dim| dim >= ndim) {
            return None;
        }
        let mut layout = TensorLayout::flat(ranks, ndim, split);
        if let Some(dim) = split.filter(|_| ways != ranks && ways > 0) {
            // The ranks with the same block are neighbours.
            layout.device_matrix = vec![ways, ranks / ways];
            layout.tensor_map[dim] = vec![1];
        }
        Some(layout)
    }
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
            Self::Rules(ranks) => Some((by_rules.layout(*ranks, ndim)?, None)),
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
