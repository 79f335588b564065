//! The families of a run: those of the program, and the user's.

use std::sync::{PoisonError, RwLock};

use super::builtin_families::{builtin_families, builtin_family};
use super::error::{FamilyFileError, FamilyFileErrors};
use super::family::Family;
use super::texts::builtin_text;

/// A family file of the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyFile {
    /// What it is called in messages.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A family of a run.
#[derive(Clone, Copy, Debug)]
pub struct Registered {
    /// The family.
    pub family: &'static Family,
    /// Its file, as it was read.
    pub text: &'static str,
    /// The name of the user's file; `None` for a family of the program.
    pub file: Option<&'static str>,
}

#[derive(Clone, Copy)]
struct Registry {
    /// Bases too.
    all: &'static [Registered],
    /// Those of which models are.
    models: &'static [&'static Family],
}

static REGISTRY: RwLock<Option<Registry>> = RwLock::new(None);

/// The families of which models may be: the program's and the user's. Bases are not among them.
pub fn families() -> &'static [&'static Family] {
    registry().models
}

/// A family of which models may be, by its name.
pub fn family(name: &str) -> Option<&'static Family> {
    families().iter().copied().find(|family| family.name == name)
}

/// All families, bases too, and their files.
pub fn registered() -> &'static [Registered] {
    registry().all
}

fn registry() -> Registry {
    // Nothing that holds the lock can panic.
    let known = *REGISTRY.read().unwrap_or_else(PoisonError::into_inner);
    known.unwrap_or_else(|| set(Vec::new()))
}

/// Adds the families of files to those of the program, for all that reads [`families`] from now on. A file may extend families of
/// the files before it. A family with the name of one of the program takes its place; their names are returned.
///
/// # Errors
/// All that is wrong with the files; two families with the same `model_type`.
pub fn add_families(files: &[FamilyFile]) -> Result<Vec<String>, FamilyFileErrors> {
    let mut own: Vec<(Family, FamilyFile)> = Vec::new();
    let mut errors = Vec::new();
    for file in files {
        let known = |name: &str| own.iter().find(|(family, _)| family.name == name).map(|(family, _)| family.clone());
        match Family::read(&file.name, &file.text, &|name| known(name).or_else(|| builtin_family(name).cloned())) {
            Ok(family) => {
                own.retain(|(known, _)| known.name != family.name);
                own.push((family, file.clone()));
            }
            Err(found) => errors.extend(found.0),
        }
    }
    for (family, file) in &own {
        if let Some((model_type, other)) = shared_type(family, &own) {
            errors.push(FamilyFileError::SameType { file: file.name.clone(), model_type, other });
        }
    }
    if !errors.is_empty() {
        return Err(FamilyFileErrors(errors));
    }
    let replaced = own.iter().filter(|(family, _)| builtin_family(&family.name).is_some());
    let replaced = replaced.map(|(family, _)| family.name.clone()).collect();
    set(own);
    Ok(replaced)
}

/// A model type of a family that another one has too.
fn shared_type(family: &Family, own: &[(Family, FamilyFile)]) -> Option<(String, String)> {
    let builtin = builtin_families().iter().filter(|known| own.iter().all(|(own, _)| own.name != known.name));
    let others = own.iter().map(|(family, _)| family).chain(builtin).filter(|known| known.name != family.name);
    let shared = |other: &Family| family.model_types.iter().find(|&t| other.model_types.contains(t)).cloned();
    others.into_iter().find_map(|other| Some((shared(other)?, other.name.clone())))
}

/// A run has one set of families, from its command line to its end: the user's are read once and never let go.
fn set(own: Vec<(Family, FamilyFile)>) -> Registry {
    let builtin = builtin_families().iter().filter(|known| own.iter().all(|(own, _)| own.name != known.name));
    let builtin = builtin.map(|family| Registered { family, text: builtin_text(&family.name), file: None });
    let mut all: Vec<Registered> = builtin.collect();
    all.extend(own.into_iter().map(|(family, file)| Registered {
        family: Box::leak(Box::new(family)),
        text: String::leak(file.text),
        file: Some(String::leak(file.name)),
    }));
    let models = all.iter().filter(|known| known.file.is_some() || known.family.has_models()).map(|known| known.family);
    let registry = Registry { models: Vec::leak(models.collect()), all: Vec::leak(all) };
    *REGISTRY.write().unwrap_or_else(PoisonError::into_inner) = Some(registry);
    registry
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The registry is one for the whole process, so tests of what it holds run the program.
    #[test]
    fn two_families_of_one_model_type_are_an_error() {
        let file = |name: &str, text: &str| FamilyFile { name: name.to_owned(), text: text.to_owned() };
        let mine = file("mine.yaml", "family: mine\nextends: dense\nmodel_types: [mine, qwen3]\n");
        let found = add_families(std::slice::from_ref(&mine)).unwrap_err().to_string();
        assert_eq!(found, "the family file `mine.yaml`: the model type `qwen3` is that of the family `qwen3` too");
        let broken = file("broken.yaml", "family: [\n");
        let found = add_families(&[mine, broken]).unwrap_err().0;
        assert_eq!(found.len(), 2, "all of what is wrong with all files: {found:?}");
        // Of the tables, too.
        let mut seen = std::collections::BTreeSet::new();
        for family in builtin_families() {
            for model_type in &family.model_types {
                assert!(seen.insert(model_type), "{model_type} is of two families");
            }
        }
    }
}
