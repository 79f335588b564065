//! Heading *Where*: from where to where.
#![expect(clippy::doc_markdown, reason = "these comments are the text of --help, where backticks would show")]

use std::path::PathBuf;

use clap::Args;

/// From where, to where.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Where")]
pub(in crate::cli) struct PlaceArgs {
    /// Source checkpoint: a directory or a file
    ///
    /// A directory of rank_<n>/ directories, a model directory (Hugging Face, PyTorch or Meta), or a checkpoint file.
    #[arg(
        long = "src_ckpt_path",
        aliases = ["src-ckpt-path", "src_ckpt_path_a", "src_ckpt_path_1"],
        value_name = "PATH"
    )]
    pub(in crate::cli) src_ckpt_path: Option<PathBuf>,
    /// Directory that the target goes into
    ///
    /// The target is a new directory in it, named after the precision and the number of ranks, such as fp16_4p. shm:NAME: not a
    /// directory but the file NAME in shared memory (/dev/shm), with one rank as safetensors (--rank).
    #[arg(
        long = "dst_ckpt_path",
        aliases = ["dst-ckpt-path", "dst_ckpt_path_a", "dst_ckpt_path_1"],
        value_name = "DIR",
        default_value = "./infer_ckpt"
    )]
    pub(in crate::cli) dst_ckpt_path: PathBuf,
    /// Rank that goes into shared memory (-dc shm:NAME)
    #[arg(long, value_name = "N", hide_short_help = true)]
    pub(in crate::cli) rank: Option<u32>,
    /// Directory for the target's strategy files
    #[arg(
        long = "infer_strategy_file",
        alias = "infer-strategy-file",
        value_name = "DIR",
        default_value = "./infer_strategy"
    )]
    pub(in crate::cli) infer_strategy_file: PathBuf,
    /// Strategy of the source
    ///
    /// A strategy file, or a directory of per-rank or per-stage files.
    #[arg(long = "src_strategy", alias = "src-strategy", value_name = "PATH")]
    pub(in crate::cli) src_strategy: Option<PathBuf>,
    /// Strategy of the target, instead of -w
    ///
    /// A strategy file, or a directory of per-rank or per-stage files.
    #[arg(long = "dst_strategy", alias = "dst-strategy", value_name = "PATH")]
    pub(in crate::cli) dst_strategy: Option<PathBuf>,
    /// Replace an existing target
    ///
    /// Only a target that holds nothing but the files of an earlier conversion is replaced.
    #[arg(long)]
    pub(in crate::cli) overwrite: bool,
}
