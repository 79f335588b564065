//! Streaming converter of LLM checkpoints for MindSpore/Ascend inference.
//!
//! A conversion is planned whole before a byte is moved, and moved without ever holding a tensor:
//!
//! ```text
//! files ─ input ─► entries ─ plan::catalog ─► logical tensors ─ plan::builder ─► plan ─ engine ─► staged files ─► published
//!           │ formats parse         │ layout, models place       │ proved        │ mapped or filled, written
//! ```
//!
//! | layer | module | what it is |
//! |---|---|---|
//! | 0 | [`tensor`], [`source`] | the vocabulary: dtypes, shapes, names, byte ranges |
//! | 1 | [`layout`], [`sys`] | pure algebra of regions; the operating system, the only unsafe |
//! | 2 | [`formats`], [`model`], [`models`] | bytes to metadata and back; what the names mean ([`model`] is to replace [`models`]) |
//! | 3 | [`plan`] | which bytes go where, as a value that is proved |
//! | 4 | [`input`], [`engine`] | files found, mapped and parsed; a plan run |
//! | 5 | [`cluster`] | one plan carried out by several machines |
//! | 5 | [`calibrate`] | a model run on the processor, to see its activations (feature `calibrate`) |
//! | 6 | [`report`] | what people and machines read |
//! | 7 | [`job`] | what is asked for, and how it is done |
//! | 8 | [`cli`] | the program |
//!
//! **Invariants.** A module uses modules of lower layers only (a test enforces it). Parsers do no I/O and trust no length.
//! The plan decides everything and writes nothing; the engine knows no format, model or rank. Every output byte is written
//! exactly once, proved before the first. Nothing has its final name before all of it is complete.

#[cfg(feature = "calibrate")]
pub mod calibrate;
pub mod cli;
pub mod cluster;
pub mod engine;
mod error;
pub mod formats;
pub mod input;
pub mod job;
pub mod layout;
pub mod model;
pub mod models;
pub mod plan;
pub mod report;
pub mod source;
pub mod sys;
pub mod tensor;

pub use engine::{CancelToken, Event};
pub use error::{Error, ErrorKind};
