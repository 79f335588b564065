//! Options of a conversion: those of all headings.

use clap::Args;

use super::calibrate::CalibrateArgs;
use super::cluster::ClusterArgs;
use super::files::FilesArgs;
use super::layout::LayoutArgs;
use super::place::PlaceArgs;
use super::quantise::QuantArgs;
use super::train::TrainArgs;
use super::what::WhatArgs;
use crate::cli::run_args::{OutputArgs, RunArgs};

/// Options of a conversion, by the headings of the help.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct ConvertArgs {
    /// What to do.
    #[command(flatten)]
    pub(in crate::cli) what: WhatArgs,
    /// From where, to where.
    #[command(flatten)]
    pub(in crate::cli) place: PlaceArgs,
    /// The model, and how its parameters are laid out.
    #[command(flatten)]
    pub(in crate::cli) layout: LayoutArgs,
    /// What is read from files and written to them.
    #[command(flatten)]
    pub(in crate::cli) files: FilesArgs,
    /// The training run that the source is.
    #[command(flatten)]
    pub(in crate::cli) train: TrainArgs,
    /// How weights are quantised.
    #[command(flatten)]
    pub(in crate::cli) quant: QuantArgs,
    /// How activations are observed.
    #[command(flatten)]
    pub(in crate::cli) calibrate: CalibrateArgs,
    /// Which host does which part of it.
    #[command(flatten)]
    pub(in crate::cli) cluster: ClusterArgs,
    /// How the work is done.
    #[command(flatten)]
    pub(in crate::cli) run: RunArgs,
    /// What is shown.
    #[command(flatten)]
    pub(in crate::cli) output: OutputArgs,
}
