//! The command line as clap knows it, with what the derived definition cannot say: the flags for help under a heading, examples
//! and exit statuses, and options of two letters. Help, usage errors, completions and manual pages are all made from it.

use std::fmt::Write;

use clap::{Arg, ArgAction, Command, CommandFactory};

use super::Cli;
use super::two_letters::TWO_LETTERS;

/// Help is no wider than this, however wide the terminal is.
const WIDEST: usize = 100;

const USAGE: &str =
    "ckpt-convert -f <FUNCTION> -p <PRECISION> -sc <PATH> -w <N> [OPTIONS]\n       ckpt-convert <COMMAND>";

/// What each function is for, by example. The commands run in a directory made by `ckpt-convert example`.
pub(in crate::cli) const EXAMPLES: [(&str, &str); 5] = [
    ("Hugging Face to ranks", "-f pt_to_ms -p fp16 -w 4 -sc hf -dc out"),
    ("n ranks to m ranks", "-f distributed_weight_transfer -p fp16 -w 2 -sc out/fp16_4p"),
    ("Training to inference", "-f train_to_infer -p bf16 -w 2 -sc training/checkpoint -ts training/strategy"),
    ("16 bits to int8", "-f quant_weight -p w8a16 -w 4 -sc out/fp16_4p"),
    ("Ranks to Hugging Face", "-f ms_to_pt -p bf16 -sc out/fp16_4p"),
];

/// How the program ends.
pub(in crate::cli) const STATUSES: [(&str, &str); 4] = [
    ("0", "done"),
    ("1", "the input or the options are wrong; verify: the checkpoints differ; doctor: something is wrong"),
    ("2", "the machine failed (disk, memory, permissions), or the program; verify: the comparison failed"),
    ("130", "interrupted; nothing was published"),
];

/// Where to read on.
pub(in crate::cli) const DOCUMENTATION: &str =
    "README.md (Chinese: README.zh-CN.md), docs/en and docs/zh in the source tree";

/// The command line. `brief`: as `-h` shows it, an option a line.
pub(in crate::cli) fn definition(brief: bool) -> Command {
    let command = completed(Cli::command().max_term_width(WIDEST), brief)
        .disable_version_flag(true)
        .override_usage(USAGE)
        .after_help(short_end())
        .after_long_help(long_end())
        .mut_subcommand("mount", |command| {
            command.override_usage(
                "ckpt-convert mount -f <FUNCTION> -p <PRECISION> -sc <PATH> -w <N> [OPTIONS] <MOUNT_POINT>",
            )
        })
        .mut_subcommand("n-to-m", |command| command.override_usage("ckpt-convert n-to-m -w <N> -sc <PATH> [OPTIONS]"));
    let version = Arg::new("version").short('V').long("version").action(ArgAction::Version);
    command.arg(version.help("Print the version").help_heading("Output"))
}

/// A command and those below it, with a flag for help that has a heading.
fn completed(command: Command, brief: bool) -> Command {
    let help = Arg::new("help").short('h').long("help").action(ArgAction::Help).help_heading("Output");
    let help = help.help("Print help; --help prints all of it");
    let command = command.mut_subcommands(|command| completed(command, brief)).disable_help_flag(true);
    // What has no name comes first.
    let first = |arg: Arg| if arg.is_positional() { arg.display_order(0) } else { arg };
    let command = command.next_help_heading(None).mut_args(first).arg(help);
    let plain = |arg: Arg| {
        let valued = arg.get_action().takes_values();
        if valued { arg.hide_possible_values(true).hide_default_value(true) } else { arg }
    };
    if brief { command.mut_args(plain) } else { command }
}

fn short_end() -> String {
    let mut text = "Examples:\n".to_owned();
    for (_, line) in EXAMPLES {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  ckpt-convert {}", line.replace(" -ts", " \\\n    -ts"));
    }
    text.push_str("\nExit status: 0 done, 1 wrong input or options, 2 machine failed, 130 interrupted\n");
    text.push_str("All options (quantising, calibration, several machines, tuning): --help");
    text
}

fn long_end() -> String {
    let mut text = "Examples:\n".to_owned();
    for (what, line) in EXAMPLES {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {what}:\n    ckpt-convert {}", line.replace(" -ts", " \\\n      -ts"));
    }
    text.push_str("\nExit status:\n");
    for (status, what) in STATUSES {
        let _ = writeln!(text, "  {status:<4} {what}");
    }
    text.push_str(
        "\nTwo-letter options:\n  The options of two letters, such as -sc, are those of the original scripts. Each is short for the long name \
         beside it.\n",
    );
    let _ = write!(text, "\nDocumentation:\n  {DOCUMENTATION}");
    text
}

/// Help as clap renders it, with the two-letter options in front of their long names.
pub(in crate::cli) fn two_letters_in_help(text: &str) -> String {
    let line = |line: &str| -> String {
        let Some(rest) = line.strip_prefix("      ") else { return line.to_owned() };
        // The name may be set off by escape sequences.
        let style = if rest.starts_with('\x1b') { rest.find('-').unwrap_or(0) } else { 0 };
        let (style, name) = rest.split_at(style);
        let end = name.find(|c: char| !c.is_alphanumeric() && c != '-' && c != '_').unwrap_or(name.len());
        let Some((short, _)) = TWO_LETTERS.iter().find(|(_, long)| *long == &name[..end]) else {
            return line.to_owned();
        };
        let reset = if style.is_empty() { "" } else { "\x1b[0m" };
        let gap = " ".repeat(4usize.saturating_sub(short.len()));
        format!("{gap}{style}{short}{reset}, {rest}")
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// A manual page as `clap_mangen` makes it, with the two-letter options.
pub(in crate::cli) fn two_letters_in_man(page: &str) -> String {
    TWO_LETTERS.iter().fold(page.to_owned(), |page, (short, long)| {
        let bold = |name: &str| format!("\\fB{}\\fR", name.replace('-', "\\-"));
        page.replace(&format!("\n{}", bold(long)), &format!("\n{}, {}", bold(short), bold(long)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADINGS: [&str; 10] = [
        "What",
        "Where",
        "Model and layout",
        "Files",
        "Training runs",
        "Quantising",
        "Calibration",
        "Several machines",
        "Tuning",
        "Output",
    ];

    fn commands(command: &Command, found: &mut Vec<Command>) {
        found.push(command.clone());
        command.get_subcommands().for_each(|command| commands(command, found));
    }

    #[test]
    fn the_command_line_is_consistent() {
        definition(false).debug_assert();
        definition(true).debug_assert();
    }

    #[test]
    fn every_option_has_a_text_and_a_heading_and_the_headings_come_in_order() {
        let mut all = Vec::new();
        commands(&definition(false), &mut all);
        assert!(all.len() > 10, "{}", all.len());
        for command in all {
            let name = command.get_name().to_owned();
            let mut order = Vec::new();
            for arg in command.get_arguments() {
                let id = arg.get_id();
                let heading = arg.get_help_heading().unwrap_or_else(|| panic!("{name}: {id} has no heading"));
                let at = HEADINGS.iter().position(|known| *known == heading);
                let at = at.unwrap_or_else(|| panic!("{name}: {id} is under {heading:?}"));
                // A heading is where its first option is.
                if !order.contains(&at) {
                    order.push(at);
                }
                let help = arg.get_help().unwrap_or_else(|| panic!("{name}: {id} has no text")).to_string();
                assert!(
                    !help.trim_end_matches("...").ends_with('.')
                        && help.starts_with(|c: char| c.is_uppercase() || c.is_numeric()),
                    "{id}: {help}"
                );
            }
            assert!(order.is_sorted(), "{name}: {order:?}");
            if name == "ckpt-convert" || name == "n-to-m" {
                assert_eq!(order, (0..HEADINGS.len()).collect::<Vec<_>>(), "{name}");
            }
        }
    }

    #[test]
    fn each_two_letter_option_stands_for_an_option_and_is_in_help_and_manual() {
        let mut command = definition(false);
        let help = two_letters_in_help(&command.render_long_help().to_string());
        let coloured = two_letters_in_help(&command.render_long_help().ansi().to_string());
        let mut page = Vec::new();
        clap_mangen::Man::new(definition(false)).render(&mut page).unwrap();
        let page = two_letters_in_man(&String::from_utf8(page).unwrap());
        for (short, long) in TWO_LETTERS {
            let line = format!("{short:>4}, {long} ");
            assert!(help.lines().any(|l| l.starts_with(&line)), "{line}\n{help}");
            assert!(coloured.contains(&format!("{short}\x1b[0m, ")), "{short}");
            let line = format!("\\fB{}\\fR, \\fB{}\\fR", short.replace('-', "\\-"), long.replace('-', "\\-"));
            assert!(page.lines().any(|l| l.starts_with(&line)), "{line}");
        }
    }

    #[test]
    fn an_option_is_a_line_of_the_short_help_at_80_columns() {
        let text = definition(true).term_width(80).render_help().to_string();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.lines().count() <= 60, "{} lines:\n{text}", text.lines().count());
        let shown = definition(true);
        let shown = shown.get_arguments().filter(|arg| !arg.is_hide_short_help_set()).count();
        assert_eq!(
            text.lines().filter(|line| line.trim_start().starts_with('-') && !line.contains("-ts training")).count(),
            shown,
            "{text}"
        );
        for tuning in ["--chunk", "--writer", "--memory"] {
            assert!(!text.contains(tuning), "{text}");
        }
    }
}
