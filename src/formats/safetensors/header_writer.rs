//! Writes safetensors files: tensors in the given order, header entries in the same order, data contiguous.
//!
//! The format allows no gap between tensors, so only the start of the data can be chosen: by spaces at the end of the
//! header, which count as part of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{INT4_MARK, METADATA, dtype};
use crate::formats::{FileLayout, FormatError, FormatFault, TensorToWrite, limits};
use crate::source::ByteRange;
use crate::tensor::Dtype;

/// The data begin at a multiple of this, so that mapped elements are aligned, as the safetensors library does it.
const ALIGNMENT: u64 = 8;

/// The segments of a safetensors file that holds the tensors in the given order. `metadata`: what `__metadata__` shall
/// say, in this order; the marks of `Int4` tensors are added.
///
/// The data begin where most bytes of tensors that ask for a [phase](TensorToWrite::phase) get it.
///
/// Errors (at offset 0): a dtype that the format cannot hold; one name or metadata key twice; a metadata key that is
/// also a tensor's name, with which MindSpore cannot load the file; too large a header.
pub fn layout(tensors: &[TensorToWrite], metadata: &[(String, String)]) -> Result<FileLayout, FormatError> {
    let mut header = header(tensors, metadata)?;
    let unpadded = 8 + header.len() as u64;
    let start = data_start(tensors, unpadded.next_multiple_of(ALIGNMENT));
    let length = start - 8;
    let limit = limits::MAX_SAFETENSORS_HEADER;
    let Some(padded) = usize::try_from(length).ok().filter(|_| length <= limit) else {
        return Err(fault(FormatFault::LimitExceeded { field: "header length", asked: length, limit }));
    };
    header.resize(padded, b' ');
    let mut file = FileLayout::default();
    file.literal(&length.to_le_bytes());
    file.literal(&header);
    for (index, tensor) in tensors.iter().enumerate() {
        if let Some(range) = ByteRange::new(0, tensor.shape.bytes(tensor.dtype)) {
            file.data(index, range);
        }
    }
    Ok(file)
}

fn fault(what: FormatFault) -> FormatError {
    FormatError::new(0, what)
}

/// The JSON of the header, without padding.
fn header(tensors: &[TensorToWrite], metadata: &[(String, String)]) -> Result<Vec<u8>, FormatError> {
    let mut items = Vec::with_capacity(tensors.len() + 1);
    let metadata = all_metadata(tensors, metadata)?;
    if !metadata.is_empty() {
        let pairs: Vec<_> = metadata.iter().map(|(key, value)| format!("{}:{}", quoted(key), quoted(value))).collect();
        items.push(format!("{}:{{{}}}", quoted(METADATA), pairs.join(",")));
    }
    let mut begin = 0u64;
    for tensor in tensors {
        let Some(dtype) = dtype::name(tensor.dtype) else {
            let (dtype, format) = (tensor.dtype.name(), "safetensors");
            return Err(fault(FormatFault::CannotWrite { tensor: tensor.name.to_string(), dtype, format }));
        };
        let Some(end) = begin.checked_add(tensor.shape.bytes(tensor.dtype)) else {
            let why = "the file would be longer than 2^64 bytes";
            return Err(fault(FormatFault::CannotExpress { tensor: tensor.name.to_string(), why }));
        };
        let shape: Vec<_> = tensor.shape.dims().iter().map(u64::to_string).collect();
        items.push(format!(
            r#"{}:{{"dtype":"{dtype}","shape":[{}],"data_offsets":[{begin},{end}]}}"#,
            quoted(&tensor.name),
            shape.join(",")
        ));
        begin = end;
    }
    Ok(format!("{{{}}}", items.join(",")).into_bytes())
}

/// The given metadata and the marks of `Int4` tensors, each key once.
fn all_metadata<'a>(
    tensors: &'a [TensorToWrite],
    metadata: &'a [(String, String)],
) -> Result<Vec<(&'a str, &'a str)>, FormatError> {
    let mut names = HashMap::with_capacity(tensors.len());
    for tensor in tensors {
        let name = tensor.name.as_str();
        if names.insert(name, tensor.dtype).is_some() {
            return Err(fault(FormatFault::Duplicate(name.into())));
        }
        if name == METADATA || name.len() as u64 > limits::MAX_NAME_BYTES {
            let why = "its name is reserved or too long";
            return Err(fault(FormatFault::CannotExpress { tensor: name.into(), why }));
        }
    }
    let mut keys = HashSet::new();
    let mut all = Vec::new();
    for (key, value) in metadata {
        if !keys.insert(key.as_str()) {
            return Err(fault(FormatFault::Duplicate(key.clone())));
        }
        match names.get(key.as_str()) {
            None => {}
            Some(Dtype::Int4) if value == INT4_MARK => {}
            Some(_) => {
                let why = "a metadata key must not be a tensor's name (MindSpore could not load the file)";
                return Err(fault(FormatFault::CannotExpress { tensor: key.clone(), why }));
            }
        }
        all.push((key.as_str(), value.as_str()));
    }
    let int4 = tensors.iter().filter(|tensor| tensor.dtype == Dtype::Int4).map(|tensor| tensor.name.as_str());
    all.extend(int4.filter(|name| !keys.contains(name)).map(|name| (name, INT4_MARK)));
    Ok(all)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The first offset from `least` on that gives most bytes their phase.
fn data_start(tensors: &[TensorToWrite], least: u64) -> u64 {
    let block = FileLayout::BLOCK;
    let mut bytes_of_start = BTreeMap::<u64, u64>::new();
    let mut offset = 0u64;
    for tensor in tensors {
        let length = tensor.shape.bytes(tensor.dtype);
        if let Some(phase) = tensor.phase {
            let wanted = (phase % block + block - offset % block) % block;
            if wanted.is_multiple_of(ALIGNMENT) {
                let bytes = bytes_of_start.entry((wanted + block - least % block) % block).or_default();
                *bytes = bytes.saturating_add(length);
            }
        }
        offset = offset.wrapping_add(length); // `header` has refused a sum beyond 64 bits
    }
    // Of equals the least padding: `max_by_key` returns the last, so the order is turned round.
    let best = bytes_of_start.into_iter().rev().max_by_key(|&(_, bytes)| bytes).filter(|&(_, bytes)| bytes > 0);
    least + best.map_or(0, |(padding, _)| padding)
}

#[cfg(test)]
#[path = "header_writer_tests.rs"]
mod tests;
