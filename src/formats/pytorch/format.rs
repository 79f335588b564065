//! PyTorch's checkpoints as one of the formats.

use super::read_within;
use super::view::TensorView;
use super::zip_writer::layout;
use crate::formats::format::{Format, Of, ScanError, Scanned, Writing, whole};
use crate::formats::{Budget, Entry, FileLayout, FormatError, TensorToWrite, magic};
use crate::source::Extents;
use crate::storage::Blob;

/// PyTorch's zip archive or its legacy form.
#[derive(Debug)]
pub struct Pytorch;

impl Format for Pytorch {
    fn title(&self) -> &'static str {
        "PyTorch"
    }

    fn extension(&self) -> &'static str {
        "bin"
    }

    fn begins(&self, file: &[u8]) -> bool {
        magic::is_pytorch(file)
    }

    fn scan(&self, file: &dyn Blob, budget: &Budget) -> Result<Scanned, ScanError> {
        let found = read_within(whole(file, budget, &mut Vec::new())?, budget)?;
        let mut strides = Vec::with_capacity(found.tensors.len());
        let mut entries = Vec::with_capacity(found.tensors.len());
        for TensorView { name, dtype, shape, strides: steps, span, .. } in found.tensors {
            entries.push(Entry { name, dtype, shape, extents: Extents::contiguous(span) });
            strides.push(steps);
        }
        let others = found.others.into_iter().map(|other| (other.name, other.kind)).collect();
        Ok(Scanned { entries, strides, others, ..Scanned::default() })
    }

    fn layout(&self, tensors: &[TensorToWrite], _how: Writing) -> Result<FileLayout, FormatError> {
        layout(tensors)
    }

    fn of(&self) -> Of {
        Of::PyTorch
    }

    fn stem(&self) -> &'static str {
        "pytorch_model"
    }
}
