//! Options of `strategy` and `doctor`.
#![expect(clippy::doc_markdown, reason = "these comments are the text of --help, where backticks would show")]

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What is done with strategy files.
#[derive(Clone, Debug, Subcommand)]
pub(in crate::cli) enum StrategyCommand {
    /// Show what a strategy file, or a directory of them, says of each parameter.
    Show {
        /// A strategy file (protobuf or JSON, merged or not), or a directory of per-rank or per-stage files.
        path: PathBuf,
        /// Print machine-readable results.
        #[arg(long)]
        json: bool,
    },
    /// Merge the files of the pipeline stages to one, as MindSpore's merge_pipeline_strategys does.
    Merge {
        /// Directory of per-rank or per-stage files.
        dir: PathBuf,
        /// The file to write.
        out: PathBuf,
    },
    /// Write the strategy of an inference checkpoint, by the model family's rules, without running MindSpore.
    FromYaml {
        /// mindformers yaml, or a built-in model.
        #[arg(value_name = "YAML|MODEL")]
        yaml: String,
        /// Number of ranks.
        #[arg(short = 'w', long = "world_size", alias = "world-size")]
        world_size: u32,
        /// A .ckpt or .json file, or a directory, which gets ckpt_strategy_rank_<n>.ckpt for each rank.
        out: PathBuf,
        /// Whether the checkpoint is fused; overrides the yaml's qkv_concat.
        #[arg(long = "qkv_concat", alias = "qkv-concat", value_name = "BOOL")]
        qkv_concat: Option<bool>,
    },
    /// Write a strategy file in the other encoding, which the names' extensions tell: .json, or protobuf.
    Convert {
        /// The file.
        from: PathBuf,
        /// The file to write.
        to: PathBuf,
        /// The model, for the full shapes that only JSON states.
        #[arg(short = 'y', long = "yaml_path", alias = "yaml-path", value_name = "YAML|MODEL")]
        yaml_path: Option<String>,
    },
}

/// Options of `doctor`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct DoctorArgs {
    /// The checkpoint: a directory of rank_<n>/ directories, a model directory, or a file.
    pub(in crate::cli) path: PathBuf,
    /// [-ts] Its strategy: a file, or a directory of per-rank or per-stage files.
    #[arg(
        long = "train_strategy_file",
        aliases = ["train-strategy-file", "src_strategy", "src-strategy"],
        value_name = "PATH"
    )]
    pub(in crate::cli) strategy: Option<PathBuf>,
    /// The model.
    #[arg(short = 'y', long = "yaml_path", alias = "yaml-path", value_name = "YAML|MODEL")]
    pub(in crate::cli) yaml_path: Option<String>,
    /// Do not check the CRCs that the files state, which reads them whole.
    #[arg(long = "no-crc-check")]
    pub(in crate::cli) no_crc_check: bool,
    /// Which save to look at, where rank directories hold several, as train_to_infer takes it.
    #[arg(long, value_name = "SAVE")]
    pub(in crate::cli) step: Option<String>,
    /// Look at the last save that every rank has.
    #[arg(long, conflicts_with = "step")]
    pub(in crate::cli) latest: bool,
    /// Print machine-readable results.
    #[arg(long)]
    pub(in crate::cli) json: bool,
}
