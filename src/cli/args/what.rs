//! Heading *What*: the conversion.
#![expect(clippy::doc_markdown, reason = "these comments are the text of --help, where backticks would show")]

use clap::{Args, ValueEnum};

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Function {
    /// n ranks to m ranks, fused or not.
    DistributedWeightTransfer,
    /// Training checkpoint to inference checkpoint.
    TrainToInfer,
    /// Floating-point weights to int8 (or int4), by the arithmetic of golden-stick.
    QuantWeight,
    /// Hugging Face, PyTorch or Meta to MindSpore.
    PtToMs,
    /// MindSpore to Hugging Face.
    MsToPt,
}

/// A precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PrecisionArg {
    /// IEEE half precision.
    Fp16,
    /// bfloat16.
    Bf16,
    /// IEEE single precision.
    Fp32,
    /// As in the source, tensor by tensor.
    Keep,
    /// int8 weights.
    W8a16,
    /// int8 weights and activations.
    W8a8,
    /// int8 weights and KV cache.
    W8a16c8,
    /// int8 weights, activations and KV cache.
    W8a8c8,
    /// int8 KV cache.
    Fp16c8,
    /// int4 weights. An extension: no network of golden-stick loads its parameter names.
    W4a16,
}

/// What to do.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "What")]
pub(crate) struct WhatArgs {
    /// What to do; see the examples below
    #[arg(short = 'f', long, value_enum, long_help = "What to do")]
    pub(crate) function: Option<Function>,
    /// Type of the target: fp16, bf16, w8a16, ...
    ///
    /// Floating-point parameters are converted to it. The quantised types (w8a16 and after) go with -f quant_weight and
    /// train_to_infer.
    #[arg(short = 'p', long, value_enum)]
    pub(crate) precision: Option<PrecisionArg>,
    /// Number of ranks of the target
    #[arg(
        short = 'w',
        long = "world_size",
        aliases = ["world-size", "world_size_a", "world_size_1"],
        value_name = "N"
    )]
    pub(crate) world_size: Option<u32>,
    /// Print the plan and stop; nothing is written
    #[arg(long = "dry-run")]
    pub(crate) dry_run: bool,
}
