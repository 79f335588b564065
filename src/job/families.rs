//! Which families of models are known, and the user's own.

use std::fmt::Write;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::observer::Observer;
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

/// Reads the family files of a job that have not been read yet.
pub(super) fn read_missing(files: &[PathBuf], observer: &dyn Observer) -> Result<(), Error> {
    let is_read = |file: &PathBuf| {
        let name = file.display().to_string();
        registered().iter().any(|known| known.file == Some(name.as_str()))
    };
    if !files.iter().all(is_read) {
        add_families(files)?.iter().for_each(|replaced| observer.note(replaced));
    }
    Ok(())
}

/// A family of models that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FamilyListing {
    /// Its name.
    pub family: String,
    /// The `model_type`s of its models.
    pub model_types: Vec<String>,
    /// The architectures of its models in yamls.
    pub architectures: Vec<String>,
    /// The schemes that have a name for every parameter. One that is inherited may lack some.
    pub schemes: Vec<String>,
    /// The user's file that it is from. `None`: it is built in.
    pub file: Option<String>,
    /// The families that it extends.
    #[serde(skip)]
    pub bases: Vec<String>,
    /// Whether models are of it, and not only of families that extend it.
    #[serde(skip)]
    pub has_models: bool,
    /// What its file says.
    #[serde(skip)]
    pub text: String,
}

/// The families that every job of this process knows, bases of others too.
pub fn known_families() -> Vec<FamilyListing> {
    let listing = |known: &Registered| {
        let family = &known.family;
        let schemes = family.schemes.iter().filter(|scheme| family.is_complete(scheme));
        let mut schemes: Vec<String> = schemes.map(|scheme| scheme.name.clone()).collect();
        schemes.sort_unstable();
        FamilyListing {
            family: family.name.clone(),
            model_types: family.model_types.clone(),
            architectures: family.architectures().map(str::to_owned).collect(),
            schemes,
            file: known.file.map(str::to_owned),
            bases: family.bases().iter().map(ToString::to_string).collect(),
            has_models: family.has_models(),
            text: known.text.to_owned(),
        }
    };
    registered().iter().map(listing).collect()
}

/// The user's family files, and what each says: hosts must have read the same.
pub(super) fn stated(files: &[PathBuf]) -> Value {
    let of = |file: &PathBuf| {
        let name = file.display().to_string();
        let read = registered().iter().find(|known| known.file == Some(name.as_str()));
        let text = read.map_or("", |known| known.text);
        let sum = Sha256::digest(text).iter().fold(String::new(), |mut sum, byte| {
            // Writing to a string cannot fail.
            let _ = write!(sum, "{byte:02x}");
            sum
        });
        json!({ "file": name, "family": read.map(|known| &known.family.name), "sha256": sum })
    };
    files.iter().map(of).collect()
}
