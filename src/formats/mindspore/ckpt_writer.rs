//! Writes `.ckpt` files as MindSpore does: canonical protobuf, fields in order, dims unpacked, minimal varints.
//!
//! With padding, an unknown top-level field before a record moves the record's content to a chosen offset within a
//! block. MindSpore skips such fields; it never sees them between the records that it joins, because they are not in
//! the list of values. (Over-long *lengths* of up to 5 bytes load everywhere; over-long keys do not.)

use std::collections::HashSet;

use super::ckpt::TRAILER_TAG;
use super::dtype;
use super::wire::{put_varint, put_varint_of, varint_len};
use crate::formats::{Checksum, ChecksumKind, Encoding, FileLayout, FormatError, FormatFault, TensorToWrite, limits};
use crate::source::ByteRange;
use crate::tensor::Dtype;

/// Key of the padding field: number 15, length-delimited. The highest number that takes one byte, so that a later
/// schema is least likely to claim it.
const PADDING_KEY: u8 = 0x7a;

/// How to write a `.ckpt` file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CkptOptions {
    /// Whether to pad so that contents begin at the [phase](TensorToWrite::phase) that is requested.
    pub padding: bool,
    /// Bytes of content above which a parameter is split over several records. A multiple of
    /// [`FileLayout::BLOCK`] keeps the pieces whole blocks; 0 counts as 1.
    pub slice_bytes: u64,
    /// Whether the file ends in the checksum of all bytes before it.
    pub crc: bool,
}

impl Default for CkptOptions {
    /// No padding, MindSpore's own slices of 512 MiB, no checksum: byte for byte what `save_checkpoint` writes.
    fn default() -> Self {
        Self { padding: false, slice_bytes: 512 << 20, crc: false }
    }
}

/// The segments of a `.ckpt` file that holds the tensors in the given order.
///
/// Errors (at offset 0): a tensor without elements, which MindSpore does not write either; one name twice or too long;
/// a dtype that the format cannot hold.
pub fn layout(tensors: &[TensorToWrite], options: CkptOptions) -> Result<FileLayout, FormatError> {
    let mut file = FileLayout::default();
    let mut names = HashSet::with_capacity(tensors.len());
    let mut at = 0;
    for (index, tensor) in tensors.iter().enumerate() {
        if !names.insert(tensor.name.as_str()) {
            return Err(FormatError::new(0, FormatFault::Duplicate(tensor.name.to_string())));
        }
        at = put_tensor(&mut file, at, index, tensor, options)?;
    }
    if options.crc {
        put_trailer(&mut file, at);
    }
    Ok(file)
}

/// The checksum of all `at` bytes before it: a tag, then a number of ten bytes, the highest first, of which four are used.
fn put_trailer(file: &mut FileLayout, at: u64) {
    let Some(of) = ByteRange::new(0, at) else { return };
    file.literal(TRAILER_TAG);
    file.literal(&[0; 6]);
    file.checksum(Checksum { kind: ChecksumKind::Crc32, of, encoding: Encoding::BigEndian });
}

/// Appends the records of one tensor to a file of `at` bytes and returns its new length.
fn put_tensor(
    file: &mut FileLayout,
    mut at: u64,
    index: usize,
    tensor: &TensorToWrite,
    options: CkptOptions,
) -> Result<u64, FormatError> {
    let parts = Parts::new(tensor)?;
    let total = tensor.shape.bytes(tensor.dtype);
    let slice = options.slice_bytes.max(1);
    let mut done = 0;
    while done < total {
        let length = slice.min(total - done);
        let head = parts.head(length);
        if let Some(phase) = tensor.phase.filter(|_| options.padding) {
            let wanted = (phase % FileLayout::BLOCK + done) % FileLayout::BLOCK;
            let pad = padding_before(at + head.len() as u64, wanted);
            at += pad.len() as u64;
            file.literal(&pad);
        }
        at += head.len() as u64 + length;
        file.literal(&head);
        if let Some(range) = ByteRange::new(done, length) {
            file.data(index, range);
        }
        done += length;
    }
    Ok(at)
}

/// What all records of one tensor have in common.
struct Parts {
    /// The encoded `tag` field.
    tag: Vec<u8>,
    /// The encoded `dims` and `tensor_type` fields.
    kind: Vec<u8>,
}

impl Parts {
    fn new(tensor: &TensorToWrite) -> Result<Self, FormatError> {
        let refuse =
            |why| Err(FormatError::new(0, FormatFault::CannotExpress { tensor: tensor.name.to_string(), why }));
        let name = tensor.name.as_bytes();
        if name.len() as u64 > limits::MAX_NAME_BYTES {
            return refuse("its name is too long");
        }
        if tensor.shape.elements() == 0 {
            return refuse("a .ckpt file cannot hold a tensor without elements");
        }
        let Some(type_name) = dtype::name(tensor.dtype) else {
            let (dtype, format) = (tensor.dtype.name(), "a .ckpt file");
            let tensor = tensor.name.to_string();
            return Err(FormatError::new(0, FormatFault::CannotWrite { tensor, dtype, format }));
        };
        let dims = match (tensor.dtype, tensor.shape.ndim()) {
            (Dtype::Str, 1) => &[0],
            (Dtype::Str, _) => return refuse("a text has one dimension, its code points"),
            _ => tensor.shape.dims(),
        };
        let mut tag = Vec::new();
        put_bytes(&mut tag, 0x0a, name);
        let mut kind = Vec::new();
        for &dim in dims {
            kind.push(0x08);
            put_varint(&mut kind, dim);
        }
        put_bytes(&mut kind, 0x12, type_name.as_bytes());
        Ok(Self { tag, kind })
    }

    /// All of a record that is before its content of `length` bytes.
    fn head(&self, length: u64) -> Vec<u8> {
        let tensor = (self.kind.len() + 1 + varint_len(length)) as u64 + length;
        let value = (self.tag.len() + 1 + varint_len(tensor)) as u64 + tensor;
        let mut head = vec![0x0a];
        put_varint(&mut head, value);
        head.extend_from_slice(&self.tag);
        head.push(0x12);
        put_varint(&mut head, tensor);
        head.extend_from_slice(&self.kind);
        head.push(0x1a);
        put_varint(&mut head, length);
        head
    }
}

fn put_bytes(out: &mut Vec<u8>, key: u8, bytes: &[u8]) {
    out.push(key);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The padding that moves what would be at `at` to an offset that is `wanted` modulo the block.
fn padding_before(at: u64, wanted: u64) -> Vec<u8> {
    let block = FileLayout::BLOCK;
    match (wanted + block - at % block) % block {
        0 => Vec::new(),
        // A field takes two bytes at least.
        1 => padding(block + 1),
        size => padding(size),
    }
}

/// A padding field of exactly `size` bytes, 2 or more. Where no minimal length varint gives the size (one byte too few
/// for the next longer one), an over-long one does.
fn padding(size: u64) -> Vec<u8> {
    let mut out = vec![PADDING_KEY];
    for length_bytes in 1..=5 {
        let payload = size.saturating_sub(1 + length_bytes as u64);
        if varint_len(payload) <= length_bytes {
            put_varint_of(&mut out, payload, length_bytes);
            break;
        }
    }
    // Block-sized: fits any address space.
    out.resize(usize::try_from(size).unwrap_or(out.len()), 0);
    out
}

#[cfg(test)]
#[path = "ckpt_writer_tests.rs"]
mod tests;
