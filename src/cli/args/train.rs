//! Heading *Training runs*: options of `-f train_to_infer`, and of `-f ms_to_pt` from a training run.
#![expect(clippy::doc_markdown, reason = "these comments are the text of --help, where backticks would show")]

use std::path::PathBuf;

use clap::Args;

use crate::job::Lora;

/// The training run that the source is.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Training runs")]
pub(in crate::cli) struct TrainArgs {
    /// Strategy of the training run
    ///
    /// For train_to_infer and ms_to_pt: a strategy file, or a directory of per-rank or per-stage files.
    #[arg(long = "train_strategy_file", alias = "train-strategy-file", value_name = "PATH")]
    pub(in crate::cli) train_strategy_file: Option<PathBuf>,
    /// Save to convert, as <epoch>_<step>
    ///
    /// Needed where rank directories hold several saves (<prefix>-<epoch>_<step>.ckpt). SAVE is <epoch>_<step>, or the step alone
    /// where only one save has it, or the file name on any rank.
    #[arg(long, value_name = "SAVE")]
    pub(in crate::cli) step: Option<String>,
    /// Convert the last save that every rank has
    #[arg(long, conflicts_with = "step")]
    pub(in crate::cli) latest: bool,
    /// Pipeline stages of the training run
    ///
    /// For train_to_infer and ms_to_pt. The strategy shows the number; one that is given is checked against it.
    #[arg(long = "pipeline_stage", alias = "pipeline-stage", value_name = "N", hide_short_help = true)]
    pub(in crate::cli) pipeline_stage: Option<u32>,
    /// 1 or 2, as in the original (train_to_infer)
    ///
    /// Both give the same result.
    #[arg(long = "train_to_infer_mode", alias = "train-to-infer-mode", value_name = "MODE", hide_short_help = true)]
    pub(in crate::cli) train_to_infer_mode: Option<String>,
    /// Keep matching entries as parameters of the model
    ///
    /// The names may hold * and ?. May be given several times.
    #[arg(long, value_name = "PATTERN", hide_short_help = true)]
    pub(in crate::cli) keep: Vec<String>,
    /// Leave out matching entries, as --ignore does
    ///
    /// May be given several times.
    #[arg(long, value_name = "PATTERN", hide_short_help = true)]
    pub(in crate::cli) drop: Vec<String>,
    /// What to do with LoRA adapters
    ///
    /// Without it, a source with adapters is refused.
    #[arg(long, value_enum, value_name = "WHAT", hide_short_help = true)]
    pub(in crate::cli) lora: Option<Lora>,
    /// Alpha of the adapters, for --lora merge
    ///
    /// Default: lora_alpha of the yaml's pet_config.
    #[arg(long = "lora-alpha", value_name = "ALPHA", hide_short_help = true)]
    pub(in crate::cli) lora_alpha: Option<f64>,
    /// Write the same ranks without the training state (train_to_infer)
    #[arg(long = "strip-only", hide_short_help = true)]
    pub(in crate::cli) strip_only: bool,
}
