//! What was typed. Names and meanings of the original scripts' options; validation only, no effects.
//!
//! Each file below is one heading of `--help`, in which the options of one struct are listed.
#![expect(clippy::doc_markdown, reason = "these comments are the text of --help, where backticks would show")]

mod calibrate;
mod cluster;
mod convert;
mod definition;
mod files;
mod layout;
mod mount;
mod place;
mod quantise;
mod tools;
mod train;
mod two_letters;
mod values;
mod verify;
mod what;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(super) use calibrate::CalibrateArgs;
pub(super) use cluster::{ClusterArgs, MergeArgs};
pub(super) use convert::ConvertArgs;
pub(super) use definition::{DOCUMENTATION, EXAMPLES, STATUSES, definition, two_letters_in_help, two_letters_in_man};
pub(super) use files::FilesArgs;
pub(super) use layout::LayoutArgs;
pub(super) use mount::{MountArgs, UNUSED as UNUSED_TO_MOUNT};
pub(super) use place::PlaceArgs;
pub(super) use quantise::QuantArgs;
pub(super) use tools::{
    DoctorArgs, ExampleArgs, FamiliesArgs, FamiliesCommand, InspectArgs, ManArgs, ScriptsArgs, StrategyCommand,
};
pub(super) use train::TrainArgs;
pub(super) use two_letters::{TWO_LETTERS, expand};
pub(super) use verify::VerifyArgs;
pub(super) use what::WhatArgs;

/// Converts LLM checkpoints for MindSpore/Ascend inference in one streaming pass.
#[derive(Debug, Parser)]
#[command(
    name = "ckpt-convert",
    version,
    long_version = super::version::LONG,
    args_conflicts_with_subcommands = true,
    args_override_self = true
)]
pub(super) struct Cli {
    /// A command; without one, -f says what to do.
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    /// The conversion that -f names.
    #[command(flatten)]
    pub(super) convert: ConvertArgs,
}

/// Commands other than conversions.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Convert n ranks to m ranks with the simplified form's defaults.
    ///
    /// The simplified form of the original scripts: -f distributed_weight_transfer with other defaults, fp16, llama2_7b, and target directories named after the
    /// number of ranks.
    NToM(Box<NToMArgs>),
    /// Show a target as a read-only directory, without writing it.
    ///
    /// Takes the options of a conversion. The files are put together as they are read, until Ctrl-C or umount. Needs Linux's FUSE.
    Mount(Box<MountArgs>),
    /// Compare two checkpoints bit for bit, whatever their layout.
    ///
    /// The numbers of ranks, the fusion and the formats may differ.
    ///
    /// Exit status 0: the same model. 1: different. 2: the comparison was not possible.
    Verify(Box<VerifyArgs>),
    /// Show what a checkpoint, a rank directory or a strategy file holds.
    Inspect(InspectArgs),
    /// Check that a strategy fits a checkpoint, and say what to mend.
    ///
    /// Exit status 1 when something is wrong.
    Doctor(DoctorArgs),
    /// Show, merge, make and convert strategy files.
    #[command(subcommand)]
    Strategy(StrategyCommand),
    /// List the model families that are known by their names.
    Families(FamiliesArgs),
    /// Join the manifests of --local-output, and prove them complete.
    MergeManifest(MergeArgs),
    /// Write a small example model, to try every conversion on.
    ///
    /// Its forms: Hugging Face, MindSpore, a training run.
    Example(ExampleArgs),
    /// Write the original scripts' tree, for their old command lines.
    Scripts(ScriptsArgs),
    /// Print the completions of a shell (bash, zsh, fish, ...).
    ///
    /// For bash, for instance: source <(ckpt-convert completions bash)
    Completions {
        /// The shell.
        #[arg(value_enum, help_heading = "What")]
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write all pages into a directory.
    Man(ManArgs),
}

impl Cli {
    /// The files of model families.
    pub(super) fn family_files(&self) -> &[PathBuf] {
        match &self.command {
            None => &self.convert.layout.family,
            Some(Command::NToM(args)) => &args.convert.layout.family,
            Some(Command::Mount(args)) => &args.convert.layout.family,
            Some(Command::Verify(args)) => &args.family,
            Some(Command::Inspect(args)) => &args.family,
            Some(Command::Doctor(args)) => &args.family,
            Some(
                Command::Strategy(StrategyCommand::FromYaml { family, .. } | StrategyCommand::Convert { family, .. })
                | Command::Families(FamiliesArgs { command: Some(FamiliesCommand::Show { family, .. }), .. }),
            ) => family,
            Some(Command::Families(args)) => &args.family,
            Some(
                Command::Strategy(StrategyCommand::Show { .. } | StrategyCommand::Merge { .. })
                | Command::MergeManifest(_)
                | Command::Example(_)
                | Command::Scripts(_)
                | Command::Completions { .. }
                | Command::Man(_),
            ) => &[],
        }
    }
}

/// Options of `n-to-m`: those of a conversion, with other defaults.
#[derive(Clone, Debug, Args)]
#[command(mut_arg("function", |arg| arg.hide(true)))]
#[command(mut_arg("precision", |arg| arg.help("Type of the target's floating-point weights [default: fp16]").long_help(None)))]
#[command(mut_arg("yaml_path", |arg| {
    arg.help("Model of the target [default: llama2_7b]").long_help(
        "Model of the target: a mindformers yaml or the name of a built-in model [default: llama2_7b]"
    )
}))]
#[command(mut_arg("qkv_concat", |arg| {
    arg.help("Whether the target is fused [default: true]").long_help(
        "Whether the target has q, k, v and gate, up fused. Default: as the yaml says; without one, true"
    )
}))]
#[command(mut_arg("dst_ckpt_path", |arg| arg.hide_default_value(true).help("Directory that the target goes into").long_help(
    "Directory that the target goes into. Default: ../ckpt/llama2_7b/qkv/<w>_llama-2-7b (noqkv where the target is not fused)"
)))]
#[command(mut_arg("infer_strategy_file", |arg| arg.hide_default_value(true).help("Directory for its strategies").long_help(
    "Directory that the target's strategy files go into. Default: ../strategy/llama2_7b/qkv/<w>_llama-2-7b (noqkv where the \
     target is not fused); with -dc, <dc>/strategy/llama2_7b/qkv/<w>_llama-2-7b"
)))]
pub(super) struct NToMArgs {
    /// The conversion.
    #[command(flatten)]
    pub(super) convert: ConvertArgs,
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn two_letter_options_are_long_options() {
        let typed = ["ckpt-convert", "-f", "distributed_weight_transfer", "-sc", "a", "-dc=b", "-w", "4", "-dp", "x"];
        let cli = Cli::try_parse_from(expand(typed.iter().map(OsString::from))).unwrap();
        assert_eq!(cli.convert.place.src_ckpt_path.unwrap(), PathBuf::from("a"));
        assert_eq!(cli.convert.place.dst_ckpt_path, PathBuf::from("b"));
        assert_eq!(cli.convert.calibrate.dataset_path.unwrap(), PathBuf::from("x"));
        assert_eq!(cli.convert.what.precision, None);
    }
}
