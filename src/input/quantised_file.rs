//! Signs of a quantised model in one file, and among the names of those beside it.

use std::path::Path;

use super::InputError;
use super::discover::list_dir;
use crate::formats::{FormatError, FormatFault};
use crate::model::{QuantSigns, QuantTool};

/// A directory that cannot be listed shows nothing.
pub(super) fn files_of(dir: &Path, signs: &mut QuantSigns) {
    let names = list_dir(dir).unwrap_or_default();
    names.iter().filter(|(_, is_dir)| !is_dir).for_each(|(name, _)| signs.file(name));
}

pub(super) fn directory(file: &Path) -> Option<&Path> {
    let dir = file.parent()?;
    Some(if dir.as_os_str().is_empty() { Path::new(".") } else { dir })
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
