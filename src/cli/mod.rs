//! The program: what was typed, what it means on this machine, what is printed and how it ends.

mod args;
mod commands;
mod config;
mod diagnostics;
mod environment;
mod exit;
mod run_args;

use std::ffi::OsString;
use std::io::{ErrorKind, Write};

use clap::Parser;

pub use exit::ExitStatus;

use args::{Cli, Command};

use crate::{Error, sys};

/// Runs the program with these arguments (the first is its name).
pub fn run(args: impl Iterator<Item = OsString>) -> ExitStatus {
    let cli = match Cli::try_parse_from(args::expand(args)) {
        Ok(cli) => cli,
        Err(e) => {
            let printed = e.print().and_then(|()| std::io::stdout().flush());
            return match printed {
                _ if e.use_stderr() => ExitStatus::Input,
                // A broken pipe on the way to `head` is no failure of ours.
                Err(e) if e.kind() != ErrorKind::BrokenPipe => {
                    let error = Error::Output { published: None, source: e };
                    let _ = writeln!(std::io::stderr(), "{}", diagnostics::render(&error));
                    ExitStatus::Machine
                }
                _ => ExitStatus::Done,
            };
        }
    };
    sys::raise_open_files_limit();
    // `cmp` and `diff` tell trouble from a difference in the same way.
    let comparing = matches!(cli.command, Some(Command::Verify(_)));
    let outcome = match cli.command {
        None => commands::convert::run(cli.convert, &environment::read()),
        Some(Command::NToM(args)) => commands::convert::n_to_m(*args, &environment::read()),
        Some(Command::MergeManifest(args)) => commands::merge_manifest::run(&args),
        Some(Command::Inspect(args)) => commands::inspect::run(&args),
        Some(Command::Verify(args)) => commands::verify::run(&args),
        Some(Command::Strategy(command)) => commands::strategy::run(command),
        Some(Command::Doctor(args)) => commands::doctor::run(&args),
    };
    outcome.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "{}", diagnostics::render(&error));
        match error.kind().into() {
            ExitStatus::Input if comparing => ExitStatus::Machine,
            status => status,
        }
    })
}
