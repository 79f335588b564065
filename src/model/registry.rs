//! The families of a run: those of the program, and the user's.

use std::sync::RwLock;

use super::error::FamilyFileError;
use super::family::{Family, builtin_families, builtin_family};

/// The families that models may be of.
static FAMILIES: RwLock<Option<&'static [&'static Family]>> = RwLock::new(None);

/// The families of which models may be: the program's and the user's. Bases are not among them.
pub fn families() -> &'static [&'static Family] {
    // Nothing that holds the lock can panic.
    let known = *FAMILIES.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    known.unwrap_or_else(|| set(Vec::new()))
}

/// A family of which models may be, by its name.
pub fn family(name: &str) -> Option<&'static Family> {
    families().iter().copied().find(|family| family.name == name)
}

/// A family file of the user's, and what it is called in messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyFile {
    /// The file.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Adds the families of files to those of the program, for all that reads [`families`] from now on. A file may extend families of
/// the files before it. A family with the name of another takes its place; those are returned.
///
/// # Errors
/// What is wrong with a file, or two families with the same `model_type`.
pub fn add_families(files: &[FamilyFile]) -> Result<Vec<String>, FamilyFileError> {
    let mut own: Vec<Family> = Vec::new();
    let mut replaced = Vec::new();
    for file in files {
        let base = |name: &str| {
            own.iter().find(|family| family.name == name).cloned().or_else(|| builtin_family(name).cloned())
        };
        let read = Family::read(&file.name, &file.text, &base)?;
        if base(&read.name).is_some() {
            replaced.push(read.name.clone());
        }
        own.retain(|known| known.name != read.name);
        if let Some((model_type, other)) = shared_type(&read, &own) {
            let why = format!("the family `{other}` has this model type too");
            let place = format!("model_types {model_type}");
            return Err(FamilyFileError::Entry { file: file.name.clone(), place, why });
        }
        own.push(read);
    }
    set(own);
    Ok(replaced)
}

/// A model type of a family that another one has too.
fn shared_type(family: &Family, own: &[Family]) -> Option<(String, String)> {
    let builtin = builtin_families().iter().filter(|known| own.iter().all(|own| own.name != known.name));
    let others = own.iter().chain(builtin).filter(|known| known.name != family.name);
    let shared = |other: &Family| family.model_types.iter().find(|&t| other.model_types.contains(t)).cloned();
    others.into_iter().find_map(|other| Some((shared(other)?, other.name.clone())))
}

fn set(own: Vec<Family>) -> &'static [&'static Family] {
    let builtin = builtin_families().iter().filter(|known| known.has_models());
    let mut all: Vec<&'static Family> = builtin.filter(|known| own.iter().all(|own| own.name != known.name)).collect();
    // A run has one set of families, from its command line to its end.
    all.extend(own.into_iter().map(|family| &*Box::leak(Box::new(family))));
    let all: &'static [&'static Family] = Vec::leak(all);
    *FAMILIES.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(all);
    all
}
