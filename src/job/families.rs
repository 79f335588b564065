//! The user's own families of models.

use std::path::PathBuf;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::model::{FamilyFile, FamilyFileError, registered};
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
