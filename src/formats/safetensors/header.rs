//! Reads safetensors headers: eight bytes of length, JSON, data.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::{INT4_MARK, METADATA, crc, dtype};
use crate::formats::{Budget, Entry, FormatError, FormatFault, json, limits, magic};
use crate::source::{ByteRange, Extents};
use crate::tensor::{Dtype, Shape, TensorName};

/// What a safetensors file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafetensorsFile {
    /// The tensors in the order of their data.
    pub entries: Vec<Entry>,
    /// The `__metadata__` of the header; empty without one.
    pub metadata: BTreeMap<String, String>,
    /// The checksum that MindSpore put into the metadata, if it did. It is not verified: see [`super::crc()`].
    pub crc: Option<u32>,
}

/// Bytes of the header length before the header.
pub(super) const LENGTH_BYTES: usize = 8;

/// Lists the tensors of a safetensors file. `file`: all of its bytes.
///
/// A tensor whose name is in the metadata with the value `Int4` is returned as [`Dtype::Int4`].
///
/// Errors: a damaged header; a name twice; a `crc_num` that is not a number; a dtype that is not supported; data that overlap,
/// leave a hole, are not as long as dtype and shape say, or do not end with the file.
pub fn read(file: &[u8]) -> Result<SafetensorsFile, FormatError> {
    read_head(file, file.len() as u64, &Budget::unlimited())
}

/// Where the header ends of a file that begins so. No more than any header is long.
pub(super) fn header_end(head: &[u8]) -> u64 {
    let length = head.first_chunk::<LENGTH_BYTES>().map_or(0, |length| u64::from_le_bytes(*length));
    LENGTH_BYTES as u64 + length.min(limits::MAX_SAFETENSORS_HEADER)
}

/// As [`read`], of the bytes up to [`header_end`] at least of a file of `len` bytes, with so much memory for what the header lists.
pub(super) fn read_head(head: &[u8], len: u64, budget: &Budget) -> Result<SafetensorsFile, FormatError> {
    let (header, data_start) = header_bytes(head, len)?;
    let mut parser = serde_json::Deserializer::from_slice(header);
    let parsed = HeaderVisitor(budget).deserialize(&mut parser);
    let parsed = parsed.and_then(|parsed| parser.end().map(|()| parsed));
    budget.check().map_err(header_fault)?;
    let header: Header<'_> = parsed.map_err(|error| json::fault(header, LENGTH_BYTES as u64, &error))?;
    let metadata = unique_metadata(header.metadata)?;
    let mut tensors = header.tensors;
    // Stable: of tensors without bytes at one offset the header's order holds.
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let mut seen = HashSet::with_capacity(tensors.len());
    let mut entries = Vec::with_capacity(tensors.len());
    let have = len - data_start;
    let mut end = 0;
    for (name, info) in tensors {
        let name = TensorName::from(name);
        if !seen.insert(name.clone()) {
            return Err(header_fault(FormatFault::Duplicate(name.to_string())));
        }
        let int4 = metadata.get(name.as_str()).is_some_and(|mark| mark == INT4_MARK);
        let entry = info.entry(name, int4, data_start, end)?;
        end = info.data_offsets.1;
        if end > have {
            let (field, at) = ("tensor data", data_start.saturating_add(info.data_offsets.0));
            return Err(FormatError::new(at, FormatFault::Truncated { field, need: end, have }));
        }
        entries.push(entry);
    }
    if have > end {
        return Err(FormatError::new(data_start + end, FormatFault::TrailingBytes(have - end)));
    }
    let crc = crc::stated(&metadata)?;
    Ok(SafetensorsFile { entries, metadata, crc })
}

/// The header's JSON, and where the data begin.
fn header_bytes(file: &[u8], have: u64) -> Result<(&[u8], u64), FormatError> {
    if file.is_empty() {
        return Err(FormatError::new(0, FormatFault::Empty));
    }
    let Some((length, rest)) = file.split_first_chunk::<LENGTH_BYTES>() else {
        let (field, need) = ("header length", LENGTH_BYTES as u64);
        return Err(FormatError::new(0, FormatFault::Truncated { field, need, have }));
    };
    let need = u64::from_le_bytes(*length);
    if !magic::is_safetensors(file) && magic::is_checkpoint(file) {
        let what = "this is a MindSpore .ckpt, not a safetensors file: name it *.ckpt";
        return Err(FormatError::new(0, FormatFault::NotThisFormat(what)));
    }
    let limit = limits::MAX_SAFETENSORS_HEADER;
    if need > limit {
        return Err(FormatError::new(0, FormatFault::LimitExceeded { field: "header length", asked: need, limit }));
    }
    let header = usize::try_from(need).ok().and_then(|need| rest.get(..need));
    let Some(header) = header else {
        let (field, have) = ("header", have - LENGTH_BYTES as u64);
        return Err(FormatError::new(LENGTH_BYTES as u64, FormatFault::Truncated { field, need, have }));
    };
    if header.first() != Some(&b'{') {
        let what = FormatFault::NotThisFormat("this is no safetensors file: its header does not begin with `{`");
        return Err(FormatError::new(LENGTH_BYTES as u64, what));
    }
    Ok((header, LENGTH_BYTES as u64 + need))
}

fn header_fault(what: FormatFault) -> FormatError {
    FormatError::new(LENGTH_BYTES as u64, what)
}

fn unique_metadata(pairs: Option<Pairs>) -> Result<BTreeMap<String, String>, FormatError> {
    let mut metadata = BTreeMap::new();
    for (key, value) in pairs.map(|pairs| pairs.0).unwrap_or_default() {
        if metadata.contains_key(&key) {
            return Err(header_fault(FormatFault::Duplicate(key)));
        }
        metadata.insert(key, value);
    }
    Ok(metadata)
}

/// What the header says of a tensor.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Info<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    #[serde(deserialize_with = "dims")]
    shape: Vec<u64>,
    /// Begin and end, counted from the end of the header.
    data_offsets: (u64, u64),
}

impl Info<'_> {
    /// Checks the tensor against its dtype and against `expected`, the end of the one before it.
    fn entry(&self, name: TensorName, int4: bool, data_start: u64, expected: u64) -> Result<Entry, FormatError> {
        let dtype = match dtype::from_name(&self.dtype) {
            Some(Dtype::I8 | Dtype::U8) if int4 => Dtype::Int4,
            Some(dtype) if !int4 => dtype,
            _ => {
                let (tensor, dtype) = (name.to_string(), self.dtype.chars().take(64).collect());
                return Err(header_fault(FormatFault::UnsupportedDtype { tensor, dtype }));
            }
        };
        let shape = Shape::new(self.shape.as_slice())
            .map_err(|source| header_fault(FormatFault::BadShape { tensor: name.to_string(), source }))?;
        let (begin, end) = self.data_offsets;
        let (Some(have), Some(at)) = (end.checked_sub(begin), data_start.checked_add(begin)) else {
            return Err(header_fault(FormatFault::NotContiguous(name.to_string())));
        };
        let need = shape.bytes(dtype);
        if have != need {
            return Err(header_fault(FormatFault::WrongLength { tensor: name.to_string(), need, have }));
        }
        match ByteRange::new(at, have) {
            Some(range) if begin == expected => Ok(Entry { name, dtype, shape, extents: Extents::contiguous(range) }),
            _ => Err(FormatError::new(at, FormatFault::NotContiguous(name.to_string()))),
        }
    }
}

/// Dimensions, of which no more are kept than a tensor has at the very most, and one more.
fn dims<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    deserializer.deserialize_seq(Dims)
}

struct Dims;

impl<'de> Visitor<'de> for Dims {
    type Value = Vec<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of dimensions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u64>, A::Error> {
        let mut dims = Vec::new();
        while let Some(dim) = seq.next_element()? {
            if dims.len() > limits::MAX_RANK {
                return Err(A::Error::custom("a tensor of too many dimensions"));
            }
            dims.push(dim);
        }
        Ok(dims)
    }
}

/// The header in file order with all duplicates.
struct Header<'a> {
    tensors: Vec<(String, Info<'a>)>,
    metadata: Option<Pairs>,
}

/// The metadata in file order with all duplicates.
struct Pairs(Vec<(String, String)>);

struct HeaderVisitor<'b>(&'b Budget);

impl<'de> DeserializeSeed<'de> for HeaderVisitor<'_> {
    type Value = Header<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Header<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderVisitor<'_> {
    type Value = Header<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header<'de>, A::Error> {
        let (mut tensors, mut metadata) = (Vec::new(), None);
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA {
                if metadata.replace(map.next_value_seed(PairsVisitor(self.0))?).is_some() {
                    return Err(A::Error::custom("`__metadata__` appears in the header twice"));
                }
                continue;
            }
            if name.len() as u64 > limits::MAX_NAME_BYTES || tensors.len() >= limits::MAX_ENTRIES {
                return Err(A::Error::custom("too long a name, or too many tensors"));
            }
            self.0.take(limits::ENTRY_BYTES + name.len() as u64).map_err(A::Error::custom)?;
            tensors.push((name, map.next_value()?));
        }
        Ok(Header { tensors, metadata })
    }
}

struct PairsVisitor<'b>(&'b Budget);

impl<'de> DeserializeSeed<'de> for PairsVisitor<'_> {
    type Value = Pairs;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Pairs, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for PairsVisitor<'_> {
    type Value = Pairs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
        let mut pairs = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            let text = (key.len() + value.len()) as u64;
            self.0.take(limits::JSON_NODE_BYTES + text).map_err(A::Error::custom)?;
            pairs.push((key, value));
        }
        Ok(Pairs(pairs))
    }
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
