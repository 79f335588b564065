//! The file that `--stats` names.

use std::path::Path;

use super::InputError;
use crate::formats::{FormatError, FormatFault, safetensors};
use crate::plan::{STATISTICS_VERSION, Statistics};
use crate::sys::read_small;

/// The largest file that is read. Those of a 70B model have some 40 MiB.
const MAX_STATISTICS: u64 = 1 << 30;

/// Reads statistics of activations: safetensors as `docs/en/statistics.md` describes them.
///
/// # Errors
/// A file that is not readable, not of the format, or of another version.
pub fn load_statistics(path: &Path) -> Result<Statistics, InputError> {
    if path.symlink_metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        return Err(InputError::NotFound(path.to_owned()));
    }
    let bytes = read_small(path, MAX_STATISTICS)?;
    let format = |source: FormatError| InputError::Format { path: path.to_owned(), source: source.into() };
    let file = safetensors::read(&bytes).map_err(format)?;
    let stated = |key: &str| file.metadata.get(key).map(String::as_str);
    if stated("format") != Some("ckpt-convert.statistics") || stated("version") != Some(STATISTICS_VERSION) {
        let what = FormatFault::NotThisFormat("statistics of version 1 (docs/en/statistics.md)");
        return Err(format(FormatError::new(0, what)));
    }
    Statistics::new(&file.entries, &bytes)
        .map_err(|source| InputError::Statistics { path: path.to_owned(), source: source.into() })
}
