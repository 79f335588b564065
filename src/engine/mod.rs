//! Runs a plan. Knows bytes, threads and budgets; no format, no model, no rank.
//!
//! ```text
//! plan ──► schedule: tasks in source order ──► queue ──► workers: fill or map ──► ring or pwrite ──► staged files
//! ```
//!
//! Destination first: every output file is cut into aligned ranges. A range that is one run of one source, unchanged and at
//! the same place in its block, is written straight from the mapped source; everything else is put together in a bounded
//! number of buffers. Nothing gets its final name before all of it is written, flushed and closed.

mod cancel;
mod cast;
mod compare;
mod config;
mod digest;
mod error;
mod fill;
mod observer;
mod pool;
mod quantise;
mod run;
mod schedule;
mod sink;
mod staged;
mod worker;

pub use cancel::CancelToken;
pub use compare::{Difference, compare};
pub use config::{Durability, EngineConfig, WriterKind};
pub use digest::Crc64;
pub use error::EngineError;
pub use observer::{Event, Noop, Observer};
pub use quantise::{Calculated, Distance, QuantError, calculate, distances};
pub use run::{RunSummary, TensorResult, run};
pub use staged::{Leftovers, Publish, Published, Staging};
