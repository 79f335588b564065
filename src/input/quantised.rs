//! Signs of a quantised model beside its tensors: in its configuration, its files' names and its dtypes.

use std::collections::BTreeSet;
use std::path::Path;

use super::discover::list_dir;
use super::{Input, InputError, LoadedFile};
use crate::formats::{FormatError, FormatFault};
use crate::model::{QuantSigns, QuantTool};
use crate::models::SpecError;

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

/// A directory that cannot be listed shows nothing.
fn files_of(dir: &Path, signs: &mut QuantSigns) {
    let names = list_dir(dir).unwrap_or_default();
    names.iter().filter(|(_, is_dir)| !is_dir).for_each(|(name, _)| signs.file(name));
}

fn directory(file: &Path) -> Option<&Path> {
    let dir = file.parent()?;
    Some(if dir.as_os_str().is_empty() { Path::new(".") } else { dir })
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

/// What is wrong with a file's bytes; a dtype of quantised models is no fault of the file's.
pub(super) fn fault(path: &Path, source: FormatError) -> InputError {
    if let FormatFault::UnsupportedDtype { tensor, dtype } = &source.what
        && QuantTool::of_dtype(dtype).is_some()
    {
        let mut signs = QuantSigns::default();
        signs.dtype(tensor, dtype);
        if let Some(dir) = directory(path) {
            files_of(dir, &mut signs);
        }
        return InputError::Quantised { path: path.to_owned(), signs: Box::new(signs), leftover: None };
    }
    InputError::Format { path: path.to_owned(), source: Box::new(source) }
}
