//! The strategy of what is written, in MindSpore's terms.

use super::arrangement::ByRules;
use super::target::{TargetOptions, TargetRank};
use super::{Arrangement, PlanError};
use crate::layout::TensorLayout;
use crate::model::naming::is_not_loaded;
use crate::model::{Captures, Dialect, FusionLayout, Model, Role, Stored};

/// The layout of every parameter of a rank-count target that has one, as a strategy file states it. Empty for a target that is itself
/// a strategy: that one exists already.
pub fn strategies(ranks: &[TargetRank], options: &TargetOptions<'_>) -> Vec<(String, TensorLayout)> {
    let (Arrangement::Rules(_), Some(first)) = (options.arrangement, ranks.first()) else { return Vec::new() };
    let placed = first.entries.iter().filter(|entry| entry.is_placed());
    placed.filter_map(|entry| Some((entry.name.to_string(), entry.layout.clone()?))).collect()
}

/// The layout of every parameter of a model over this many ranks, by the family's rules; fused if the model says so.
///
/// # Errors
/// Where the ranks do not divide the model.
pub fn rules_strategy(model: &Model, ranks: u64) -> Result<Vec<(String, TensorLayout)>, PlanError> {
    model.check_ranks(ranks)?;
    let family = model.family();
    let dialect = Dialect::mindspore(family, FusionLayout::default().name());
    let whole = model.vocabulary_whole || !model.vocab().is_multiple_of(ranks);
    let mut layouts: Vec<(String, TensorLayout)> = Vec::new();
    for id in model.members() {
        let captures = Captures { layer: id.layer, expert: None };
        let Some(row) = dialect.row_of(id.param) else { continue };
        let stored = Stored { row, captures, companion: None };
        let stored = match dialect.join(&stored).filter(|_| model.fused == Some(true)) {
            Some(join) => join.whole,
            None => stored,
        };
        for stored in dialect.by_expert(&stored, Some(model.sizes())) {
            let Some(name) = dialect.name(&stored).filter(|name| layouts.iter().all(|(known, _)| known != name)) else {
                continue;
            };
            let dims = family.full_dims(stored.row, stored.captures, model.sizes());
            let dims = dims.map_err(|source| PlanError::Model { name: name.clone(), source })?;
            let role = family.params().get(usize::from(id.param)).map(|param| param.role);
            let kept = whole && matches!(role, Some(Role::Embedding | Role::Head));
            let by_rules = match family.cut_dim(&stored).filter(|_| !kept && ranks > 1) {
                Some(dim) => ByRules::cut(dim, &stored, family, Some(model.sizes()), ranks),
                None => ByRules::Whole,
            };
            // No layout says what ranks hold that hold more of one part than of another.
            let layout = by_rules.layout(ranks, dims.len()).filter(|_| !matches!(by_rules, ByRules::Mixed { .. }));
            layouts.extend(layout.map(|layout| (name, layout)));
        }
    }
    Ok(layouts)
}

impl super::TargetEntry {
    /// Whether the target's layout places it (rather than its being copied to every rank).
    fn is_placed(&self) -> bool {
        matches!(self.content, super::target::Content::Pieces(_)) && !is_not_loaded(&self.name)
    }
}
