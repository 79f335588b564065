//! Trees of files that the program carries, laid out below a directory: nothing is replaced, and all is written or nothing.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::report::list;
use crate::sys::{self, FileError, FileOp};

/// A file of a tree.
pub(super) struct Shipped {
    pub(super) path: &'static str,
    pub(super) bytes: &'static [u8],
    pub(super) mode: u32,
}

/// Files of a folder of the repository, by their paths below it, which are their paths in the tree too.
macro_rules! shipped {
    ($folder:literal, $mode:literal: $($path:literal)*) => {
        [$($crate::cli::commands::shipped::Shipped {
            path: $path,
            bytes: include_bytes!(concat!("../../../", $folder, "/", $path)),
            mode: $mode,
        }),*]
    };
}

pub(super) use shipped;

/// Writes the files below a directory. `beside` are paths that the caller makes afterwards, which must be free too.
pub(super) fn lay_out(dir: &Path, files: &[&Shipped], beside: &[&str]) -> Result<(), Error> {
    let paths = files.iter().map(|file| file.path).chain(beside.iter().copied());
    let there = paths.filter(|path| dir.join(path).symlink_metadata().is_ok());
    let there: Vec<String> = there.map(str::to_owned).collect();
    if !there.is_empty() {
        return Err(Error::Usage(format!(
            "{} has {} already, and nothing was written; name another directory, or remove them first",
            dir.display(),
            list(&there)
        )));
    }
    let mut made = Made::default();
    for file in files {
        if let Err(e) = made.write(&dir.join(file.path), file) {
            made.remove();
            return Err(e.into());
        }
    }
    Ok(())
}

/// What was made so far.
#[derive(Default)]
struct Made {
    dirs: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Made {
    /// Writes a file that is not there yet, and makes the directories above it.
    fn write(&mut self, path: &Path, file: &Shipped) -> Result<(), FileError> {
        self.dirs.extend(path.parent().map(sys::create_dir).transpose()?.unwrap_or_default());
        let error = |source| FileError { op: FileOp::Create, path: path.to_owned(), source };
        let mut to = OpenOptions::new().write(true).create_new(true).mode(file.mode).open(path).map_err(error)?;
        self.files.push(path.to_owned());
        to.write_all(file.bytes).map_err(error)
    }

    /// A part of the tree is of no use to anyone.
    fn remove(self) {
        for file in &self.files {
            let _ = std::fs::remove_file(file);
        }
        sys::remove_empty_dirs(&self.dirs);
    }
}
