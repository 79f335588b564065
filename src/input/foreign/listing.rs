//! What a directory holds by name, and what an index says of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::ForeignFault;
use crate::input::InputError;
use crate::input::discover::list_dir;
use crate::sys::{FileError, FileOp};

/// What `torch.save` writes.
pub(super) const TORCH: [&str; 3] = ["bin", "pth", "pt"];
/// llama.cpp's files.
pub(super) const GGUF: &str = "gguf";

/// An index: which file holds which tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignIndex {
    /// The index file.
    pub path: PathBuf,
    /// Tensor name to file name.
    pub map: BTreeMap<String, String>,
}

/// A directory's name, its files and its directories.
pub(super) struct Listing<'a> {
    pub dir: &'a Path,
    pub files: BTreeSet<String>,
    pub dirs: Vec<String>,
}

impl<'a> Listing<'a> {
    pub(super) fn of(dir: &'a Path) -> Result<Self, InputError> {
        let (mut files, mut dirs) = (BTreeSet::new(), Vec::new());
        for (name, is_dir) in list_dir(dir)? {
            if is_dir {
                dirs.push(name);
            } else {
                files.insert(name);
            }
        }
        Ok(Self { dir, files, dirs })
    }

    pub(super) fn fault(&self, fault: ForeignFault) -> InputError {
        InputError::Foreign { path: self.dir.to_owned(), fault }
    }
}

/// Whether a path is that of a directory.
pub(super) fn is_dir(path: &Path) -> Result<bool, InputError> {
    let meta = std::fs::metadata(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => InputError::NotFound(path.to_owned()),
        _ => FileError { op: FileOp::Open, path: path.to_owned(), source }.into(),
    })?;
    Ok(meta.is_dir())
}

/// The extension of a name.
pub(super) fn extension(path: &Path) -> Option<&str> {
    path.extension().and_then(|e| e.to_str())
}
