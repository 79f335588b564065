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
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if shell == Shell::Bash {
        // clap_complete (issue 6421 of clap) writes the hyphen of our name in two ways, and then finds no command.
        script = script.replace("ckpt__subcmd__convert", "ckpt__convert");
    }
    print(&script)?;
    Ok(ExitStatus::Done)
}
