//! `families`: which model families are known, and their files.

use std::path::PathBuf;

use super::{print, print_json};
use crate::Error;
use crate::cli::ExitStatus;
use crate::cli::args::{FamiliesArgs, FamiliesCommand};
use crate::cli::screen::note;
use crate::job::{FamilyListing, add_families, families, family_file};

/// Adds the families of the user's files to those of the program.
pub(in crate::cli) fn register(files: &[PathBuf]) -> Result<(), Error> {
    add_families(files)?.iter().for_each(|replaced| note(replaced));
    Ok(())
}

/// Lists the families, or prints the file of one.
pub(in crate::cli) fn run(args: &FamiliesArgs) -> Result<ExitStatus, Error> {
    match &args.command {
        Some(FamiliesCommand::Show { name, .. }) => print(&family_file(name)?)?,
        None if args.json => print_json(&families())?,
        None => print(&FamilyListing::table(&families()))?,
    }
    Ok(ExitStatus::Done)
}
