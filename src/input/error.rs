//! What is wrong with what the user named.

use std::path::PathBuf;

use super::ForeignFault;
use super::steps::steps_text;
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
    /// Several steps of a training run where one is wanted.
    #[error("{} holds {files} checkpoints; {}", .dir.display(), steps_text(.common))]
    Steps {
        /// A rank directory with several.
        dir: PathBuf,
        /// How many it holds.
        files: usize,
        /// The steps that every rank has.
        common: Vec<u64>,
    },
    /// A step that ranks lack.
    #[error("there is no checkpoint of step {step} in {}; {}", list(.without), steps_text(.common))]
    NoStep {
        /// The step asked for.
        step: u64,
        /// The rank directories without it.
        without: Vec<String>,
        /// The steps that every rank has.
        common: Vec<u64>,
    },
    /// Rank directories of different steps.
    #[error(
        "{} holds step {}, but {} holds step {}",
        .first.0.display(), .first.1, .second.0.display(), .second.1
    )]
    StepsDiffer {
        /// A rank directory and its step.
        first: (PathBuf, u64),
        /// Another.
        second: (PathBuf, u64),
    },
    /// A step was named for something without rank directories.
    #[error("step {step} cannot be chosen: {} holds no `rank_<n>` directories", .path.display())]
    NoRanks {
        /// What was named.
        path: PathBuf,
        /// The step asked for.
        step: u64,
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
    /// The files of a checkpoint of PyTorch's that are not one whole model.
    #[error("{}: {fault}", .path.display())]
    Foreign {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong.
        fault: ForeignFault,
    },
    /// A checkpoint of PyTorch's where one of MindSpore's is wanted.
    #[error("{} is a checkpoint of PyTorch's", .0.display())]
    IsForeign(PathBuf),
    /// A checkpoint of MindSpore's where one of PyTorch's is wanted.
    #[error("{} holds mindformers' parameter names", .0.display())]
    IsMindSpore(PathBuf),
    /// Parameter names by which no family can be told.
    #[error("{}: no name tells which model this is: {}", .path.display(), list(.names))]
    NoFamily {
        /// The checkpoint.
        path: PathBuf,
        /// The names.
        names: Vec<String>,
    },
    /// Parameter names that are not of one model.
    #[error("{}: {source}", .path.display())]
    Naming {
        /// The checkpoint.
        path: PathBuf,
        /// Why.
        source: crate::models::foreign::NamingError,
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
    /// A manifest of ours and the files beside it that do not agree.
    #[error("{}: {why}", .manifest.display())]
    Manifest {
        /// The manifest.
        manifest: PathBuf,
        /// How they disagree, or what is wrong with the manifest itself.
        why: String,
    },
    /// Only a part of the checkpoint that a manifest lists was named.
    #[error("{} lists {files} files of tensors, of which {} is one", .manifest.display(), .named.display())]
    PartOfWhole {
        /// The manifest.
        manifest: PathBuf,
        /// How many files it lists.
        files: usize,
        /// What was named.
        named: PathBuf,
    },
    /// A directory without strategy files.
    #[error("{} holds no strategy file (*.ckpt or *.json)", .0.display())]
    NoStrategy(PathBuf),
    /// The system refused something.
    #[error(transparent)]
    File(#[from] FileError),
}
