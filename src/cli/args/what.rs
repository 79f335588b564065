//! Heading *What*: the conversion.
#![expect(clippy::doc_markdown, reason = "these comments are the text of --help, where backticks would show")]

use clap::Args;

use crate::job::{Function, Precision};

/// What to do.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "What")]
pub(in crate::cli) struct WhatArgs {
    /// What to do; see the examples below
    #[arg(short = 'f', long, value_enum, long_help = "What to do")]
    pub(in crate::cli) function: Option<Function>,
    /// Type of the target: fp16, bf16, w8a16, ...
    ///
    /// Floating-point parameters are converted to it. The quantised types (w8a16 and after) go with -f quant_weight and
    /// train_to_infer.
    #[arg(short = 'p', long, value_enum, ignore_case = true)]
    pub(in crate::cli) precision: Option<Precision>,
    /// Number of ranks of the target
    #[arg(
        short = 'w',
        long = "world_size",
        aliases = ["world-size", "world_size_a", "world_size_1"],
        value_name = "N"
    )]
    pub(in crate::cli) world_size: Option<u32>,
    /// Print the plan and stop; nothing is written
    #[arg(long = "dry-run")]
    pub(in crate::cli) dry_run: bool,
}
