//! `strategy`: small tools on strategy files.

use super::{print, show};
use crate::Error;
use crate::cli::ExitStatus;
use crate::cli::args::StrategyCommand;
use crate::job::{convert_strategy, inspect_strategy, merge_strategy, model_strategy};

/// Does one of them.
pub(in crate::cli) fn run(command: StrategyCommand) -> Result<ExitStatus, Error> {
    let done = match command {
        StrategyCommand::Show { path, json } => {
            let listing = inspect_strategy(&path)?;
            show(json, &listing, || listing.text())?;
            return Ok(ExitStatus::Done);
        }
        StrategyCommand::Merge { dir, out } => merge_strategy(&dir, &out)?,
        StrategyCommand::FromYaml { yaml, world_size, out, qkv_concat, family: _ } => {
            model_strategy(&yaml, world_size, &out, qkv_concat)?
        }
        StrategyCommand::Convert { from, to, yaml_path, family: _ } => {
            convert_strategy(&from, &to, yaml_path.as_deref())?
        }
    };
    print(&format!("{done}\n"))?;
    Ok(ExitStatus::Done)
}
