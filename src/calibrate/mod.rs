//! Runs a model on the processor, to see between which numbers its activations, keys and values lie.
//!
//! Layer by layer: all samples go through one decoder layer, what goes into its linear layers is observed, and what comes out
//! is what the next layer sees. So memory holds one layer, and the samples' activations. Everything is computed in single
//! precision. Weights come through a plan of the whole, unfused model, from whatever ranks the source has.
//!
//! Parsing a data set does no I/O. Nothing here knows the command line.

mod arithmetic;
mod clean;
mod error;
mod gather;
mod layer;
mod ranges;
mod samples;
mod tokens;
mod weights;

pub use arithmetic::Arithmetic;
pub use error::{CalibrateError, DataError};
pub use gather::{gather, memory};
pub use samples::{DataSet, Texts};
pub use tokens::{Special, Words};
pub use weights::Weights;
