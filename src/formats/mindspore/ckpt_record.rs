//! One `Value` of a `.ckpt` file: tag, dims, `tensor_type` and where the content lies.
//!
//! Schema (`checkpoint.proto`): `Value { string tag = 1; TensorProto tensor = 2; MapTensorProto maptensor = 3; }`,
//! `TensorProto { repeated int64 dims = 1; string tensor_type = 2; bytes tensor_content = 3; }`.

use std::ops::Range;

use super::dtype;
use super::wire::{Field, Fields, Payload, malformed};
use crate::formats::{FormatError, FormatFault, limits};
use crate::tensor::{Dtype, ShapeError};

const VALUE_FIELDS: &[&str] = &["unknown field", "tag", "tensor", "maptensor"];
const TENSOR_FIELDS: &[&str] = &["unknown field", "dims", "tensor_type", "tensor_content"];

/// A record: a whole parameter, or a part of a split one.
#[derive(Debug)]
pub(super) struct Record<'a> {
    /// Offset of the tensor message.
    pub(super) at: u64,
    pub(super) tag: &'a str,
    pub(super) dtype: Dtype,
    /// As they are in the file; a part but the last may lack them.
    pub(super) dims: Vec<u64>,
    /// Where the bytes lie in the file.
    pub(super) content: Range<usize>,
}

impl<'a> Record<'a> {
    /// Reads the `Value` message at `range` of the file. Fields may be in any order.
    pub(super) fn read(file: &'a [u8], at: u64, range: &Range<usize>) -> Result<Self, FormatError> {
        let mut fields = Fields::new(file, range, VALUE_FIELDS);
        let (mut tag, mut tensor, mut map) = (None, None, None);
        while let Some(field) = fields.next_field()? {
            match field.number {
                1 => once(&mut tag, field, "record: `tag` twice or not text")?,
                2 => once(&mut tensor, field, "record: `tensor` twice or no message")?,
                3 => once(&mut map, field, "record: `maptensor` twice or no message")?,
                _ => {}
            }
        }
        let Some(tag) = tag else {
            return Err(malformed(at, "record: no `tag`"));
        };
        let tag = name(file, at, tag)?;
        if map.is_some() {
            let dtype = "MapTensor (a hash-map parameter)".into();
            return Err(FormatError::new(at, FormatFault::UnsupportedDtype { tensor: tag.into(), dtype }));
        }
        let tensor = tensor.ok_or_else(|| missing(at, tag, "tensor"))?;
        Self::read_tensor(file, tag, &tensor)
    }

    fn read_tensor(file: &'a [u8], tag: &'a str, range: &Range<usize>) -> Result<Self, FormatError> {
        let at = range.start as u64;
        let mut fields = Fields::new(file, range, TENSOR_FIELDS);
        let (mut dims, mut kind, mut content) = (Vec::new(), None, None);
        while let Some(field) = fields.next_field()? {
            match (field.number, field.payload) {
                (1, Payload::Varint(dim)) => push_dim(&mut dims, field.at, tag, dim)?,
                (1, Payload::Bytes(packed)) => {
                    let mut numbers = Fields::new(file, &packed, TENSOR_FIELDS);
                    while let Some(dim) = numbers.next_packed("dims")? {
                        push_dim(&mut dims, field.at, tag, dim)?;
                    }
                }
                (1, Payload::Skipped) => {
                    return Err(malformed(field.at, "record: `dims` is no number"));
                }
                (2, payload) => {
                    let field = Field { payload, ..field };
                    once(&mut kind, field, "record: `tensor_type` twice or not text")?;
                }
                (3, payload) => {
                    let field = Field { payload, ..field };
                    once(&mut content, field, "record: `tensor_content` twice or no bytes")?;
                }
                _ => {}
            }
        }
        let kind = kind.ok_or_else(|| missing(at, tag, "tensor_type"))?;
        let content = content.ok_or_else(|| missing(at, tag, "tensor_content"))?;
        let kind = file.get(kind).unwrap_or_default();
        let Some(dtype) = dtype::from_name(kind) else {
            let shown = kind.get(..64).unwrap_or(kind); // enough of it for a message
            let dtype = String::from_utf8_lossy(shown).into_owned();
            return Err(FormatError::new(at, FormatFault::UnsupportedDtype { tensor: tag.into(), dtype }));
        };
        Ok(Self { at, tag, dtype, dims, content })
    }
}

fn once(slot: &mut Option<Range<usize>>, field: Field, what: &'static str) -> Result<(), FormatError> {
    match field.payload {
        Payload::Bytes(range) if slot.is_none() => {
            *slot = Some(range);
            Ok(())
        }
        _ => Err(malformed(field.at, what)),
    }
}

fn name(file: &[u8], at: u64, range: Range<usize>) -> Result<&str, FormatError> {
    let asked = range.len() as u64;
    if asked > limits::MAX_NAME_BYTES {
        let (field, limit) = ("tag", limits::MAX_NAME_BYTES);
        return Err(FormatError::new(at, FormatFault::LimitExceeded { field, asked, limit }));
    }
    let start = range.start as u64;
    std::str::from_utf8(file.get(range).unwrap_or_default()).map_err(|_| malformed(start, "record: `tag` is not UTF-8"))
}

fn push_dim(dims: &mut Vec<u64>, at: u64, tag: &str, dim: u64) -> Result<(), FormatError> {
    if i64::try_from(dim).is_err() {
        return Err(malformed(at, "record: a negative dimension"));
    }
    dims.push(dim);
    if dims.len() > limits::MAX_RANK {
        let source = ShapeError::TooManyDimensions(dims.len());
        return Err(FormatError::new(at, FormatFault::BadShape { tensor: tag.into(), source }));
    }
    Ok(())
}

fn missing(at: u64, tag: &str, field: &'static str) -> FormatError {
    FormatError::new(at, FormatFault::Missing { tensor: tag.into(), field })
}
