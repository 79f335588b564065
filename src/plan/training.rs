//! A training checkpoint: which of its entries are the model's, and whether something stands in for ranks that are missing.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{PlanError, SourceFile, StrategySet};
use crate::layout::TensorLayout;
use crate::models::{is_lora, is_model_name, training_rule};

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is a parameter of the model, by its name or because the user says so.
    Model,
    /// It is left out because the user says so.
    Dropped,
    /// It is left out as training state, by this beginning of its name.
    Training(&'static str),
    /// It belongs to an adapter.
    Lora,
    /// Nothing is known of it.
    Unknown,
}

/// The user's own rules, which count before the program's.
pub struct Sorter<'a> {
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
    /// What becomes of an entry of this name. Training state is told first: its names end with the model's.
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
    /// How many are left out because the user says so.
    pub dropped: usize,
    /// Adapters.
    pub lora: BTreeSet<String>,
    /// Names of which nothing is known.
    pub unknown: BTreeSet<String>,
}

/// Sorts the entries of a training checkpoint by their names.
pub fn sort_entries(files: &[SourceFile<'_>], sorter: &Sorter<'_>) -> Sorted {
    let mut sorted = Sorted::default();
    let mut seen = HashSet::new();
    for entry in files.iter().flat_map(|f| f.entries).filter(|entry| seen.insert(&entry.name)) {
        match sorter.fate(&entry.name) {
            Fate::Model => {}
            Fate::Dropped => sorted.dropped += 1,
            Fate::Training(rule) => *sorted.training.entry(rule).or_default() += 1,
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

/// Every rank that the strategy knows is there, or others hold the same of every parameter that is `wanted`.
///
/// # Errors
/// The first stage without any rank; else all ranks and parameters that nothing stands in for.
pub fn check_ranks(
    files: &[SourceFile<'_>],
    set: &StrategySet,
    wanted: impl Fn(&str) -> bool,
) -> Result<(), PlanError> {
    let present: BTreeSet<u64> = files.iter().map(|f| u64::from(f.rank)).collect();
    let (mut ranks, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (stage, layouts) in (0..).zip(set.stages()) {
        let first: u64 = stage * set.devices();
        let there: Vec<u64> = present.range(first..first + set.devices()).map(|rank| rank - first).collect();
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
                names.insert(name.clone());
                ranks.extend(missing.iter().map(|device| first + device));
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
