//! The strategy of what is written, in MindSpore's terms.

use super::target::{TargetOptions, TargetRank};
use super::{Arrangement, Catalog, PlanError};
use crate::layout::TensorLayout;
use crate::model::naming::fused;
use crate::models::ModelSpec;

/// The layout of every parameter of a rank-count target, as a strategy file states it. Empty for a target that is itself a
/// strategy: that one exists already.
pub fn strategies(catalog: &Catalog, ranks: &[TargetRank], options: &TargetOptions<'_>) -> Vec<(String, TensorLayout)> {
    let (Arrangement::Rules(count), Some(first)) = (options.arrangement, ranks.first()) else { return Vec::new() };
    let mut layouts = Vec::new();
    for entry in &first.entries {
        if !entry.is_placed() {
            continue;
        }
        // A vocabulary that the ranks do not divide is whole, whatever the option says.
        let full = catalog.get(&entry.name).map(|index| catalog.tensors()[index].shape.clone());
        let whole = options.vocabulary_whole || full.is_some_and(|full| full == entry.shape);
        let layout = match options.arrangement.layout(0, &entry.name, entry.shape.ndim(), whole) {
            Some((layout, _)) => layout,
            None => TensorLayout::flat(count, entry.shape.ndim(), None),
        };
        layouts.push((entry.name.to_string(), layout));
    }
    layouts
}

/// The layout of every parameter of a model over this many ranks, by the family's rules; fused if the model says so.
///
/// # Errors
/// Where the ranks do not divide the model.
pub fn rules_strategy(spec: &ModelSpec, ranks: u64) -> Result<Vec<(String, TensorLayout)>, PlanError> {
    spec.check_ranks(ranks)?;
    let whole = spec.vocabulary_whole || !spec.vocab.is_multiple_of(ranks);
    let mut layouts: Vec<(String, TensorLayout)> = Vec::new();
    for name in spec.required() {
        let info = fused(&name).filter(|_| spec.fused == Some(true));
        let name = match info {
            Some(info) if info.parts[0] != name => continue,
            Some(info) => info.name,
            None => name,
        };
        let ndim = spec.stored_shape(&name).map_or(0, |shape| shape.ndim());
        if let Some((layout, _)) = Arrangement::Rules(ranks).layout(0, &name, ndim, whole) {
            layouts.push((name, layout));
        }
    }
    Ok(layouts)
}

impl super::TargetEntry {
    /// Whether the target's layout places it (rather than its being copied to every rank).
    fn is_placed(&self) -> bool {
        matches!(self.content, super::target::Content::Pieces(_)) && !crate::model::naming::is_not_loaded(&self.name)
    }
}
