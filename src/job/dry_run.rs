//! What a planned job would do on this machine, without doing it.

use std::path::PathBuf;

use super::observer::{Observer, Silent};
use super::planned::Planned;
use super::planner::Conversion;
use super::{reading, settings, targets};
use crate::Error;
use crate::engine;
use crate::report::{PlanReport, plan_report};

/// A target that is there and whole but for its strategies, because a run was interrupted after it had published it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The target.
    pub target: PathBuf,
    /// Where its strategies go.
    pub strategies: PathBuf,
}

impl Planned {
    /// Whether only the strategies of the target are missing, so that a run writes nothing else.
    ///
    /// # Errors
    /// Where they may not be made.
    pub fn completion(&self) -> Result<Option<Completion>, Error> {
        let Some(strategies) = targets::missing_strategies(self) else { return Ok(None) };
        targets::keep_apart(self)?;
        Ok(Some(Completion { target: self.conversion.target.clone(), strategies: strategies.dir().to_owned() }))
    }

    /// What would be done, on this machine, and whether it can be.
    ///
    /// # Errors
    /// A target that may not be made; a source that was changed since.
    pub fn report(&self) -> Result<PlanReport, Error> {
        self.report_with(&Silent)
    }

    /// As [`Self::report`]; what a user should know goes to the observer.
    ///
    /// # Errors
    /// As [`Self::report`].
    pub fn report_with(&self, observer: &dyn Observer) -> Result<PlanReport, Error> {
        let Conversion { plan, target, choices, .. } = &self.conversion;
        let free = targets::check(self)?;
        let left = engine::leftovers(target);
        let mappings = self.opened.input().mappings();
        let chosen = settings::settle(&self.job.requested(), &mappings, Some((target, plan.totals().written)));
        let memory = settings::memory(plan, &chosen.config);
        let mut report = plan_report(plan, &target.display().to_string(), (free, &left), memory);
        report.settings = chosen.settings;
        report.choices.clone_from(choices);
        reading::check_unchanged(&mappings, observer)?;
        Ok(report)
    }
}
