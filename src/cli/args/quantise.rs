//! Heading *Quantising*.
#![expect(clippy::doc_markdown, reason = "these comments are the text of --help, where backticks would show")]

use std::path::PathBuf;

use clap::Args;

use crate::job::Names;

/// How weights are quantised.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Quantising")]
pub(in crate::cli) struct QuantArgs {
    /// Statistics of the activations, for w8a8 and the other types but w8a16 and w4a16
    ///
    /// A safetensors file of the activations' ranges; the documentation (statistics.md) describes it. -d and -dp gather it.
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(in crate::cli) stats: Option<PathBuf>,
    /// Names that quantised parameters get (quant_weight)
    #[arg(long, value_enum, default_value = "gs-0.6", hide_short_help = true)]
    pub(in crate::cli) names: Names,
    /// One scale for each 64 or 128 columns of a row (w8a16, w4a16)
    ///
    /// Without it, a row has one scale. An extension: no network of golden-stick loads its parameter names.
    #[arg(long = "group-size", value_name = "64|128", hide_short_help = true)]
    pub(in crate::cli) group_size: Option<u64>,
    /// Leave matching linear layers in floating point (quant_weight)
    ///
    /// A layer matches whose name contains TEXT, such as w2 or layers.0. (with the dot). May be given several times.
    #[arg(long = "keep-float", value_name = "TEXT", hide_short_help = true)]
    pub(in crate::cli) keep_float: Vec<String>,
    /// SmoothQuant's strength, from 0 to 1 (w8a8, w8a8c8)
    ///
    /// How much of the activations' outliers moves to the weights.
    #[arg(long, default_value_t = 0.5, hide_short_help = true)]
    pub(in crate::cli) alpha: f64,
    /// Do not smooth (w8a8, w8a8c8)
    #[arg(long = "no-smooth", hide_short_help = true)]
    pub(in crate::cli) no_smooth: bool,
}
