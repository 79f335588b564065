//! Reads `.ckpt` files: a sequence of protobuf records without header or index, scanned in place.
//!
//! A file is one `Checkpoint { repeated Value value = 1; }` message. A large parameter is split over adjacent records
//! of one tag; as in MindSpore's loader only the dims of the last one count. Unlike the loader, which loads whatever
//! is there, this one refuses a parameter whose content is not exactly as long as dims and type say.

use std::collections::HashSet;

use super::ckpt_record::Record;
use super::wire::{Fields, Payload, malformed};
use crate::formats::{Budget, Entry, FormatError, FormatFault, limits, magic};
use crate::source::{ByteRange, Extents};
use crate::tensor::{Dtype, Shape, TensorName};

/// What a `.ckpt` file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CkptFile {
    /// The parameters in file order.
    pub entries: Vec<Entry>,
    /// The checksum at the end of the file, if there is one.
    pub crc: Option<CrcTrailer>,
}

/// The checksum that `save_checkpoint(crc_check=True)` appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrcTrailer {
    /// The CRC-32 that the file states.
    pub stated: u32,
    /// How many bytes it covers: all before the trailer.
    pub covered: u64,
}

/// What opens the trailer; a 10-byte big-endian number follows (`train/serialization.py`).
pub(super) const TRAILER_TAG: &[u8; 7] = b"crc_num";

const FILE_FIELDS: &[&str] = &["unknown field", "value"];

/// Lists the parameters of a checkpoint. `file`: all of its bytes.
///
/// A text (`append_dict` with a `str`) is returned as [`Dtype::Str`] with one dimension, the number of code points;
/// dims `[0]` of a numeric parameter mean a scalar. The checksum is not verified: see [`crate::formats::StatedCrc`].
///
/// Errors: no checkpoint, an encrypted one, a damaged or contradictory one. Offsets are those of the field at fault.
pub fn scan(file: &[u8]) -> Result<CkptFile, FormatError> {
    scan_within(file, &Budget::unlimited())
}

/// As [`scan`], with so much memory for what the file lists.
pub fn scan_within(file: &[u8], budget: &Budget) -> Result<CkptFile, FormatError> {
    refuse_other_formats(file)?;
    let crc = find_trailer(file)?;
    let end = crc.map_or(file.len() as u64, |trailer| trailer.covered);
    let end = usize::try_from(end).unwrap_or(file.len());
    let mut fields = Fields::new(file, &(0..end), FILE_FIELDS);
    let mut parameters = Parameters { budget, entries: Vec::new(), seen: HashSet::new(), open: None };
    while let Some(field) = fields.next_field()? {
        match (field.number, field.payload) {
            (1, Payload::Bytes(range)) => parameters.add(Record::read(file, field.at, &range)?)?,
            (1, _) => return Err(malformed(field.at, "checkpoint: `value` is no message")),
            _ => {}
        }
    }
    Ok(CkptFile { entries: parameters.finish()?, crc })
}

/// The CRC-32 of zlib, which `crc_check=True` writes.
pub fn crc32(bytes: &[u8]) -> u32 {
    // The crate returns every width as 64 bits; this one has 32.
    u32::try_from(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, bytes)).unwrap_or_default()
}

fn refuse_other_formats(file: &[u8]) -> Result<(), FormatError> {
    let what = if file.is_empty() {
        FormatFault::Empty
    } else if let Some(cipher) = magic::encryption(file) {
        FormatFault::Encrypted(cipher)
    } else if magic::is_safetensors(file) {
        FormatFault::NotThisFormat("this is a safetensors file, not a MindSpore .ckpt: name it *.safetensors")
    } else if file.starts_with(b"PK\x03\x04") {
        FormatFault::NotThisFormat("this is a zip archive (PyTorch's .pt or .bin?), not a MindSpore .ckpt")
    } else if file.first() == Some(&0x08) {
        FormatFault::NotThisFormat("this is a strategy file (where layouts are given), not a checkpoint")
    } else {
        return Ok(());
    };
    Err(FormatError::new(0, what))
}

/// Like MindSpore's reader: whatever is in the last 17 bytes after `crc_num` is the trailer.
fn find_trailer(file: &[u8]) -> Result<Option<CrcTrailer>, FormatError> {
    let Some((body, number)) = file.split_last_chunk::<10>() else {
        return Ok(None);
    };
    let Some(body) = body.strip_suffix(TRAILER_TAG) else {
        return Ok(None);
    };
    let covered = body.len() as u64;
    let (high, low) = number.split_at(6);
    match <[u8; 4]>::try_from(low) {
        Ok(low) if high.iter().all(|&byte| byte == 0) => {
            Ok(Some(CrcTrailer { stated: u32::from_be_bytes(low), covered }))
        }
        _ => Err(malformed(covered, "CRC trailer: the number has more than 32 bits")),
    }
}

/// The parameters seen so far; the last one may still grow.
struct Parameters<'b> {
    budget: &'b Budget,
    entries: Vec<Entry>,
    seen: HashSet<TensorName>,
    open: Option<Open>,
}

/// The parameter of the last record, to which adjacent records of the same tag add.
struct Open {
    at: u64,
    name: TensorName,
    dtype: Dtype,
    dims: Vec<u64>,
    first_length: u64,
    extents: Extents,
}

impl Parameters<'_> {
    fn add(&mut self, record: Record<'_>) -> Result<(), FormatError> {
        let length = record.content.len() as u64;
        let content = ByteRange::new(record.content.start as u64, length)
            .ok_or_else(|| malformed(record.at, "record: `tensor_content` ends beyond 64 bits"))?;
        if let Some(open) = self.open.as_mut().filter(|open| open.name.as_str() == record.tag) {
            if open.dtype != record.dtype {
                return Err(malformed(record.at, "split parameter: its parts differ in `tensor_type`"));
            }
            self.budget.take_at(record.at, limits::EXTENT_BYTES)?;
            open.dims = record.dims;
            open.extents.push(content);
            return Ok(());
        }
        self.close()?;
        let asked = self.entries.len() as u64 + 1;
        if self.entries.len() >= limits::MAX_ENTRIES {
            let (field, limit) = ("number of parameters", limits::MAX_ENTRIES as u64);
            return Err(FormatError::new(record.at, FormatFault::LimitExceeded { field, asked, limit }));
        }
        self.budget.take_at(record.at, limits::ENTRY_BYTES + record.tag.len() as u64)?;
        let name = TensorName::from(record.tag);
        if !self.seen.insert(name.clone()) {
            return Err(FormatError::new(record.at, FormatFault::Duplicate(record.tag.into())));
        }
        let Record { at, dtype, dims, .. } = record;
        let extents = Extents::contiguous(content);
        self.open = Some(Open { at, name, dtype, dims, first_length: length, extents });
        Ok(())
    }

    fn close(&mut self) -> Result<(), FormatError> {
        if let Some(open) = self.open.take() {
            self.entries.push(open.entry()?);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Entry>, FormatError> {
        self.close()?;
        Ok(self.entries)
    }
}

impl Open {
    fn entry(self) -> Result<Entry, FormatError> {
        let Self { at, name, dtype, dims, first_length, extents } = self;
        let have = extents.len();
        let dims = match (dtype, dims.as_slice()) {
            (Dtype::Str, [] | [0]) => vec![have / dtype.size()],
            (Dtype::Str, _) => return Err(malformed(at, "record: a `str` whose dims are not [0]")),
            // How older releases wrote a scalar. A tensor without elements is never written.
            (_, [0]) => Vec::new(),
            _ => dims,
        };
        let shape = Shape::new(dims)
            .map_err(|source| FormatError::new(at, FormatFault::BadShape { tensor: name.to_string(), source }))?;
        let need = shape.bytes(dtype);
        if have == need {
            return Ok(Entry { name, dtype, shape, extents });
        }
        let tensor = name.to_string();
        // Parts that are each complete are no parts of one parameter.
        let twice = first_length == need && have.checked_rem(need) == Some(0) && have > need;
        let what = if twice { FormatFault::Duplicate(tensor) } else { FormatFault::WrongLength { tensor, need, have } };
        Err(FormatError::new(at, what))
    }
}

#[cfg(test)]
#[path = "ckpt_tests.rs"]
mod tests;
