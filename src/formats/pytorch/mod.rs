//! PyTorch's checkpoints: what `torch.save` writes and `torch.load(weights_only=True)` reads.
//!
//! Two containers exist: a zip archive with one pickle and an entry for each storage, and the form before PyTorch 1.6,
//! a row of pickles followed by the storages. The pickle is a program; the machine here knows a fixed list of
//! functions and classes, none of which does anything but describe a tensor, and refuses everything else by name.
//!
//! Invariants: nothing is run, no storage is read, no tensor is left out in silence. Facts come from `torch` 2.15
//! (`serialization.py`, `_weights_only_unpickler.py`, `_utils.py`) and from files that it wrote.

mod archive;
mod contents;
mod dtype;
mod format;
mod globals;
mod legacy;
mod machine;
mod opcodes;
mod pickle_writer;
mod rebuild;
mod state_dict;
mod value;
mod view;
mod zip;
mod zip_writer;

pub use contents::{Other, PytorchFile};
pub use format::Pytorch;
pub use view::TensorView;
pub use zip_writer::layout;

use self::machine::Lent;
use super::{Budget, FormatError, FormatFault, magic};
use crate::source::ByteRange;

/// Lists the tensors of a PyTorch checkpoint. `file`: all of its bytes.
///
/// The state dict is the checkpoint itself, or is under `state_dict`, `model`, `module` or `model_state_dict`, at
/// most two of them deep. CRC-32s of the archive are not verified (PyTorch does not either).
///
/// Errors: no checkpoint, a damaged or contradictory one; `TorchScript`, the tar form of PyTorch 0.1, big-endian data;
/// a pickle that names anything outside the fixed list; no state dict, or several; a tensor that is sparse, quantised,
/// of another dtype, or reaches out of its storage. Offsets are those of the opcode or field at fault.
pub fn read(file: &[u8]) -> Result<PytorchFile, FormatError> {
    read_within(file, &Budget::unlimited())
}

/// As [`read`], with so much memory for what the pickle and the archive list.
pub fn read_within(file: &[u8], budget: &Budget) -> Result<PytorchFile, FormatError> {
    let what = if file.is_empty() {
        FormatFault::Empty
    } else if magic::is_tar(file) {
        FormatFault::NotThisFormat("this is PyTorch's tar form of 2016, which is not read: save it again with PyTorch")
    } else if magic::is_zip(file) {
        return archive::read(file, budget);
    } else if magic::is_pickle(file) {
        return legacy::read(file, budget);
    } else {
        FormatFault::NotThisFormat("this is no PyTorch checkpoint: neither a zip archive nor a pickle")
    };
    Err(FormatError::new(0, what))
}

/// Runs the restricted pickle machine alone, for fuzzing: returns how many bytes the pickle takes.
///
/// Errors: as [`read`] gives them for the pickle in a checkpoint.
pub fn run_pickle(bytes: &[u8]) -> Result<u64, FormatError> {
    machine::run(bytes, 0, &mut Lent::of(&Budget::unlimited())).map(|pickle| pickle.end)
}

/// Reads the directory of a zip archive alone, for fuzzing: the names of its entries and where their bytes lie.
///
/// Errors: as [`read`] gives them for the archive.
pub fn archive_entries(file: &[u8]) -> Result<Vec<(&str, ByteRange)>, FormatError> {
    let archive = zip::Archive::read(file, &Budget::unlimited())?.stored()?;
    Ok(archive.names().filter_map(|name| Some((name, archive.get(name)?))).collect())
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
