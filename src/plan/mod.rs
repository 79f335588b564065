//! From the checkpoints' headers to a plan: which bytes of which source go where, proved before anything is written.
//!
//! ```text
//! source files ──► catalog: logical tensors, each with its shards ──► target: what each rank file shall hold
//!                                                       └──► routes: holder ∩ target ──► plan, checked
//! ```
//!
//! Invariant: a [`Plan`] is a value. It can be printed, compared and run again; making one reads no tensor and writes nothing, and
//! running one decides nothing. What headers leave open is asked of an [`Evidence`].

mod agreement;
mod arrangement;
mod build;
mod calculation;
mod canonical;
mod catalog;
mod check;
mod compared;
mod copied_rank;
mod derive;
mod diagnosis;
mod error;
mod evidence;
mod files;
mod heads;
mod ids;
mod infer;
mod known_names;
mod made;
#[cfg(test)]
mod naive;
mod op;
mod options;
mod route;
mod router;
mod shards;
mod source;
mod statistics;
mod strategy_set;
mod target;
mod tensor_id;
mod text;
mod tolerance;
mod training;
mod value;
mod whole_numbers;
mod written;

pub use arrangement::Arrangement;
pub use build::{build, build_quantised};
pub use calculation::{CacheScales, Calculation, InputScales, Inverse, Pass, Range, Smooth};
pub use canonical::PlanHasher;
pub use catalog::{Catalog, CatalogOptions, ForeignNotes, ForeignOptions, LogicalTensor, QuantisedAs};
pub use check::{prove, prove_covered};
pub use compared::{Compared, compare};
pub use derive::quantise::{ComputedEvidence, QuantOptions, QuantisedModel, computed_file};
pub use diagnosis::{Finding, diagnose_entries, diagnose_strategy, diagnose_strategy_files};
pub use error::{PlanError, list};
pub use evidence::{Evidence, InFile, Unread, fingerprint};
pub use heads::{Heads, heads_examples};
pub use ids::{OperandId, OpsId, SourceId, StoredId};
pub use infer::{Inferred, infer};
pub use known_names::are_of_a_family;
pub use op::{Arithmetic, LowRank, Op, Quantise, Unit, Width};
pub use options::{PlanOptions, Precision, WholeModel, WholeReader};
pub use route::{OutputFile, OutputTensor, Route, SourceTensor};
pub use source::{SourceFile, rank_count};
pub use statistics::{Observed, STATISTICS_VERSION, Statistics};
pub use strategy_set::{MAX_RANKS, StrategySet};
pub use target::{TargetEntry, TargetOptions, TargetRank, copied, foreign_target, targets};
pub use tolerance::{Compare, Tolerance, tolerance};
pub use training::{Fate, Sorted, Sorter, check_ranks, counters, sort_entries};
pub use value::{Plan, PlanSource, PlanTotals};
pub use whole_numbers::{WholeNumbers, check_whole_numbers};
pub use written::{rules_strategy, strategies};
