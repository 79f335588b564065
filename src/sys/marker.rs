//! Small files by which processes on several machines notify one another: whole or not there, and made by one only.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::file::{sync_dir, write_small};
use super::file_error::{FileError, FileOp};

/// A name beside `path` that no other process or thread uses.
pub(super) fn beside(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // Machines may have one name, and process numbers are used again: the keys of a hasher are random.
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".tmp-{:016x}-{number}", *PROCESS))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a small file that must not be there yet, with all its content, flushed. `false`: it is there already.
///
/// By a hard link, which is the one thing that even old network file systems do for one caller only; where there are no hard
/// links, by exclusive creation.
///
/// # Errors
/// The system's error.
pub fn create_exclusive(path: &Path, bytes: &[u8]) -> Result<bool, FileError> {
    let error = |op| move |source| FileError { op, path: path.to_owned(), source };
    let made = beside(path);
    write_small(&made, true, |to| to.write_all(bytes))?;
    let linked = std::fs::hard_link(&made, path);
    let _ = std::fs::remove_file(&made);
    match linked {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(error(FileOp::Create)(e)),
        Err(_) => match File::options().write(true).create_new(true).open(path) {
            Ok(mut file) => {
                file.write_all(bytes).and_then(|()| file.sync_data()).map_err(error(FileOp::Write))?;
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(e) => return Err(error(FileOp::Create)(e)),
        },
    }
    sync_dir(parent(path))?;
    Ok(true)
}

/// Gives a small file new content in one step; flushed if `durable`.
///
/// # Errors
/// The system's error; the file is then what it was.
pub fn replace_small(path: &Path, durable: bool, bytes: &[u8]) -> Result<(), FileError> {
    let made = beside(path);
    write_small(&made, durable, |to| to.write_all(bytes))?;
    if let Err(e) = move_over(&made, path) {
        let _ = std::fs::remove_file(&made);
        return Err(e);
    }
    if durable { sync_dir(parent(path)) } else { Ok(()) }
}

/// Renames a file over whatever has the new name. The caller syncs the directory.
///
/// # Errors
/// The system's error.
pub fn move_over(from: &Path, to: &Path) -> Result<(), FileError> {
    #[expect(clippy::disallowed_methods, reason = "this is where files are renamed; the callers sync")]
    std::fs::rename(from, to).map_err(|source| FileError { op: FileOp::Rename, path: to.to_owned(), source })
}
