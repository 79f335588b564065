//! Where the statistics of activations come from that no file has: the model is run, or placeholders are used.

use std::path::Path;

use super::planner::Facts;
use crate::Error;
#[cfg(feature = "calibrate")]
use crate::calibrate::CalibrateError;
use crate::engine::CancelToken;
use crate::plan::Statistics;

/// How statistics are gathered.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "calibrate"), expect(dead_code, reason = "nothing is gathered without the feature"))]
pub(super) enum Gathering<'a> {
    /// Not at all: placeholder numbers are used, so that a plan has its sizes.
    Placeholder,
    /// The model is run.
    Run {
        /// Where what is seen is kept.
        keep: &'a Path,
        /// What stops it.
        cancel: &'a CancelToken,
    },
}

impl Gathering<'_> {
    /// The statistics of a source's model, which must be known with its heads.
    #[cfg(feature = "calibrate")]
    pub(super) fn statistics(self, facts: &Facts<'_>) -> Result<Statistics, Error> {
        let unknown = || {
            CalibrateError::Model(
                "its heads, which no file states: name it with -y, or give --heads and --kv-heads".to_owned(),
            )
        };
        let spec = facts.spec.as_ref().ok_or_else(unknown)?;
        match self {
            Self::Placeholder => Ok(Statistics::placeholder(spec)),
            Self::Run { keep, cancel } => super::calibrate::run(facts, spec, keep, cancel),
        }
    }

    #[cfg(not(feature = "calibrate"))]
    pub(super) fn statistics(self, _: &Facts<'_>) -> Result<Statistics, Error> {
        Err(Error::NoFeature { what: "calibration with -d and -dp", feature: "calibrate" })
    }
}
