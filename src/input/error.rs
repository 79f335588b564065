//! What is wrong with what the user named.

use std::path::PathBuf;

use super::ForeignFault;
use super::counters::values_text;
use super::saves::choices_text;
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
    /// Several saves of a training run where one is wanted.
    #[error("{} holds {files} checkpoints; {}", .dir.display(), choices_text(.choices))]
    Steps {
        /// A rank directory with several.
        dir: PathBuf,
        /// How many it holds.
        files: usize,
        /// The saves that every rank has, as they can be typed.
        choices: Vec<String>,
        /// Whether one of them is the last.
        latest: bool,
    },
    /// A save that ranks lack.
    #[error("there is no checkpoint of step {step} in {}; {}", list(.without), choices_text(.choices))]
    NoStep {
        /// The save, as it was typed.
        step: String,
        /// The rank directories without it.
        without: Vec<String>,
        /// The saves that every rank has, as they can be typed.
        choices: Vec<String>,
    },
    /// There is no last save.
    #[error("which save is the last no name says; {}", choices_text(.choices))]
    NoLatest {
        /// The saves that every rank has, as they can be typed.
        choices: Vec<String>,
    },
    /// What was typed may mean several saves.
    #[error("{text} may be any of {}", .saves.join(", "))]
    StepUnclear {
        /// The option, as it was typed.
        text: String,
        /// The saves, as they can be typed.
        saves: Vec<String>,
    },
    /// Rank directories of different saves.
    #[error(
        "{} holds {}, but {} holds {}: they are not of one save",
        .first.0.display(), .first.1, .second.0.display(), .second.1
    )]
    SavesDiffer {
        /// A rank directory and its file.
        first: (PathBuf, String),
        /// Another.
        second: (PathBuf, String),
    },
    /// A save was named for a single file.
    #[error("no save can be chosen: {} is one file", .0.display())]
    OneFile(PathBuf),
    /// A file whose name gives another rank than its directory's.
    #[error("{} is named for rank {named}, but lies in the directory of rank {rank}", .path.display())]
    OtherRank {
        /// The file.
        path: PathBuf,
        /// The rank in its name.
        named: u32,
        /// The rank in the directory's name.
        rank: u32,
    },
    /// Ranks whose counters disagree.
    #[error("the ranks are not of one save: `{name}` is {}", values_text(.values))]
    OtherSave {
        /// The counter.
        name: &'static str,
        /// Its values, each with the ranks that hold it.
        values: Vec<(String, Vec<u32>)>,
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
    /// A directory without strategy files.
    #[error("{} holds no strategy file (*.ckpt or *.json)", .0.display())]
    NoStrategy(PathBuf),
    /// The system refused something.
    #[error(transparent)]
    File(#[from] FileError),
}
