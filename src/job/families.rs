//! The families of models: which there are, and the user's own.

use std::fmt::Write;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::model::{FamilyFile, FamilyFileError, Registered, registered};
use crate::sys::read_small;

/// More than any family file has.
const LIMIT: u64 = 1 << 20;

/// Adds the families of files to those that every job of this process knows. Returns, as sentences, which of the program's own
/// they replace.
///
/// # Errors
/// A file that cannot be read, and each line of it that is wrong.
pub fn add_families(files: &[PathBuf]) -> Result<Vec<String>, Error> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let read = |path: &PathBuf| -> Result<FamilyFile, Error> {
        let name = path.display().to_string();
        let text = String::from_utf8(read_small(path, LIMIT)?).map_err(|e| {
            let line = e.as_bytes()[..e.utf8_error().valid_up_to()].split(|byte| *byte == b'\n').count();
            let why = format!("line {line} is not UTF-8; save the file as UTF-8");
            Error::Families(FamilyFileError::Unreadable { file: name.clone(), why }.into())
        })?;
        Ok(FamilyFile { name, text })
    };
    let files: Vec<FamilyFile> = files.iter().map(read).collect::<Result<_, _>>()?;
    let replaced = crate::model::add_families(&files)?;
    let known = registered().iter().filter(|known| replaced.contains(&known.family.name));
    let said = known.filter_map(|known| {
        Some(format!("the family {} is that of {}, not the built-in one", known.family.name, known.file?))
    });
    Ok(said.collect())
}

/// A family of models.
#[derive(Clone, Debug, Serialize)]
pub struct FamilyListing {
    /// Its name.
    pub family: String,
    /// The `model_type`s of a `config.json`.
    pub model_types: Vec<String>,
    /// The architectures of mindformers' yamls.
    pub architectures: Vec<String>,
    /// The kinds of checkpoints of which it knows the names of all parameters.
    pub schemes: Vec<String>,
    /// The user's file; `None` for a family of the program.
    pub file: Option<String>,
}

impl FamilyListing {
    /// Several as a table.
    pub fn table(all: &[Self]) -> String {
        let heads = ["family", "model types", "schemes", "from"].map(str::to_owned);
        let row = |listed: &Self| {
            let from = listed.file.clone().unwrap_or_else(|| "built in".to_owned());
            [listed.family.clone(), listed.model_types.join(", "), listed.schemes.join(", "), from]
        };
        let rows: Vec<[String; 4]> = std::iter::once(heads).chain(all.iter().map(row)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let [a, b, c] = [0, 1, 2].map(width);
        let mut text = String::new();
        for [family, types, schemes, from] in &rows {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{family:a$}  {types:b$}  {schemes:c$}  {from}");
        }
        text
    }
}

/// The families of which models may be, the program's and those that were added.
pub fn families() -> Vec<FamilyListing> {
    let mut known: Vec<&Registered> =
        registered().iter().filter(|known| known.file.is_some() || known.family.has_models()).collect();
    known.sort_by_key(|known| (known.file.is_some(), &known.family.name));
    let listed = |known: &Registered| {
        let family = known.family;
        // One that is inherited may lack names.
        let complete = family.schemes.iter().filter(|scheme| family.is_complete(scheme));
        let mut schemes: Vec<String> = complete.map(|scheme| scheme.name.clone()).collect();
        schemes.sort_unstable();
        FamilyListing {
            family: family.name.clone(),
            model_types: family.model_types.clone(),
            architectures: family.architectures().map(str::to_owned).collect(),
            schemes,
            file: known.file.map(str::to_owned),
        }
    };
    known.into_iter().map(listed).collect()
}

/// The file of a family as it was read, and at its end which families it extends. It can be given to [`add_families`] as it is.
///
/// # Errors
/// A family that is not there.
pub fn family_file(name: &str) -> Result<String, Error> {
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
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\n# Extends: {}. `ckpt-convert families show` prints them too.", bases.join(", "));
    }
    Ok(text)
}

/// The user's family files, and what each says: hosts must have read the same.
pub(super) fn stated(files: &[PathBuf]) -> Value {
    let of = |file: &PathBuf| {
        let name = file.display().to_string();
        let read = registered().iter().find(|known| known.file == Some(name.as_str()));
        let text = read.map_or("", |known| known.text);
        let sum: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        json!({ "file": name, "family": read.map(|known| &known.family.name), "sha256": sum })
    };
    files.iter().map(of).collect()
}
