//! `man [DIR]`: the manual, from the definition of the command line.

use std::io;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::print;
use crate::Error;
use crate::cli::ExitStatus;
use crate::cli::args::{DOCUMENTATION, EXAMPLES, ManArgs, STATUSES, definition, two_letters_in_man};
use crate::sys::{self, FileError, FileOp};

/// Prints the main page, or writes all pages into a directory.
pub(in crate::cli) fn run(args: &ManArgs) -> Result<ExitStatus, Error> {
    let mut command = definition(false).disable_help_subcommand(true);
    command.build();
    let Some(dir) = &args.dir else {
        print(&page(&command).1)?;
        return Ok(ExitStatus::Done);
    };
    sys::create_dir(dir)?;
    let mut written = 0;
    write_all(&command, dir, &mut written)?;
    print(&format!("wrote {written} pages to {}\n", dir.display()))?;
    Ok(ExitStatus::Done)
}

fn write_all(command: &Command, dir: &Path, written: &mut usize) -> Result<(), Error> {
    let (name, text) = page(command);
    let path: PathBuf = dir.join(name);
    let failed = |source: io::Error| FileError { op: FileOp::Write, path: path.clone(), source };
    std::fs::write(&path, text).map_err(failed)?;
    *written += 1;
    command.get_subcommands().try_for_each(|command| write_all(command, dir, written))
}

/// A page's file name and its text.
fn page(command: &Command) -> (String, String) {
    let man = &Man::new(command.clone());
    let mut text = Vec::new();
    // Writing to memory cannot fail.
    let _ = [
        Man::render_title,
        Man::render_name_section,
        Man::render_synopsis_section,
        Man::render_description_section,
        Man::render_options_section,
    ]
    .iter()
    .try_for_each(|section| section(man, &mut text));
    let main = man.get_filename() == "ckpt-convert.1";
    if main || command.has_subcommands() {
        let _ = man.render_subcommands_section(&mut text);
    }
    if main {
        let _ = ends().to_writer(&mut text);
    }
    (man.get_filename(), two_letters_in_man(&String::from_utf8_lossy(&text)))
}

/// Examples, exit statuses and where to read on, a section each.
fn ends() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]);
    for (what, line) in EXAMPLES {
        roff.control("TP", []).text([roman(what)]);
        roff.control("nf", [])
            .text([roman(format!("ckpt-convert {}", line.replace(" -ts", " \\\n  -ts")))])
            .control("fi", []);
    }
    roff.control("SH", ["EXIT STATUS"]);
    for (status, what) in STATUSES {
        roff.control("TP", []).text([roman(status)]).text([roman(what)]);
    }
    roff.control("SH", ["SEE ALSO"]).text([roman(DOCUMENTATION)]);
    roff
}
