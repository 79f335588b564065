//! A requested job as a value, and how it is done: the layer between the command line and the plan.
//!
//! ```text
//! Job ─ rules ─► source opened ─ one recipe for each function ─► Conversion ─► Planned ─ run ─► Outcome
//!                                        └ one planner for all                  └ one orchestrator, alone or of several
//! ```
//!
//! It is above `report`, which renders values: a run writes its manifest before the target has its name, and ends in a summary.
//! Nothing here prints: what a user should know goes to the [`Observer`].

mod alone;
#[cfg(feature = "calibrate")]
mod calibrate;
mod case;
mod checks;
mod choices;
mod crcs;
mod doctor;
mod dry_run;
mod families;
mod fields;
mod fusion_order;
mod gguf_to_hf;
mod head;
mod hf_config;
mod hosts;
mod inspect;
mod known_model;
mod left_out;
mod memory;
mod merge;
mod mount;
mod ms_to_pt;
mod observer;
mod ours;
mod patterns;
mod planned;
mod planner;
mod pt_to_ms;
mod quant_weight;
mod quantiser;
mod reading;
mod row_sizes;
mod rules;
mod run;
mod serialised;
mod settings;
mod spec;
mod stage;
mod statistics;
mod strategy;
mod strategy_name;
mod target;
mod targets;
mod together;
mod train_to_infer;
mod transfer;
mod unwritten;
mod verify;

pub use crate::cluster::{Environment, Identity, Role};
pub use crate::engine::{Setting, Ways};
pub use crate::report::{
    CheckpointListing, Choice, Diagnosis, FileReport, FindingListing, Overflow, ParamListing, PlanReport, Quantisation,
    RankListing, Remark, Remarks, StrategyListing, Summary, TensorListing,
};
pub use choices::{CkptRecords, Format, Function, Fusion, Lora, Names, Precision, Reader, Reflink, Writer, Writes};
pub use doctor::Doctor;
pub use dry_run::Completion;
pub use families::{FamilyListing, add_families, known_families};
pub use hosts::Division;
pub use inspect::{Inspect, Listing, inspect, inspect_strategy};
pub use memory::{Filled, InMemory};
pub use merge::{Joined, merge_manifests};
pub use mount::{Mount, Mounted};
pub use observer::{Observer, Silent};
pub use planned::Planned;
pub(crate) use rules::is_chunk;
pub use run::Outcome;
pub use spec::{Calibrate, Checks, Cluster, Edits, Job, Model, Quantise, Reading, Run, Source, Target};
pub use strategy::{convert_strategy, merge_strategy, model_strategy};
pub use verify::{Compare, Verdict, Verify, verify};
