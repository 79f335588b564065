//! Options of `-f train_to_infer`.
#![expect(clippy::doc_markdown, reason = "these comments are the text of --help, where backticks would show")]

use clap::{Args, ValueEnum};

use crate::input::WhichSave;

/// What is done with LoRA adapters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum LoraArg {
    /// W + (alpha/r) B A, computed in fp32.
    Merge,
    /// The adapters go to the target as they are.
    Keep,
    /// The adapters are left out.
    Drop,
}

/// Options of `-f train_to_infer`, and of `-f ms_to_pt` from a training run.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Options of train_to_infer, and of ms_to_pt from a training run")]
pub(in crate::cli) struct TrainArgs {
    /// Which save to take, where rank directories hold several (<prefix>-<epoch>_<step>.ckpt): <epoch>_<step>, or the step
    /// alone where only one save has it, or the file name of any rank.
    #[arg(long, value_name = "SAVE")]
    pub(in crate::cli) step: Option<String>,
    /// Take the last save of the last run that every rank has.
    #[arg(long, conflicts_with = "step")]
    pub(in crate::cli) latest: bool,
    /// Keep entries whose names match (with * and ?) as parameters of the model. May be given several times.
    #[arg(long, value_name = "PATTERN")]
    pub(in crate::cli) keep: Vec<String>,
    /// Leave out entries whose names match, as --ignore. May be given several times.
    #[arg(long, value_name = "PATTERN")]
    pub(in crate::cli) drop: Vec<String>,
    /// What to do with LoRA adapters, which are refused otherwise.
    #[arg(long, value_enum)]
    pub(in crate::cli) lora: Option<LoraArg>,
    /// The adapters' alpha, for --lora merge. Default: lora_alpha of the yaml's pet_config.
    #[arg(long = "lora-alpha", value_name = "ALPHA")]
    pub(in crate::cli) lora_alpha: Option<f64>,
    /// Write the same ranks without the training state (train_to_infer).
    #[arg(long = "strip-only")]
    pub(in crate::cli) strip_only: bool,
}

/// The save that is meant.
pub(in crate::cli) fn which_save(step: Option<&str>, latest: bool) -> WhichSave<'_> {
    match step {
        Some(text) => WhichSave::Named(text),
        None if latest => WhichSave::Latest,
        None => WhichSave::Only,
    }
}

impl TrainArgs {
    /// The first option that was given, if any.
    pub(in crate::cli) fn given(&self) -> Option<&'static str> {
        [
            (self.step.is_some(), "--step"),
            (self.latest, "--latest"),
            (!self.keep.is_empty(), "--keep"),
            (!self.drop.is_empty(), "--drop"),
            (self.lora.is_some(), "--lora"),
            (self.lora_alpha.is_some(), "--lora-alpha"),
            (self.strip_only, "--strip-only"),
        ]
        .into_iter()
        .find_map(|(given, name)| given.then_some(name))
    }
}
