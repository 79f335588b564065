//! What is wrong with what the user named.

use std::path::PathBuf;

use crate::formats::FormatError;
use crate::models::SpecError;
use crate::plan::{PlanError, list};
use crate::sys::FileError;

/// What is wrong with a checkpoint, strategy or model that the user named.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// Statistics of activations that are not usable.
    #[error("{}: {source}", .path.display())]
    Statistics {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<crate::plan::PlanError>,
    },
    /// Nothing has that name.
    #[error("{} does not exist", .0.display())]
    NotFound(PathBuf),
    /// A directory without a checkpoint in it.
    #[error("{} holds no checkpoint: neither `rank_<n>` directories nor a .ckpt or .safetensors file", .0.display())]
    NoCheckpoint(PathBuf),
    /// Rank directories are missing.
    #[error("{} has no {}, though it has rank_{last}", .dir.display(), list(.missing))]
    MissingRanks {
        /// The checkpoint.
        dir: PathBuf,
        /// The missing directories.
        missing: Vec<String>,
        /// The highest rank there.
        last: u32,
    },
    /// Something beside the rank directories that could be meant as part of the checkpoint.
    #[error("{} holds {} beside its rank directories", .dir.display(), list(.names))]
    Stray {
        /// The checkpoint.
        dir: PathBuf,
        /// What is in the way.
        names: Vec<String>,
    },
    /// Several checkpoints where one is wanted.
    #[error("{} holds {} checkpoint files: {}", .dir.display(), .names.len(), list(.names))]
    Several {
        /// The directory.
        dir: PathBuf,
        /// The files.
        names: Vec<String>,
    },
    /// Ranks in different formats.
    #[error("{} is .ckpt but {} is .safetensors: one checkpoint has one format", .ckpt.display(), .safetensors.display())]
    MixedFormats {
        /// One file.
        ckpt: PathBuf,
        /// Another.
        safetensors: PathBuf,
    },
    /// Bytes of a file that are not what they should be.
    #[error("{}: {source}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        source: Box<FormatError>,
    },
    /// An index and its files that do not agree.
    #[error("{}: {why}", .index.display())]
    Index {
        /// The index.
        index: PathBuf,
        /// How they disagree.
        why: String,
    },
    /// A model configuration that is not usable.
    #[error("{name}: {source}")]
    Model {
        /// The file or model named.
        name: String,
        /// Why.
        source: SpecError,
    },
    /// Strategy files that make no whole.
    #[error("{}: {source}", .path.display())]
    Strategy {
        /// The file or directory named.
        path: PathBuf,
        /// Why.
        source: Box<PlanError>,
    },
    /// A directory without strategy files.
    #[error("{} holds no strategy file (*.ckpt or *.json)", .0.display())]
    NoStrategy(PathBuf),
    /// The system refused something.
    #[error(transparent)]
    File(#[from] FileError),
}
