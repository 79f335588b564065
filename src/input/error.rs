//! What is wrong with what the user named.

use std::path::PathBuf;

use super::ForeignFault;
use crate::formats::FormatError;
use crate::model::QuantSigns;
use crate::model::SpecError;
use crate::plan::{PlanError, list};
use crate::sys::{Change, FileError};

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
    #[error("no name shows which save is the last; {}", choices_text(.choices))]
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
    #[error(
        "{} is .{} but {} is .{}: one checkpoint has one format",
        .first.0.display(), .first.1, .other.0.display(), .other.1
    )]
    MixedFormats {
        /// One file, and its extension as its content shows it.
        first: (PathBuf, &'static str),
        /// Another.
        other: (PathBuf, &'static str),
    },
    /// Bytes of a file that are not what they should be.
    #[error("{}: {source}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        source: Box<FormatError>,
    },
    /// A model that another tool quantised.
    #[error("{}: the source is quantised: it has {signs}{}", .path.display(), leftover_text(.leftover.as_deref()))]
    Quantised {
        /// The file or directory.
        path: PathBuf,
        /// What shows it.
        signs: Box<QuantSigns>,
        /// The field of the configuration that says so although all tensors are floating-point.
        leftover: Option<String>,
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
    /// llama.cpp's files where MindSpore's are wanted.
    #[error("{0} is a GGUF checkpoint")]
    IsGguf(PathBuf),
    /// A checkpoint of MindSpore's where one of PyTorch's is wanted.
    #[error("{} holds mindformers' parameter names", .0.display())]
    IsMindSpore(PathBuf),
    /// Parameter names by which no family can be recognised.
    #[error("{}: cannot determine the model family from the parameter names: {}", .path.display(), list(.names))]
    NoFamily {
        /// The checkpoint.
        path: PathBuf,
        /// The names.
        names: Vec<String>,
    },
    /// A configuration of one family beside parameters of another.
    #[error("{}: the config.json is of {said}, but the parameters have the names of {found}", .path.display())]
    OtherFamily {
        /// The checkpoint.
        path: PathBuf,
        /// The family of the configuration.
        said: &'static str,
        /// The family that has more of the names.
        found: &'static str,
    },
    /// Parameter names that are not of one model.
    #[error("{}: {source}", .path.display())]
    Naming {
        /// The checkpoint.
        path: PathBuf,
        /// Why.
        source: crate::model::NamingError,
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
    #[error("{} {why}", .manifest.display())]
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
    /// A file that Git LFS has not fetched.
    #[error("{} is a Git LFS pointer: the file itself, of {size} bytes, was not fetched", .path.display())]
    LfsPointer {
        /// The file.
        path: PathBuf,
        /// The size of the file that it points to.
        size: u64,
    },
    /// A file to be carried along that is a link out of its directory.
    #[error("{} is a link to {}, outside its directory: it is not carried along", .path.display(), .to.display())]
    LinkLeadsOut {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        to: PathBuf,
    },
    /// Files to be carried along that are too large for what they should be.
    #[error(
        "{} has {bytes} bytes: configuration, tokenizer and code that are carried along may have {limit} bytes together",
        .path.display()
    )]
    CompanionsTooLarge {
        /// The file with which it was too much.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The most that all may have.
        limit: u64,
    },
    /// A file that is not what it was when it was mapped.
    #[error("{} was changed while it was read: {change}", .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// In what.
        change: Change,
    },
    /// The system refused something.
    #[error(transparent)]
    File(#[from] FileError),
}

fn leftover_text(field: Option<&str>) -> &'static str {
    if field.is_some() { ", although all of its tensors are floating-point" } else { "" }
}

/// `60 in rank_0, rank_1; 70 in rank_2`.
fn values_text(values: &[(String, Vec<u32>)]) -> String {
    const SHOWN: usize = 4;
    let side = |(value, ranks): &(String, Vec<u32>)| {
        let shown: Vec<String> = ranks.iter().take(SHOWN).map(|rank| format!("rank_{rank}")).collect();
        let more = ranks.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{value} in {}{more}", shown.join(", "))
    };
    let shown: Vec<String> = values.iter().take(SHOWN).map(side).collect();
    let more = values.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!("; and {more} other values") } else { String::new() };
    format!("{}{more}", shown.join("; "))
}

/// `every rank has 1_100, 2_100`, or that there is none; the last few where there are many.
pub(super) fn choices_text(choices: &[String]) -> String {
    const SHOWN: usize = 12;
    let hidden = choices.len().saturating_sub(SHOWN);
    let shown = choices[hidden..].join(", ");
    match (choices.len(), hidden) {
        (0, _) => "no save is there in every rank".to_owned(),
        (_, 0) => format!("every rank has {shown}"),
        _ => format!("every rank has {} saves, the last {shown}", choices.len()),
    }
}
