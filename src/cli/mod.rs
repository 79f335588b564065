//! The program: what was typed, what it means on this machine, what is printed and how it ends.

mod args;
mod commands;
mod diagnostics;
mod environment;
mod exit;
mod job;
mod missing;
mod originals;
mod run_args;
mod screen;
mod version;

use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal, Write};

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{ArgMatches, FromArgMatches};

pub use exit::ExitStatus;

use crate::{Error, report, sys};
use args::{Cli, Command, ConvertArgs, MountArgs, TWO_LETTERS, definition, two_letters_in_help};

/// Runs the program with these arguments (the first is its name).
pub fn run(args: impl Iterator<Item = OsString>) -> ExitStatus {
    let (typed, translated) = originals::translate(args::expand(args));
    if let Some(word) = one_hyphen(&typed) {
        let said = format!("unexpected argument '{word}' found");
        let error = definition(false).error(clap::error::ErrorKind::UnknownArgument, said);
        return refused(&error, Some(no_such_option(word)), &typed);
    }
    let (cli, matches) = match parse(&typed) {
        Ok(parsed) => parsed,
        Err(e) => {
            return match stray_word(&e, &typed) {
                Some((error, hint)) => refused(&error, Some(hint), &typed),
                None => refused(&e, two_letters_hint(&e, &typed), &typed),
            };
        }
    };
    sys::raise_open_files_limit();
    screen::survive_file_limit();
    if let Some(translated) = translated {
        screen::note(&translated);
    }
    // `cmp` and `diff` distinguish trouble from a difference in the same way.
    let comparing = matches!(cli.command, Some(Command::Verify(_)));
    let outcome = commands::families::register(cli.family_files()).and_then(|()| dispatch(cli, &typed, &matches));
    outcome.unwrap_or_else(|error| {
        report::say(&diagnostics::render(&error));
        match error.kind().into() {
            ExitStatus::Input if comparing => ExitStatus::Machine,
            status => status,
        }
    })
}

/// Does what was typed.
fn dispatch(cli: Cli, typed: &[OsString], matches: &ArgMatches) -> Result<ExitStatus, Error> {
    match cli.command {
        None => convert(&cli.convert, typed),
        Some(Command::NToM(args)) => n_to_m(typed, &args.convert, matches),
        Some(Command::Mount(args)) => mount(&args, typed, matches),
        Some(Command::Scripts(args)) => commands::scripts::run(&args),
        Some(Command::Example(args)) => commands::example::run(&args),
        Some(Command::MergeManifest(args)) => commands::merge_manifest::run(&args),
        Some(Command::Inspect(args)) => commands::inspect::run(args),
        Some(Command::Verify(args)) => commands::verify::run(*args),
        Some(Command::Strategy(command)) => commands::strategy::run(command),
        Some(Command::Doctor(args)) => commands::doctor::run(args),
        Some(Command::Families(args)) => commands::families::run(&args),
        Some(Command::Completions { shell }) => commands::completions::run(shell),
        Some(Command::Man(args)) => commands::man::run(&args),
    }
}

/// Prints help, the version, or what is wrong with the options.
fn refused(error: &clap::Error, hint: Option<String>, typed: &[OsString]) -> ExitStatus {
    let text = error.render();
    let (plain, coloured) = (two_letters_in_help(&text.to_string()), two_letters_in_help(&text.ansi().to_string()));
    let pick = |terminal: bool| if terminal && environment::colour() { coloured.as_str() } else { plain.as_str() };
    if error.use_stderr() {
        let text = pick(std::io::stderr().is_terminal()).trim_end();
        report::say(&hint.map_or_else(|| text.to_owned(), |hint| format!("{text}\n{hint}")));
        // `verify` says with 1 that checkpoints differ, and with 2 that it could not compare them.
        let comparing = typed.get(1).is_some_and(|word| word == "verify");
        return if comparing { ExitStatus::Machine } else { ExitStatus::Input };
    }
    let mut out = std::io::stdout();
    match write!(out, "{}", pick(out.is_terminal())).and_then(|()| out.flush()) {
        // A broken pipe on the way to `head` is no failure of ours.
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            let error = Error::Output { published: None, source: e };
            report::say(&diagnostics::render(&error));
            ExitStatus::Machine
        }
        _ => ExitStatus::Done,
    }
}

/// clap takes any word among the options for a command. Mostly it is a part of a value: of a path that has a space.
fn stray_word(error: &clap::Error, typed: &[OsString]) -> Option<(clap::Error, String)> {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    let mut command = definition(false);
    if error.kind() != clap::error::ErrorKind::ArgumentConflict || command.find_subcommand(word).is_some() {
        return None;
    }
    let at = typed.iter().skip(1).position(|typed| typed == word.as_str())?;
    let before = typed[at].to_string_lossy();
    let hint = if several_letters(&before) {
        no_such_option(&before)
    } else {
        let whole = report::plain(&format!("{before} {word}"));
        format!("hint: if it belongs to the value before it, quote both: {}", originals::quoted(&whole))
    };
    let said = format!("unexpected argument '{}' found", report::plain(word));
    Some((command.error(clap::error::ErrorKind::UnknownArgument, said), hint))
}

/// clap names only the first letter of a two-letter option that it does not know.
fn two_letters_hint(error: &clap::Error, typed: &[OsString]) -> Option<String> {
    if error.kind() != clap::error::ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(named)) = error.get(ContextKind::InvalidArg) else { return None };
    // A letter, not a word or a long name.
    let is_letter = named.strip_prefix('-').is_some_and(|letter| letter != "-" && letter.chars().count() == 1);
    let word = typed.iter().skip(1).filter_map(|word| word.to_str());
    let word = word.filter(|_| is_letter).find(|word| word.len() > named.len() && word.starts_with(named))?;
    Some(no_such_option(word))
}

/// Whether a word is one hyphen and several letters.
fn several_letters(word: &str) -> bool {
    word.len() > 2 && word.starts_with('-') && !word.starts_with("--")
}

/// An option's name with one hyphen: clap would take `-dry-run` for `-d ry-run`, and convert.
fn one_hyphen(typed: &[OsString]) -> Option<&str> {
    let words = typed.iter().skip(1).take_while(|word| *word != "--").filter_map(|word| word.to_str());
    words.filter(|word| several_letters(word)).find(|word| long_name(word).is_some_and(|name| name != "--help"))
}

/// The long option that a word with one hyphen names.
fn long_name(word: &str) -> Option<String> {
    fn has(command: &clap::Command, name: &str) -> bool {
        let named = |arg: &clap::Arg| {
            arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
        };
        command.get_arguments().any(named) || command.get_subcommands().any(|command| has(command, name))
    }
    let name = word.strip_prefix('-')?.split('=').next()?;
    has(&definition(false), name).then(|| format!("--{name}"))
}

fn no_such_option(word: &str) -> String {
    if let Some(long) = long_name(word) {
        return format!("hint: it has two hyphens: {long}");
    }
    let known: Vec<&str> = TWO_LETTERS.iter().map(|(short, _)| *short).collect();
    format!("hint: there is no option {}; the options of several letters are {}", report::plain(word), known.join(", "))
}

fn parse(typed: &[OsString]) -> Result<(Cli, ArgMatches), clap::Error> {
    let brief = typed.iter().any(|word| word == "-h");
    let mut command = definition(brief);
    let matches = command.try_get_matches_from_mut(typed)?;
    let cli = Cli::from_arg_matches(&matches).map_err(|e| e.format(&mut command))?;
    Ok((cli, matches))
}

/// What does not go together is said before anything that is missing is wanted: no option mends that.
fn convert(args: &ConvertArgs, typed: &[OsString]) -> Result<ExitStatus, Error> {
    if let Some(job) = job::job(args) {
        job.check()?;
    }
    missing::check(args, typed)?;
    commands::convert::run(args, &environment::read())
}

/// As a conversion.
fn mount(args: &MountArgs, typed: &[OsString], matches: &ArgMatches) -> Result<ExitStatus, Error> {
    if let Some(job) = job::job(&args.convert) {
        job.check()?;
    }
    missing::check(&args.convert, typed)?;
    commands::mount::run(args, matches)
}

/// The simplified form: the conversion that it is short for.
fn n_to_m(typed: &[OsString], args: &ConvertArgs, matches: &ArgMatches) -> Result<ExitStatus, Error> {
    missing::check_n_to_m(args, typed)?;
    let given = |name: &str| {
        let options = matches.subcommand().map(|(_, options)| options);
        options.and_then(|options| options.value_source(name)) == Some(ValueSource::CommandLine)
    };
    let line = originals::n_to_m(typed, args, given)?;
    // Every word of it was accepted before, but for what is put in front.
    let (cli, _) = parse(&line).map_err(|e| Error::Usage(e.to_string()))?;
    commands::convert::run(&cli.convert, &environment::read())
}
