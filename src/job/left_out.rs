//! Which entries of a source are no part of the target, and why: as requested, or because they are training state.

use std::collections::{BTreeMap, BTreeSet};

use super::case::Case;
use super::choices::Lora;
use super::patterns::Patterns;
use crate::Error;
use crate::input::StrategySource;
use crate::plan::{self, Catalog, Fate, PlanError, Sorted, Sorter, SourceFile};

/// What else than the parameters of the model a source may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    /// Nothing.
    Nothing,
    /// Counters and the optimizer's state, as beside a whole model that was saved with them.
    State,
    /// All that a training run saves.
    Run,
}

/// What is left out.
#[derive(Debug)]
pub(super) struct LeftOut {
    beside: Beside,
    ignore: Patterns,
    drop: Patterns,
    keep: Patterns,
    lora_kept: bool,
    counters: BTreeSet<String>,
    sorted: Sorted,
}

impl LeftOut {
    /// What is requested, and nothing else.
    pub(super) fn as_asked(case: &Case<'_>) -> Result<Self, Error> {
        let edits = &case.job.edits;
        Ok(Self {
            beside: Beside::Nothing,
            ignore: Patterns::of("--ignore", &edits.ignore)?,
            drop: Patterns::of("--drop", &edits.drop)?,
            keep: Patterns::of("--keep", &edits.keep)?,
            lora_kept: matches!(edits.lora, Some(Lora::Keep | Lora::Merge)),
            counters: BTreeSet::new(),
            sorted: Sorted::default(),
        })
    }

    /// Beside a whole model there may be counters and the optimizer's state: transformers has no place for them.
    pub(super) fn of_state(case: &Case<'_>, files: &[SourceFile<'_>]) -> Result<Self, Error> {
        let left_out = Self { beside: Beside::State, counters: plan::counters(files), ..Self::as_asked(case)? };
        Ok(left_out.sort(case, files))
    }

    /// Of a training run. Entries that nothing is known of are refused, and adapters for which no option says what to do.
    /// Every rank must be there, or others hold the same.
    pub(super) fn of_run(
        case: &Case<'_>,
        files: &[SourceFile<'_>],
        strategy: Option<&StrategySource>,
    ) -> Result<Self, Error> {
        let left_out = Self { beside: Beside::Run, counters: plan::counters(files), ..Self::as_asked(case)? };
        let left_out = left_out.sort(case, files);
        let Sorted { unknown, lora, .. } = &left_out.sorted;
        if !unknown.is_empty() {
            return Err(PlanError::UnknownEntries(unknown.iter().cloned().collect()).into());
        }
        if !lora.is_empty() && case.job.edits.lora.is_none() {
            return Err(PlanError::Adapters(lora.iter().cloned().collect()).into());
        }
        if let Some(strategy) = strategy {
            plan::check_ranks(files, &strategy.set, |name| !left_out.leaves_out(name))?;
        }
        Ok(left_out)
    }

    /// Sorts the entries, and says which were taken for counters though no rule names them.
    fn sort(mut self, case: &Case<'_>, files: &[SourceFile<'_>]) -> Self {
        self.sorted = self.with_sorter(|sorter| plan::sort_entries(files, sorter));
        let counters = &self.sorted.counters;
        if !counters.is_empty() {
            case.note(&format!("single values that no layer owns were left out as counters: {}", plan::list(counters)));
        }
        self
    }

    fn with_sorter<T>(&self, ask: impl FnOnce(&Sorter<'_>) -> T) -> T {
        let drop = |name: &str| self.is_asked_out(name);
        ask(&Sorter { counters: &self.counters, keep: &|name| self.keep.matches(name), drop: &drop })
    }

    /// Whether the user says that it is left out: the target's strategy need not have it either.
    pub(super) fn is_asked_out(&self, name: &str) -> bool {
        self.is_ignored(name) || self.drop.matches(name)
    }

    /// Whether it is left out of whatever is read or carried along.
    pub(super) fn is_ignored(&self, name: &str) -> bool {
        self.ignore.matches(name)
    }

    /// Whether an entry does not go to the target, neither by itself nor in another.
    pub(super) fn leaves_out(&self, name: &str) -> bool {
        let fate = || self.with_sorter(|sorter| sorter.fate(name));
        match self.beside {
            Beside::Nothing => self.is_asked_out(name),
            Beside::State => matches!(fate(), Fate::Dropped | Fate::Training(_)),
            Beside::Run => match fate() {
                Fate::Model => false,
                Fate::Lora => !self.lora_kept,
                Fate::Dropped | Fate::Training(_) | Fate::Unknown => true,
            },
        }
    }

    /// Whether the source holds adapters.
    pub(super) fn has_adapters(&self) -> bool {
        !self.sorted.lora.is_empty()
    }

    /// How many entries were left out that are no training state.
    pub(super) fn ignored(&self, catalog: &Catalog) -> usize {
        let state: usize = self.sorted.training.values().sum();
        match self.beside {
            Beside::Nothing => catalog.ignored.len(),
            Beside::State => catalog.ignored.len() - state,
            Beside::Run => self.sorted.dropped + if self.lora_kept { 0 } else { self.sorted.lora.len() },
        }
    }

    /// Entries of training state that were left out: the beginning of the name, and how many.
    pub(super) fn training_state(&self) -> &BTreeMap<&'static str, usize> {
        &self.sorted.training
    }
}
