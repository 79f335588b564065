//! Streaming converter of LLM checkpoints for MindSpore/Ascend inference.
//!
//! A conversion is a value. A [`Job`] says what is requested; it is planned whole before a byte is moved, and moved without ever
//! holding a tensor:
//!
//! ```no_run
//! use ckpt_convert::{CancelToken, Job, Outcome, Precision, Silent};
//!
//! # fn main() -> Result<(), ckpt_convert::Error> {
//! let planned = Job::transfer("ckpt", "out").precision(Precision::Fp16).ranks(8).plan()?;
//! println!("{}", planned.report()?.text());
//! if let Outcome::Published(summary) = planned.run(&Silent, &CancelToken::default())? {
//!     println!("{}", summary.text());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`inspect`] lists what is there, [`verify`] compares two checkpoints; [`job`] has all that a job may say, and the smaller tools.
//! The files of `examples/` use nothing else, and neither does the command line ([`cli`]). Nothing is printed: what a user should
//! know goes to the [`Observer`].
//!
//! **Sources are mapped.** No process may modify or truncate the files that a job names while it, its plan or a comparison is there:
//! other bytes than the plan saw would be read. Where that is noticed it is an error, and nothing is published. So it is where a
//! source cannot be read: a bad disk, a server that fails, a file that was truncated. The kernel announces such reads of a mapping by
//! SIGBUS. While a job, a plan or a comparison is there, and no longer, the process therefore has a handler of that signal, which
//! hands on whatever is not of a source to the handler that was there before. Where another handler is set meanwhile, it must do the
//! same.
//!
//! # Inside
//!
//! ```text
//! Job ─ files ─ input ─► entries ─ plan::catalog ─► logical tensors ─ plan::router ──► plan ─ engine ─► staged files ─► published
//!                │ formats parse         │ layout, model place       │ proved        │ mapped or filled, written
//! ```
//!
//! | layer | module | what it is |
//! |---|---|---|
//! | 0 | `tensor`, `source` | the vocabulary: dtypes, shapes, names, byte ranges |
//! | 1 | `layout`, `sys` | pure algebra of regions; the operating system, the only unsafe |
//! | 2 | `storage` | where sources come from: blobs, and stores that open them |
//! | 3 | `formats`, `model` | bytes to metadata and back; what the names mean, as tables of model families |
//! | 4 | `plan` | which bytes go where, as a value that is proved |
//! | 5 | `input`, `engine` | files found, mapped and parsed; a plan run |
//! | 6 | `cluster` | one plan carried out by several machines |
//! | 6 | `calibrate` | a model run on the processor, to see its activations (feature `calibrate`) |
//! | 7 | `report` | what people and machines read |
//! | 8 | [`job`] | a requested job, and how it is done |
//! | 9 | [`cli`] | the program |
//!
//! **Invariants.** A module uses modules of lower layers only (a test enforces it). Parsers do no I/O and trust no length.
//! The plan decides everything and writes nothing; the engine knows no format, model or rank. Every output byte is written
//! exactly once, proved before the first. Nothing has its final name before all of it is complete.

#[cfg(feature = "calibrate")]
mod calibrate;
pub mod cli;
mod cluster;
mod engine;
mod error;
mod formats;
mod input;
pub mod internals;
pub mod job;
mod layout;
mod model;
mod plan;
mod report;
mod source;
mod storage;
mod sys;
mod tensor;

pub use engine::{CancelToken, Event};
pub use error::{Error, ErrorKind};
pub use job::{
    Filled, Function, InMemory, Inspect, Job, Listing, Mount, Mounted, Observer, Outcome, Planned, Precision, Silent,
    Verdict, Verify, add_families, inspect, verify,
};
