//! MindSpore's checksum of a safetensors file: `crc_num` in the metadata.
//!
//! `train/serialization.py`: the CRC-32 over all tensors in the order of their names, of each its name in UTF-8 and then its
//! bytes. Python sorts by code points, as UTF-8 sorts by bytes.

use std::collections::BTreeMap;

use crc_fast::{CrcAlgorithm, Digest};

use crate::formats::{Entry, FormatError, FormatFault};

/// The metadata's key.
pub(super) const KEY: &str = "crc_num";

/// The checksum that the metadata states: decimal digits, which Python's `int` reads with spaces around them too.
pub(super) fn stated(metadata: &BTreeMap<String, String>) -> Result<Option<u32>, FormatError> {
    let Some(text) = metadata.get(KEY) else { return Ok(None) };
    let bad =
        |_| FormatError::new(0, FormatFault::Malformed("`crc_num` in the metadata: it is not a number of 32 bits"));
    text.trim().parse().map(Some).map_err(bad)
}

/// The checksum of a file's tensors. Reads every byte of them, and holds none.
///
/// # Errors
/// Entries that are another file's.
pub fn crc(file: &[u8], entries: &[Entry]) -> Result<u32, FormatError> {
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    let mut digest = Digest::new(CrcAlgorithm::Crc32IsoHdlc);
    for entry in sorted {
        digest.update(entry.name.as_bytes());
        for (_, range) in entry.extents.parts() {
            let (field, need, have) = ("tensor data", range.end(), file.len() as u64);
            let fault = || FormatError::new(range.start(), FormatFault::Truncated { field, need, have });
            digest.update(range.of(file).ok_or_else(fault)?);
        }
    }
    // The crate returns every width as 64 bits; this one has 32.
    Ok(u32::try_from(digest.finalize()).unwrap_or_default())
}
