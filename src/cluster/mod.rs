//! One conversion on several machines: which machine takes which part, and when all of it is done.
//!
//! ```text
//! flags, rank table, launcher ─ identity ─► host i of n ─ share ─► its files ─ engine ─► node-i.done ─ completion ─► published
//!                                             the same plan everywhere ┘                      by whoever finds the set whole
//! ```
//!
//! There is no engine of our own and nothing is sent: every process makes the same plan, takes its part by a fixed rule and
//! notifies the others through small files beside the target. Knows plans, files and host numbers; no formats, no models.
//!
//! What is computed before anything is written (scales of quantised rows) is computed by every process, of the whole model, and
//! must come out the same for all. A process that fails before it has a plan leaves a notice beside the target.
//!
//! Invariants: nothing is published before every byte of every file is proved to be written; exactly one process publishes;
//! no decision compares the clocks of two machines.

mod completion;
mod early;
mod error;
mod fingerprint;
mod identity;
mod joining;
mod kept;
mod liveness;
mod merge;
mod publishing;
mod rank_table;
mod records;
mod run_part;
mod rundir;
mod share;

pub use completion::{Finished, Session};
pub use early::EarlyFailures;
pub use error::ClusterError;
pub use fingerprint::{plan_id, run_id};
pub use identity::{Asked, Environment, Identity, Role, identify, rank_table_in};
pub use kept::{FileSums, Measured, holds, sums_of};
pub use merge::{PartManifest, merge};
pub use publishing::Publication;
pub use rank_table::{MAX_TABLE_BYTES, RankTable};
pub use run_part::Wanted;
pub use share::{Unit, is_whole, part, shares, shares_by_cards};
