//! Options of the commands other than conversions.
#![expect(clippy::doc_markdown, reason = "these comments are the text of --help, where backticks would show")]

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Options of `example`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct ExampleArgs {
    /// Directory to write the example into; existing files are never replaced
    #[arg(help_heading = "Where")]
    pub(in crate::cli) dir: PathBuf,
}

/// Options of `scripts`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct ScriptsArgs {
    /// Directory to write the tree into; existing files are never replaced
    #[arg(help_heading = "Where")]
    pub(in crate::cli) dir: PathBuf,
}

/// Options of `man`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct ManArgs {
    /// Directory to write all pages into, made if missing [default: the main page goes to standard output]
    #[arg(help_heading = "Where")]
    pub(in crate::cli) dir: Option<PathBuf>,
}

/// Options of `inspect`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct InspectArgs {
    /// A checkpoint, a rank directory, a file, or strategy files
    #[arg(help_heading = "Where")]
    pub(in crate::cli) path: PathBuf,
    /// Strategy of the checkpoint, to show full shapes
    #[arg(long = "src_strategy", alias = "src-strategy", value_name = "PATH", help_heading = "Where")]
    pub(in crate::cli) src_strategy: Option<PathBuf>,
    /// Model, to show full shapes: a mindformers yaml or a built-in name
    #[arg(
        short = 'y',
        long = "yaml_path",
        alias = "yaml-path",
        value_name = "YAML|MODEL",
        help_heading = "Model and layout"
    )]
    pub(crate) yaml_path: Option<String>,
    /// File of a model family, beside the built-in ones
    #[arg(long = "family", value_name = "FILE", help_heading = "Model and layout")]
    pub(crate) family: Vec<PathBuf>,
    /// Do not check the CRCs that the files state, which reads the files whole
    #[arg(long = "no-crc-check", help_heading = "Files")]
    pub(in crate::cli) no_crc_check: bool,
    /// Print JSON instead of text
    #[arg(long, help_heading = "Output")]
    pub(in crate::cli) json: bool,
}

/// What is done with strategy files.
#[derive(Clone, Debug, Subcommand)]
pub(in crate::cli) enum StrategyCommand {
    /// Show what a strategy file, or a directory of them, says of each parameter.
    Show {
        /// A strategy file (protobuf or JSON, merged or not), or a directory of per-rank or per-stage files
        #[arg(help_heading = "Where")]
        path: PathBuf,
        /// Print JSON instead of text
        #[arg(long, help_heading = "Output")]
        json: bool,
    },
    /// Merge the files of the pipeline stages into one, as MindSpore's merge_pipeline_strategys does.
    Merge {
        /// Directory of per-rank or per-stage files
        #[arg(help_heading = "Where")]
        dir: PathBuf,
        /// File to write
        #[arg(help_heading = "Where")]
        out: PathBuf,
    },
    /// Write the strategy of an inference checkpoint without running MindSpore.
    ///
    /// The rules of the model family decide how each parameter is split.
    FromYaml {
        /// Number of ranks
        #[arg(short = 'w', long = "world_size", alias = "world-size", value_name = "N", help_heading = "What")]
        world_size: u32,
        /// Model: a mindformers yaml or a built-in name
        #[arg(value_name = "YAML|MODEL", help_heading = "Where")]
        yaml: String,
        /// File (.ckpt or .json) or directory to write
        ///
        /// A directory gets a ckpt_strategy_rank_<n>.ckpt for each rank.
        #[arg(help_heading = "Where")]
        out: PathBuf,
        /// Whether the checkpoint is fused; overrides the yaml's qkv_concat
        #[arg(long = "qkv_concat", alias = "qkv-concat", value_name = "BOOL", help_heading = "Model and layout")]
        qkv_concat: Option<bool>,
        /// File of a model family, beside the built-in ones
        #[arg(long = "family", value_name = "FILE", help_heading = "Model and layout")]
        family: Vec<PathBuf>,
    },
    /// Convert a strategy file between protobuf and JSON.
    ///
    /// The extensions of the names decide: .json is JSON, any other is protobuf.
    Convert {
        /// File to read
        #[arg(help_heading = "Where")]
        from: PathBuf,
        /// File to write
        #[arg(help_heading = "Where")]
        to: PathBuf,
        /// Model, for the full shapes that only JSON states: a mindformers yaml or a built-in name
        #[arg(
            short = 'y',
            long = "yaml_path",
            alias = "yaml-path",
            value_name = "YAML|MODEL",
            help_heading = "Model and layout"
        )]
        yaml_path: Option<String>,
        /// File of a model family, beside the built-in ones
        #[arg(long = "family", value_name = "FILE", help_heading = "Model and layout")]
        family: Vec<PathBuf>,
    },
}

/// Options of `doctor`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct DoctorArgs {
    /// Checkpoint: a directory of rank_<n>/ directories, a model directory, or a file
    #[arg(help_heading = "Where")]
    pub(in crate::cli) path: PathBuf,
    /// Model: a mindformers yaml or a built-in name
    #[arg(
        short = 'y',
        long = "yaml_path",
        alias = "yaml-path",
        value_name = "YAML|MODEL",
        help_heading = "Model and layout"
    )]
    pub(crate) yaml_path: Option<String>,
    /// File of a model family, beside the built-in ones
    #[arg(long = "family", value_name = "FILE", help_heading = "Model and layout")]
    pub(crate) family: Vec<PathBuf>,
    /// Do not check the CRCs that the files state, which reads the files whole
    #[arg(long = "no-crc-check", help_heading = "Files")]
    pub(in crate::cli) no_crc_check: bool,
    /// Strategy of the checkpoint: a file, or a directory of per-rank or per-stage files
    #[arg(
        long = "train_strategy_file",
        aliases = ["train-strategy-file", "src_strategy", "src-strategy"],
        value_name = "PATH",
        help_heading = "Training runs"
    )]
    pub(in crate::cli) strategy: Option<PathBuf>,
    /// Save to look at, where rank directories hold several: <epoch>_<step>, a step or a file name
    #[arg(long, value_name = "SAVE", help_heading = "Training runs")]
    pub(in crate::cli) step: Option<String>,
    /// Look at the last save that every rank has
    #[arg(long, conflicts_with = "step", help_heading = "Training runs")]
    pub(in crate::cli) latest: bool,
    /// Print JSON instead of text
    #[arg(long, help_heading = "Output")]
    pub(in crate::cli) json: bool,
}

/// Options of `families`.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct FamiliesArgs {
    /// One family.
    #[command(subcommand)]
    pub(crate) command: Option<FamiliesCommand>,
    /// File of a model family, beside the built-in ones
    #[arg(long = "family", value_name = "FILE", help_heading = "Model and layout")]
    pub(crate) family: Vec<PathBuf>,
    /// Print JSON instead of text
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// What is shown of a family.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum FamiliesCommand {
    /// Print the file of a family, as a start for one of your own.
    Show {
        /// The family
        #[arg(help_heading = "What")]
        name: String,
        /// File of a model family, beside the built-in ones
        #[arg(long = "family", value_name = "FILE", help_heading = "Model and layout")]
        family: Vec<PathBuf>,
    },
}
