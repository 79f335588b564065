//! `completions SHELL`: what makes a shell complete the options.

use clap_complete::Shell;

use super::print;
use crate::Error;
use crate::cli::ExitStatus;
use crate::cli::args::definition;

/// Prints the completions of a shell.
pub(in crate::cli) fn run(shell: Shell) -> Result<ExitStatus, Error> {
    let mut script = Vec::new();
    let mut command = definition(false);
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitStatus::Done)
}
