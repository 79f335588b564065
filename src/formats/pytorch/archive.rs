//! The form since PyTorch 1.6: a zip archive with `<name>/data.pkl` and a stored entry `<name>/data/<key>` for each storage.

use super::contents::PytorchFile;
use super::machine::Lent;
use super::zip::Archive;
use super::{machine, state_dict};
use crate::formats::{Budget, FormatError, FormatFault};

/// Entries that only `TorchScript` archives (`torch.jit.save`) have.
const SCRIPT: [&str; 2] = ["constants.pkl", "code/"];

pub(super) fn read(file: &[u8], budget: &Budget) -> Result<PytorchFile, FormatError> {
    let archive = Archive::read(file, budget)?;
    let wrong = |what| FormatError::new(0, FormatFault::NotThisFormat(what));
    // PyTorch's reader takes the first component of the first name for the archive's own.
    let Some((name, _)) = archive.first().and_then(|name| name.split_once('/')) else {
        return Err(wrong("this zip archive is no PyTorch checkpoint: its first entry is in no folder"));
    };
    if SCRIPT.iter().any(|path| archive.names().any(|n| below(n, name).is_some_and(|n| n.starts_with(path)))) {
        let what = "this is a TorchScript archive (torch.jit.save), not a checkpoint: save its `state_dict()` instead";
        return Err(wrong(what));
    }
    let archive = archive.stored()?;
    let inside = |path: &str| archive.get(&format!("{name}/{path}"));
    let Some(data) = inside("data.pkl") else {
        return Err(wrong("this zip archive is no PyTorch checkpoint: it has no `data.pkl`"));
    };
    match inside("byteorder").and_then(|range| range.of(file)) {
        None | Some(b"little") => {}
        Some(b"big") => return Err(wrong("this checkpoint was written on a big-endian machine, which is not read")),
        Some(_) => return Err(wrong("this checkpoint names a byte order that is neither `little` nor `big`")),
    }
    let pickle = machine::run(data.of(file).unwrap_or_default(), data.start(), &mut Lent::of(budget))?;
    state_dict::read(&pickle, data.start(), budget, |storage| inside(&format!("data/{}", storage.key)))
}

/// The name of an entry without the archive's own.
fn below<'n>(entry: &'n str, archive: &str) -> Option<&'n str> {
    entry.strip_prefix(archive)?.strip_prefix('/')
}
