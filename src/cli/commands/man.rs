//! `man [DIR]`: the manual, from the definition of the command line.

use std::io;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man;

use super::print;
use crate::Error;
use crate::cli::ExitStatus;
use crate::cli::args::{ManArgs, definition, two_letters_in_man};
use crate::sys::{self, FileError, FileOp};

/// Prints the main page, or writes all pages into a directory.
pub(in crate::cli) fn run(args: &ManArgs) -> Result<ExitStatus, Error> {
    let mut command = definition(false).disable_help_subcommand(true);
    command.build();
    let Some(dir) = &args.dir else {
        print(&page(&Man::new(command)).1)?;
        return Ok(ExitStatus::Done);
    };
    sys::create_dir(dir)?;
    let mut written = 0;
    write_all(&command, dir, &mut written)?;
    print(&format!("wrote {written} pages to {}\n", dir.display()))?;
    Ok(ExitStatus::Done)
}

fn write_all(command: &Command, dir: &Path, written: &mut usize) -> Result<(), Error> {
    let (name, text) = page(&Man::new(command.clone()));
    let path: PathBuf = dir.join(name);
    let failed = |source: io::Error| FileError { op: FileOp::Write, path: path.clone(), source };
    std::fs::write(&path, text).map_err(failed)?;
    *written += 1;
    command.get_subcommands().try_for_each(|command| write_all(command, dir, written))
}

/// A page's file name and its text.
fn page(man: &Man) -> (String, String) {
    let mut text = Vec::new();
    // Writing to memory cannot fail.
    let _ = man.render(&mut text);
    (man.get_filename(), two_letters_in_man(&String::from_utf8_lossy(&text)))
}
