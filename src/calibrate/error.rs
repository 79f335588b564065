//! What stops a calibration.

use crate::plan::PlanError;
use crate::sys::ThreadError;

/// A data set that does not parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct DataError {
    /// The line, from 1 on.
    pub line: u64,
    /// What is wrong there.
    pub what: String,
}

/// What stops a calibration. Nothing was written then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrateError {
    /// No such data set.
    #[error("-d {0}: boolq, squad1.1 or wikitext2")]
    UnknownDataSet(String),
    /// A data set that does not parse.
    #[error("{}: {source}", .path.display())]
    Data {
        /// The file.
        path: std::path::PathBuf,
        /// Where, and why.
        source: DataError,
    },
    /// A data set that gives no sample.
    #[error("{}: {why}", .path.display())]
    NoSample {
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        why: String,
    },
    /// No tokenizer, or none that can be used.
    #[error("{0}")]
    Tokenizer(String),
    /// The model cannot be run.
    #[error("the model cannot be run: {0}")]
    Model(String),
    /// A token that the embedding has no row for.
    #[error("the tokenizer makes token {token}, the embedding has {rows} rows: the tokenizer is another model's")]
    Vocabulary {
        /// The token.
        token: u32,
        /// Rows of the embedding.
        rows: u64,
    },
    /// Numbers that became infinite or none, by what was observed.
    #[error("`{0}` is not finite everywhere when the model is run: the weights are damaged, or the model is another")]
    NotFinite(String),
    /// More memory than is allowed or there.
    #[error("calibrating needs about {needed} bytes of memory, {allowed} may be used")]
    Memory {
        /// Bytes needed.
        needed: u64,
        /// Bytes there.
        allowed: u64,
    },
    /// The arithmetic failed: a fault of this program.
    #[error("the model's arithmetic failed: {0}")]
    Arithmetic(Box<candle_core::Error>),
    /// No plan of the whole model can be made, or the statistics do not fit it.
    #[error(transparent)]
    Plan(#[from] Box<PlanError>),
    /// A thread could not be started.
    #[error(transparent)]
    Thread(#[from] ThreadError),
    /// The user asked to stop.
    #[error("interrupted")]
    Cancelled,
}

impl From<candle_core::Error> for CalibrateError {
    fn from(error: candle_core::Error) -> Self {
        Self::Arithmetic(Box::new(error))
    }
}

impl From<PlanError> for CalibrateError {
    fn from(error: PlanError) -> Self {
        Self::Plan(Box::new(error))
    }
}
