//! `families`: which model families are known, and their files.

use std::fmt::Write;
use std::path::PathBuf;

use super::{print, show};
use crate::Error;
use crate::cli::ExitStatus;
use crate::cli::args::{FamiliesArgs, FamiliesCommand};
use crate::cli::screen::note;
use crate::job::{FamilyListing, add_families, known_families};

/// Adds the families of the user's files to those of the program.
pub(in crate::cli) fn register(files: &[PathBuf]) -> Result<(), Error> {
    add_families(files)?.iter().for_each(|replaced| note(replaced));
    Ok(())
}

/// Lists the families, or prints the file of one.
pub(in crate::cli) fn run(args: &FamiliesArgs) -> Result<ExitStatus, Error> {
    match &args.command {
        Some(FamiliesCommand::Show { name, .. }) => print(&shown(name)?)?,
        None => show(args.json, &listed(), table)?,
    }
    Ok(ExitStatus::Done)
}

/// The families of which models are.
fn listed() -> Vec<FamilyListing> {
    let mut listed = known_families();
    listed.retain(|known| known.file.is_some() || known.has_models);
    listed.sort_by(|a, b| (a.file.is_some(), &a.family).cmp(&(b.file.is_some(), &b.family)));
    listed
}

fn table() -> String {
    let heads = ["family", "model types", "schemes", "from"].map(str::to_owned);
    let row = |known: FamilyListing| {
        let from = known.file.unwrap_or_else(|| "built in".to_owned());
        [known.family, known.model_types.join(", "), known.schemes.join(", "), from]
    };
    let rows: Vec<[String; 4]> = std::iter::once(heads).chain(listed().into_iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for [family, types, schemes, from] in &rows {
        let [a, b, c] = widths;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{family:a$}  {types:b$}  {schemes:c$}  {from}");
    }
    text
}

/// The file of a family as it was read, and which families it extends: it can be given to --family as it is.
fn shown(name: &str) -> Result<String, Error> {
    let known = known_families();
    let Some(FamilyListing { mut text, bases, .. }) = known.iter().find(|known| known.family == name).cloned() else {
        let names: Vec<&str> = known.iter().map(|known| known.family.as_str()).collect();
        return Err(Error::Usage(format!("there is no family `{name}`; there are {}", names.join(", "))));
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if !bases.is_empty() {
        let _ = writeln!(text, "\n# Extends: {}. `ckpt-convert families show` prints them too.", bases.join(", "));
    }
    Ok(text)
}
