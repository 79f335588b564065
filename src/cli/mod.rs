//! The program: what was typed, what it means on this machine, what is printed and how it ends.

mod args;
mod commands;
mod config;
mod diagnostics;
mod exit;
mod run_args;

use std::ffi::OsString;
use std::io::Write;

use clap::Parser;

pub use exit::ExitStatus;

use args::{Cli, Command};

/// Runs the program with these arguments (the first is its name).
pub fn run(args: impl Iterator<Item = OsString>) -> ExitStatus {
    let cli = match Cli::try_parse_from(args::expand(args)) {
        Ok(cli) => cli,
        Err(e) => {
            // A broken pipe on the way to `head` is no failure of ours.
            let _ = e.print();
            return if e.use_stderr() { ExitStatus::Input } else { ExitStatus::Done };
        }
    };
    // `cmp` and `diff` tell trouble from a difference in the same way.
    let comparing = matches!(cli.command, Some(Command::Verify(_)));
    let outcome = match cli.command {
        None => commands::convert::run(cli.convert),
        Some(Command::NToM(args)) => commands::convert::n_to_m(*args),
        Some(Command::Inspect(args)) => commands::inspect::run(&args),
        Some(Command::Verify(args)) => commands::verify::run(&args),
    };
    outcome.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "{}", diagnostics::render(&error));
        match error.kind().into() {
            ExitStatus::Input if comparing => ExitStatus::Machine,
            status => status,
        }
    })
}
