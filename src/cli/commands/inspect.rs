//! `inspect PATH`: what a checkpoint, a rank directory or a strategy file holds.

use super::show;
use crate::Error;
use crate::cli::ExitStatus;
use crate::cli::args::InspectArgs;
use crate::job::Inspect;

/// Lists a path.
pub(in crate::cli) fn run(args: InspectArgs) -> Result<ExitStatus, Error> {
    let InspectArgs { path, src_strategy, yaml_path, no_crc_check, json, family: _ } = args;
    let mut inspect = Inspect::new(path);
    (inspect.strategy, inspect.model, inspect.no_crc_check) = (src_strategy, yaml_path, no_crc_check);
    let listing = inspect.run()?;
    show(json, &listing, || listing.text())?;
    Ok(if listing.is_damaged() { ExitStatus::Input } else { ExitStatus::Done })
}
