//! Tensors as they lie in a file: PyTorch's strided views of storages.

use super::value::{Storage, Tensor};
use crate::formats::{Entry, FormatError, FormatFault};
use crate::source::{ByteRange, Extents};
use crate::tensor::{Dtype, Shape, TensorName};

/// A tensor of a PyTorch checkpoint: a strided view of a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorView {
    /// The key in the state dict.
    pub name: TensorName,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its dimensions.
    pub shape: Shape,
    /// How far apart neighbours along each axis are, in elements, outermost first; `None` where the elements lie in
    /// row-major order without a gap. A stride of 0 repeats the same elements, so [`shape`](Self::shape) says nothing
    /// about the bytes in the file then.
    ///
    /// With [`Piece::new`](crate::layout::Piece::new) over the whole shape, offset 0 and these strides, and its move to
    /// the dense piece, scaled by the element size, a view is copied from the start of [`span`](Self::span).
    pub strides: Option<Vec<u64>>,
    /// The bytes of the file from its first element to its last, those of others in between included. Empty where the
    /// tensor is. It lies within [`storage`](Self::storage).
    pub span: ByteRange,
    /// The bytes of the storage, which other tensors may share.
    pub storage: ByteRange,
}

impl TensorView {
    /// The tensor as other formats list it, or `None` where its elements are strided.
    pub fn entry(&self) -> Option<Entry> {
        self.strides.is_none().then(|| Entry {
            name: self.name.clone(),
            dtype: self.dtype,
            shape: self.shape.clone(),
            extents: Extents::contiguous(self.span),
        })
    }

    /// Checks a tensor against the bytes of its storage.
    pub(super) fn place(
        name: &str,
        tensor: &Tensor,
        storage: &Storage<'_>,
        bytes: ByteRange,
    ) -> Result<Self, FormatError> {
        let fault = |what| FormatError::new(tensor.at, what);
        let (dtype, size) = match tensor.element {
            super::dtype::Element::Known(dtype) => (dtype, dtype.size()),
            super::dtype::Element::Other(dtype, _) => {
                return Err(fault(FormatFault::UnsupportedDtype { tensor: name.into(), dtype: dtype.into() }));
            }
        };
        let have = bytes.len();
        if storage.bytes() != Some(have) {
            let (storage, elements) = (storage.key.into(), storage.numel);
            return Err(fault(FormatFault::WrongStorage { storage, elements, have }));
        }
        let shape = Shape::new(tensor.dims.as_slice())
            .map_err(|source| fault(FormatFault::BadShape { tensor: name.into(), source }))?;
        if tensor.strides.len() != shape.ndim() {
            return Err(fault(FormatFault::Missing { tensor: name.into(), field: "stride for each axis" }));
        }
        let outside = |need| fault(FormatFault::OutsideStorage { tensor: name.into(), need, have });
        let span = if shape.elements() == 0 {
            ByteRange::new(bytes.start(), 0)
        } else {
            let last = last_element(tensor).ok_or_else(|| outside(u64::MAX))?;
            // Elements of a range that fits in 64 bits of bytes.
            let end = last.checked_add(1).and_then(|n| n.checked_mul(size)).ok_or_else(|| outside(u64::MAX))?;
            if end > have {
                return Err(outside(end));
            }
            let start = tensor.offset * size;
            ByteRange::new(bytes.start() + start, end - start)
        };
        let span = span.ok_or_else(|| outside(u64::MAX))?;
        let strides = (!is_dense(&shape, &tensor.strides)).then(|| tensor.strides.clone());
        Ok(Self { name: name.into(), dtype, shape, strides, span, storage: bytes })
    }
}

/// The place in its storage of the last element of a tensor that has elements.
fn last_element(tensor: &Tensor) -> Option<u64> {
    tensor.dims.iter().zip(&tensor.strides).try_fold(tensor.offset, |at, (dim, stride)| {
        let steps = dim.saturating_sub(1).checked_mul(*stride)?;
        at.checked_add(steps)
    })
}

/// Whether the elements lie in row-major order without a gap: the stride of an axis of one element does not matter.
fn is_dense(shape: &Shape, strides: &[u64]) -> bool {
    shape.elements() == 0
        || shape.dims().iter().zip(strides).zip(shape.strides()).all(|((&dim, &is), dense)| dim == 1 || is == dense)
}
