//! Signs of a quantised model beside its tensors: in its configuration and its files' names.

use std::collections::BTreeSet;
use std::path::Path;

use super::quantised_file::{directory, files_of};
use super::{Input, InputError, LoadedFile};
use crate::model::{QuantSigns, SpecError};

/// The signs among the files beside those of a checkpoint.
pub fn quantised_files(input: &Input) -> QuantSigns {
    let mut signs = QuantSigns::default();
    beside(&input.files, &mut signs);
    signs
}

fn beside(files: &[LoadedFile], signs: &mut QuantSigns) {
    let dirs: BTreeSet<&Path> = files.iter().filter_map(|file| directory(file.mapping.path())).collect();
    for dir in dirs {
        files_of(dir, signs);
    }
}

/// A configuration that says that the model is quantised: with what else shows it, and whether the tensors do.
pub(super) fn by_config(path: &Path, files: &[LoadedFile], error: InputError) -> InputError {
    let InputError::Model { source: SpecError::Quantised { field, method }, .. } = &error else { return error };
    let mut signs = QuantSigns::default();
    signs.config(field, method.as_deref());
    beside(files, &mut signs);
    let entries = || files.iter().flat_map(|file| &file.entries);
    entries().for_each(|entry| signs.name(&entry.name));
    let floating = entries().all(|entry| entry.dtype.is_float() && !QuantSigns::is_one(&entry.name));
    InputError::Quantised { path: path.to_owned(), signs: Box::new(signs), leftover: floating.then(|| field.clone()) }
}
