//! Options of `verify`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::run_args::{OutputArgs, ReadArgs};
use crate::job::{Fusion, Precision};

/// Options of `verify`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct VerifyArgs {
    /// One checkpoint: a directory or a file
    #[arg(help_heading = "Where")]
    pub(in crate::cli) a: PathBuf,
    /// The other checkpoint
    #[arg(help_heading = "Where")]
    pub(in crate::cli) b: PathBuf,
    /// Strategy of A
    #[arg(long = "src_strategy", alias = "src-strategy", value_name = "PATH", help_heading = "Where")]
    pub(in crate::cli) src_strategy: Option<PathBuf>,
    /// Strategy of B
    #[arg(long = "dst_strategy", alias = "dst-strategy", value_name = "PATH", help_heading = "Where")]
    pub(in crate::cli) dst_strategy: Option<PathBuf>,
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
    /// Order of rows in A's fused parameters
    ///
    /// Default: as the manifest.json of A says, else rank-concat.
    #[arg(long = "src-fusion", value_enum, value_name = "ORDER", help_heading = "Model and layout")]
    pub(in crate::cli) src_fusion: Option<Fusion>,
    /// Order of rows in B's fused parameters
    ///
    /// Default: as the manifest.json of B says, else rank-concat.
    #[arg(long = "dst-fusion", value_enum, value_name = "ORDER", help_heading = "Model and layout")]
    pub(in crate::cli) dst_fusion: Option<Fusion>,
    /// Let --src-fusion and --dst-fusion overrule a manifest
    #[arg(long = "force-fusion", help_heading = "Model and layout")]
    pub(in crate::cli) force_fusion: bool,
    /// Number of attention heads
    ///
    /// Needed for grouped parameters without -y.
    #[arg(long, value_name = "N", help_heading = "Model and layout")]
    pub(in crate::cli) heads: Option<u64>,
    /// Number of key/value heads; see --heads
    #[arg(long = "kv-heads", alias = "kv_heads", value_name = "N", help_heading = "Model and layout")]
    pub(in crate::cli) kv_heads: Option<u64>,
    /// Leave out parameters whose names match (* and ?)
    #[arg(long, value_name = "PATTERN", help_heading = "Files")]
    pub(in crate::cli) ignore: Vec<String>,
    /// Compare A, converted to this type, with B: fp16, bf16 or fp32
    ///
    /// What B has as this type and A as another floating-point type is converted as a conversion does it, and compared bit for bit.
    #[arg(
        long = "as",
        value_enum,
        ignore_case = true,
        value_name = "TYPE",
        conflicts_with = "tolerance",
        help_heading = "Model and layout"
    )]
    pub(in crate::cli) precision: Option<Precision>,
    /// Compare weights (A) with quantised ones (B)
    ///
    /// A is not quantised, and B is the w8a16 or w4a16 of it. B's weights, dequantised, may differ by so many steps (scales of
    /// their row or group). Rounding is half a step; 0.6 leaves space for the rounding of fp16.
    #[arg(long, value_name = "STEPS", help_heading = "Quantising")]
    pub(in crate::cli) tolerance: Option<f64>,
    /// How the work is done.
    #[command(flatten)]
    pub(in crate::cli) run: ReadArgs,
    /// What is shown.
    #[command(flatten)]
    pub(in crate::cli) output: OutputArgs,
}
