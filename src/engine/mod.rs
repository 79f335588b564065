//! Runs a plan. Knows bytes, threads and budgets; no format, no model, no rank.
//!
//! ```text
//! plan ──► schedule: tasks in source order ──► pool: queue ──► workers: chunks ──► a sink: files, comparison, memory, ...
//!                                         └──► reader: windows ──┘
//! ```
//!
//! Destination first: every output file is cut into aligned ranges. A range that is one run of one source, unchanged and at
//! the same place in its block, is written straight from the mapped source; everything else is put together in a bounded
//! number of buffers, from the mapping or, where that is requested and the source is not in the page cache, from windows that
//! one thread reads ahead past it. Nothing gets its final name before all of it is written, flushed and closed.

mod buffers;
mod cancel;
mod cast;
mod choose;
mod config;
mod crc;
mod digest;
mod error;
mod feed;
mod fill;
mod io;
pub mod kernels;
mod late;
mod leftovers;
mod observer;
mod ops;
mod part;
mod pool;
mod quantise;
mod reader;
mod results;
mod run;
mod schedule;
mod share;
mod sink;
mod sinks;
mod staged;
mod sums;
mod values;
mod view;
mod ways;
mod windows;
mod worker;

pub use cancel::CancelToken;
pub use choose::{Chosen, Facts, Reflink, Requested, Setting, Writes, choose};
pub use config::{Durability, EngineConfig, WriterKind};
pub use crc::{CrcOf, crc32s};
pub use digest::Crc64;
pub use error::EngineError;
pub use leftovers::{Leftovers, clear_leftovers, leftovers};
pub use observer::{Event, Noop, Observer};
pub use part::{Part, PartFile};
pub use quantise::{Calculated, Distance, QuantError, calculate, distances};
pub use results::TensorResult;
pub use run::{RunSummary, run, run_part};
pub use sinks::compare::{Difference, compare};
pub use sinks::memory::{Memory, into_memory};
pub use sinks::reader::OutputReader;
pub use staged::{Publish, Published, Ready, Staging, sync_tree};
pub use sums::{SumOf, differing_sums};
pub use values::Values;
pub use ways::Ways;
