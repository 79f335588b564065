//! What people and machines read: progress, plans, summaries, manifests, listings. Renders values, decides nothing.

mod choice;
mod findings;
mod listing;
mod manifest;
mod plan_text;
mod progress;
mod remarks;
mod screen;
mod summary;
mod units;

pub use choice::Choice;
pub use findings::{Diagnosis, FindingListing};
pub use listing::{CheckpointListing, ParamListing, RankListing, StrategyListing, TensorListing};
pub use manifest::{PartOf, Provenance, manifest, write_merged};
pub use plan_text::{FileReport, PlanReport, plan_report};
pub use progress::{Progress, ProgressMode};
pub use remarks::{Remark, Remarks};
pub use screen::say;
pub use summary::{Overflow, Quantisation, Summary};
pub use units::{bytes, duration, plain};

/// A list of names, as errors print it.
pub use crate::plan::list;
