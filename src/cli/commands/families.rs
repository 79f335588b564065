//! `families`: which model families are known, and their files.

use std::fmt::Write;
use std::path::PathBuf;

use serde_json::json;

use super::{print, print_json};
use crate::Error;
use crate::cli::ExitStatus;
use crate::cli::args::{FamiliesArgs, FamiliesCommand};
use crate::cli::screen::note;
use crate::job::add_families;
use crate::model::{Registered, registered};

/// Adds the families of the user's files to those of the program.
pub(in crate::cli) fn register(files: &[PathBuf]) -> Result<(), Error> {
    add_families(files)?.iter().for_each(|replaced| note(replaced));
    Ok(())
}

/// Lists the families, or prints the file of one.
pub(in crate::cli) fn run(args: &FamiliesArgs) -> Result<ExitStatus, Error> {
    match &args.command {
        Some(FamiliesCommand::Show { name, .. }) => print(&shown(name)?)?,
        None if args.json => print_json(&listed().map(in_json).collect::<serde_json::Value>())?,
        None => print(&table())?,
    }
    Ok(ExitStatus::Done)
}

/// The families of which models are.
fn listed() -> impl Iterator<Item = &'static Registered> {
    let mut listed: Vec<&Registered> =
        registered().iter().filter(|known| known.file.is_some() || known.family.has_models()).collect();
    listed.sort_by_key(|known| (known.file.is_some(), &known.family.name));
    listed.into_iter()
}

/// The schemes that have a name for every parameter of the family. One that is inherited may lack some.
fn schemes(known: &Registered) -> Vec<&str> {
    let schemes = known.family.schemes.iter().filter(|scheme| known.family.is_complete(scheme));
    let mut names: Vec<&str> = schemes.map(|scheme| scheme.name.as_str()).collect();
    names.sort_unstable();
    names
}

fn in_json(known: &Registered) -> serde_json::Value {
    json!({
        "family": known.family.name,
        "model_types": known.family.model_types,
        "architectures": known.family.architectures().collect::<Vec<_>>(),
        "schemes": schemes(known),
        "file": known.file,
    })
}

fn table() -> String {
    let heads = ["family", "model types", "schemes", "from"].map(str::to_owned);
    let row = |known: &Registered| {
        let from = known.file.unwrap_or("built in").to_owned();
        [known.family.name.clone(), known.family.model_types.join(", "), schemes(known).join(", "), from]
    };
    let rows: Vec<[String; 4]> = std::iter::once(heads).chain(listed().map(row)).collect();
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
    let Some(known) = registered().iter().find(|known| known.family.name == name) else {
        let names: Vec<&str> = registered().iter().map(|known| known.family.name.as_str()).collect();
        return Err(Error::Usage(format!("there is no family `{name}`; there are {}", names.join(", "))));
    };
    let mut text = known.text.to_owned();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let bases = known.family.bases();
    if !bases.is_empty() {
        let _ = writeln!(text, "\n# Extends: {}. `ckpt-convert families show` prints them too.", bases.join(", "));
    }
    Ok(text)
}
