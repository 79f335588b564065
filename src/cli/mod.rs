//! The program: what was typed, what it means on this machine, what is printed and how it ends.

mod args;
mod commands;
mod config;
mod diagnostics;
mod environment;
mod exit;
mod originals;
mod run_args;

use std::ffi::OsString;
use std::io::{ErrorKind, Write};

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};

pub use exit::ExitStatus;

use crate::{Error, sys};
use args::{Cli, Command, ConvertArgs};

/// Runs the program with these arguments (the first is its name).
pub fn run(args: impl Iterator<Item = OsString>) -> ExitStatus {
    let (typed, translated) = originals::translate(args::expand(args));
    let (cli, matches) = match parse(&typed) {
        Ok(parsed) => parsed,
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
    if let Some(translated) = translated {
        commands::note(&translated);
    }
    // `cmp` and `diff` tell trouble from a difference in the same way.
    let comparing = matches!(cli.command, Some(Command::Verify(_)));
    let outcome = match cli.command {
        None => commands::convert::run(cli.convert, &environment::read()),
        Some(Command::NToM(args)) => n_to_m(&typed, &args.convert, &matches),
        Some(Command::Scripts(args)) => commands::scripts::run(&args),
        Some(Command::Example(args)) => commands::example::run(&args),
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

fn parse(typed: &[OsString]) -> Result<(Cli, ArgMatches), clap::Error> {
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(typed)?;
    let cli = Cli::from_arg_matches(&matches).map_err(|e| e.format(&mut command))?;
    Ok((cli, matches))
}

/// The simplified form: the conversion that it stands for.
fn n_to_m(typed: &[OsString], args: &ConvertArgs, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    let given = |name: &str| {
        let options = matches.subcommand().map(|(_, options)| options);
        options.and_then(|options| options.value_source(name)) == Some(ValueSource::CommandLine)
    };
    let line = originals::n_to_m(typed, args, given)?;
    // Every word of it was accepted before, but for what is put in front.
    let (cli, _) = parse(&line).map_err(|e| Error::Usage(e.to_string()))?;
    commands::convert::run(cli.convert, &environment::read())
}
