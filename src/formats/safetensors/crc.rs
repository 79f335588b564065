//! MindSpore's checksum of a safetensors file: `crc_num` in the metadata.
//!
//! `train/serialization.py`: the CRC-32 over all tensors in the order of their names, of each its name in UTF-8 and then its
//! bytes. Python sorts by code points, as UTF-8 sorts by bytes.

use std::collections::BTreeMap;

use crate::formats::{Entry, FormatError, FormatFault, Summed};

/// The metadata's key.
pub(super) const KEY: &str = "crc_num";

/// The checksum that the metadata states: decimal digits, which Python's `int` reads with spaces around them too.
pub(super) fn stated(metadata: &BTreeMap<String, String>) -> Result<Option<u32>, FormatError> {
    let Some(text) = metadata.get(KEY) else { return Ok(None) };
    let bad =
        |_| FormatError::new(0, FormatFault::Malformed("`crc_num` in the metadata: it is not a number of 32 bits"));
    text.trim().parse().map(Some).map_err(bad)
}

/// What the checksum of a file of `len` bytes is the sum of: names and bytes of its tensors, in the order of the names.
///
/// # Errors
/// Entries that are another file's.
pub fn summed(len: u64, entries: &[Entry]) -> Result<Summed, FormatError> {
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    let mut summed = Summed::default();
    for entry in sorted {
        summed.literal(entry.name.as_bytes());
        for (_, range) in entry.extents.parts() {
            summed.range("tensor data", *range, len)?;
        }
    }
    Ok(summed)
}
