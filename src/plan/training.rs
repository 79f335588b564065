//! A training checkpoint: which of its entries are the model's, and whether replicas replace ranks that are missing.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{PlanError, SourceFile, StrategySet};
use crate::layout::{Region, TensorLayout};
use crate::model::naming::{OTHER_COUNTERS, is_counter, is_lora, is_model_name, training_rule};
use crate::tensor::Dtype;

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is a parameter of the model, by its name or because the user says so.
    Model,
    /// It is left out because the user says so.
    Dropped,
    /// It is left out as training state, by this part of its name.
    Training(&'static str),
    /// It belongs to an adapter.
    Lora,
    /// Nothing is known of it.
    Unknown,
}

/// The user's own rules, which count before the program's, and what is known of the checkpoint.
pub struct Sorter<'a> {
    /// Names of the entries that can only be counters, by [`counters`].
    pub counters: &'a BTreeSet<String>,
    /// Names to keep.
    pub keep: &'a dyn Fn(&str) -> bool,
    /// Names to leave out, whatever else is said of them.
    pub drop: &'a dyn Fn(&str) -> bool,
}

impl std::fmt::Debug for Sorter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sorter").finish_non_exhaustive()
    }
}

impl Sorter<'_> {
    /// What becomes of an entry of this name. Training state is recognised first: its names end with the model's.
    pub fn fate(&self, name: &str) -> Fate {
        if (self.drop)(name) {
            Fate::Dropped
        } else if (self.keep)(name) {
            Fate::Model
        } else if let Some(rule) = training_rule(name) {
            Fate::Training(rule)
        } else if is_lora(name) {
            Fate::Lora
        } else if is_model_name(name) {
            Fate::Model
        } else if self.counters.contains(name) {
            Fate::Training(OTHER_COUNTERS)
        } else {
            Fate::Unknown
        }
    }
}

/// The entries of a checkpoint that are not simply the model's, each name once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sorted {
    /// How many names each rule for training state takes.
    pub training: BTreeMap<&'static str, usize>,
    /// Names that no rule knows, taken for counters.
    pub counters: Vec<String>,
    /// How many are left out because the user says so.
    pub dropped: usize,
    /// Adapters.
    pub lora: BTreeSet<String>,
    /// Names of which nothing is known.
    pub unknown: BTreeSet<String>,
}

/// The names of single numbers and texts that no layer owns, in all files that hold them.
pub fn counters(files: &[SourceFile<'_>]) -> BTreeSet<String> {
    let (mut single, mut arrays) = (BTreeSet::new(), HashSet::new());
    for entry in files.iter().flat_map(|f| f.entries).filter(|entry| is_counter(&entry.name)) {
        if entry.dtype == Dtype::Str || entry.shape.elements() == 1 {
            single.insert(entry.name.to_string());
        } else {
            arrays.insert(entry.name.as_str());
        }
    }
    single.retain(|name| !arrays.contains(name.as_str()));
    single
}

/// Sorts the entries of a training checkpoint by their names.
pub fn sort_entries(files: &[SourceFile<'_>], sorter: &Sorter<'_>) -> Sorted {
    let mut sorted = Sorted::default();
    let mut seen = HashSet::new();
    for entry in files.iter().flat_map(|f| f.entries).filter(|entry| seen.insert(&entry.name)) {
        match sorter.fate(&entry.name) {
            Fate::Model => {}
            Fate::Dropped => sorted.dropped += 1,
            Fate::Training(rule) => {
                *sorted.training.entry(rule).or_default() += 1;
                if rule == OTHER_COUNTERS {
                    sorted.counters.push(entry.name.to_string());
                }
            }
            Fate::Lora => {
                sorted.lora.insert(entry.name.to_string());
            }
            Fate::Unknown => {
                sorted.unknown.insert(entry.name.to_string());
            }
        }
    }
    sorted
}

/// Every rank that the strategy knows is there, or others hold the same of every parameter that is `wanted`: replicas, or the
/// ranks of another stage that has the same parameter (a tied embedding).
///
/// # Errors
/// The first stage without any rank; else all ranks and parameters that nothing replaces.
pub fn check_ranks(
    files: &[SourceFile<'_>],
    set: &StrategySet,
    wanted: impl Fn(&str) -> bool,
) -> Result<(), PlanError> {
    let present: BTreeSet<u64> = files.iter().map(|f| u64::from(f.rank)).collect();
    let devices_of = |stage: u64| -> Vec<u64> {
        let first = stage * set.devices();
        present.range(first..first + set.devices()).map(|rank| rank - first).collect()
    };
    let (mut ranks, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (stage, layouts) in (0..).zip(set.stages()) {
        let (first, there) = (stage * set.devices(), devices_of(stage));
        if there.is_empty() {
            return Err(PlanError::MissingStage { stage, first, last: first + set.devices() - 1 });
        }
        // Few layouts serve all parameters of a stage.
        let mut by_layout: Vec<(&TensorLayout, Vec<u64>)> = Vec::new();
        for (name, param) in layouts.iter().filter(|(name, _)| wanted(name)) {
            let known = by_layout.iter().position(|(layout, _)| **layout == param.layout);
            let known = known.unwrap_or_else(|| {
                by_layout.push((&param.layout, uncovered(&param.layout, &there)));
                by_layout.len() - 1
            });
            let missing = &by_layout[known].1;
            if !missing.is_empty() {
                let others: Vec<(&TensorLayout, Vec<u64>)> = (0..)
                    .zip(set.stages())
                    .filter(|(other, _)| *other != stage)
                    .filter_map(|(other, layouts)| Some((&layouts.get(name)?.layout, devices_of(other))))
                    .collect();
                let elsewhere =
                    |device: &&u64| others.iter().any(|(layout, there)| holds(layout, there, &param.layout, **device));
                let lost: Vec<u64> = missing.iter().filter(|device| !elsewhere(device)).map(|d| first + d).collect();
                if !lost.is_empty() {
                    names.insert(name.clone());
                    ranks.extend(lost);
                }
            }
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    Err(PlanError::NoReplica { ranks: ranks.into_iter().collect(), names: names.into_iter().collect() })
}

/// The devices that are not there and whose block no device holds that is.
fn uncovered(layout: &TensorLayout, there: &[u64]) -> Vec<u64> {
    let held: HashSet<_> = there.iter().map(|&device| layout.block_of(device)).collect();
    (0..layout.devices()).filter(|&device| !held.contains(&layout.block_of(device))).collect()
}

/// Whether the devices that are there of another stage's `layout` hold all that `device` holds by its own. Both are of one
/// parameter, whose shape is any that both divide.
fn holds(layout: &TensorLayout, there: &[u64], own: &TensorLayout, device: u64) -> bool {
    let parts = |of: &TensorLayout, axis: usize| {
        let shards = if axis == 0 { of.shard_parts().unwrap_or(1) } else { 1 };
        of.parts(axis) * shards
    };
    let axes = own.tensor_map.len();
    let dims: Vec<u64> = (0..axes).map(|axis| parts(own, axis) * parts(layout, axis)).collect();
    let Ok(wanted) = own.region(&dims, device) else { return false };
    let held: HashSet<Region> =
        there.iter().filter_map(|&d| layout.region(&dims, d).ok()?.intersect(&wanted)).collect();
    held.iter().map(Region::volume).sum::<u64>() == wanted.volume()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::OptimizerShard;

    /// Two devices a stage: by rows in the one, by columns or whole in the other.
    #[test]
    fn another_stage_holds_what_its_ranks_hold_together() {
        let cut = |axis| TensorLayout::flat(2, 2, axis);
        let (rows, columns, whole) = (cut(Some(0)), cut(Some(1)), cut(None));
        let shards = TensorLayout { optimizer_shard: OptimizerShard::All, ..whole.clone() };
        assert!(holds(&columns, &[0, 1], &rows, 0));
        assert!(!holds(&columns, &[1], &rows, 0));
        assert!(holds(&whole, &[1], &rows, 0) && holds(&whole, &[0, 1], &columns, 1));
        assert!(holds(&rows, &[1], &rows, 1) && !holds(&rows, &[1], &rows, 0));
        assert!(holds(&shards, &[0], &rows, 0) && !holds(&shards, &[0], &rows, 1) && !holds(&shards, &[], &rows, 0));
        assert!(!holds(&rows, &[0], &whole, 0));
    }
}
