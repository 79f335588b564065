//! `completions SHELL`: what makes a shell complete the options.

use clap_complete::Shell;

use super::print;
use crate::Error;
use crate::cli::ExitStatus;
use crate::cli::args::{TWO_LETTERS, definition};

/// Prints the completions of a shell.
pub(in crate::cli) fn run(shell: Shell) -> Result<ExitStatus, Error> {
    let mut script = Vec::new();
    let mut command = definition(false);
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    print(&match shell {
        Shell::Bash => bash(&script),
        Shell::Zsh => zsh(&script),
        Shell::Fish => fish(&script),
        _ => script,
    })?;
    Ok(ExitStatus::Done)
}

fn bash(script: &str) -> String {
    // clap_complete (issue 6421 of clap) writes the hyphen of our name in two ways, and then finds no command. It takes apart the
    // names of files that have spaces; bash's own completion, which follows where there is no reply, does not.
    let script = script
        .replace("ckpt__subcmd__convert", "ckpt__convert")
        .replace("COMPREPLY=($(compgen -f \"${cur}\"))", "COMPREPLY=()");
    TWO_LETTERS.iter().fold(script, |script, (short, long)| {
        script
            .replace(&format!(" {long})\n"), &format!(" {long}|{short})\n"))
            .replace(&format!(" {long} "), &format!(" {short} {long} "))
    })
}

fn zsh(script: &str) -> String {
    const END: &str = " \\\n";
    let mut specs = Vec::new();
    for spec in script.split(END) {
        let of = TWO_LETTERS.iter().find_map(|(short, long)| Some((short, spec.strip_prefix(&format!("'{long}="))?)));
        if let Some((short, rest)) = of {
            specs.push(format!("'{short}=[{rest}", rest = rest.trim_start_matches('[')));
        }
        specs.push(spec.to_owned());
    }
    specs.join(END)
}

fn fish(script: &str) -> String {
    // What was typed before is read by fish's argparse, which knows the long names only, and refuses an option whose value is yet
    // to come: then fish would complete nothing.
    let typed = "    set -e cmd[1]\n";
    let known = TWO_LETTERS.iter().fold(typed.to_owned(), |text, (short, long)| {
        text + &format!("    set cmd (string replace -r -- '^{short}(?==|$)' '{long}' $cmd)\n")
    });
    let parsed = "argparse -s (__fish_ckpt_convert_global_optspecs) -- $cmd";
    let script = script.replace(typed, &known).replace(
        &format!("{parsed} 2>/dev/null\n"),
        &format!("{parsed} 2>/dev/null\n    or {parsed} '' 2>/dev/null\n"),
    );
    TWO_LETTERS.iter().fold(script, |script, (short, long)| {
        let (name, old) = (format!(" -l {} ", &long[2..]), &short[1..]);
        script.replace(&name, &format!(" -o {old}{name}"))
    })
}
