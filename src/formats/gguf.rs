//! Reads GGUF, llama.cpp's container: keys and values, then names, shapes and types of tensors, then their data.
//!
//! Versions 2 and 3, little-endian. The dimensions are listed innermost first, and turned round here.

mod format;

use std::collections::{BTreeMap, HashSet};

use serde_json::Value as Json;

pub use self::format::Gguf;
use super::{Budget, Entry, FormatError, FormatFault, limits, magic};
use crate::source::{ByteRange, Extents};
use crate::tensor::{BlockType, Dtype, Shape, TensorName};

/// What a GGUF file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufFile {
    /// The tensors, in the order of the file's list.
    pub entries: Vec<Entry>,
    /// The metadata. Of an array, and of a long text, only what it is.
    pub metadata: Vec<(String, Json)>,
}

/// Keys of alignment, where a file does not state one.
const ALIGNMENT: u64 = 32;
const ALIGNMENT_KEY: &str = "general.alignment";
/// Bytes of the magic number.
const MAGIC_BYTES: usize = 4;
/// ggml has no tensors of more dimensions.
const MAX_DIMS: u32 = 4;
/// Arrays of arrays are not nested deeper in any file.
const MAX_DEPTH: usize = 4;

/// What ggml calls its types, by their numbers, and what they are here. `None`: it is not read.
const TYPES: [(u32, &str, Option<Dtype>); 34] = [
    (0, "F32", Some(Dtype::F32)),
    (1, "F16", Some(Dtype::F16)),
    (2, "Q4_0", Some(Dtype::Blocks(BlockType::Q4_0))),
    (3, "Q4_1", Some(Dtype::Blocks(BlockType::Q4_1))),
    (6, "Q5_0", Some(Dtype::Blocks(BlockType::Q5_0))),
    (7, "Q5_1", Some(Dtype::Blocks(BlockType::Q5_1))),
    (8, "Q8_0", Some(Dtype::Blocks(BlockType::Q8_0))),
    (9, "Q8_1", None),
    (10, "Q2_K", None),
    (11, "Q3_K", None),
    (12, "Q4_K", Some(Dtype::Blocks(BlockType::Q4K))),
    (13, "Q5_K", Some(Dtype::Blocks(BlockType::Q5K))),
    (14, "Q6_K", Some(Dtype::Blocks(BlockType::Q6K))),
    (15, "Q8_K", None),
    (16, "IQ2_XXS", None),
    (17, "IQ2_XS", None),
    (18, "IQ3_XXS", None),
    (19, "IQ1_S", None),
    (20, "IQ4_NL", None),
    (21, "IQ3_S", None),
    (22, "IQ2_S", None),
    (23, "IQ4_XS", None),
    (24, "I8", Some(Dtype::I8)),
    (25, "I16", Some(Dtype::I16)),
    (26, "I32", Some(Dtype::I32)),
    (27, "I64", Some(Dtype::I64)),
    (28, "F64", Some(Dtype::F64)),
    (29, "IQ1_M", None),
    (30, "BF16", Some(Dtype::BF16)),
    (34, "TQ1_0", None),
    (35, "TQ2_0", None),
    (39, "MXFP4", None),
    (40, "NVFP4", None),
    (41, "Q1_0", None),
];

/// Lists the tensors of a GGUF file. `file`: all of its bytes.
///
/// # Errors
/// A version that is not read; a file that is cut short; a key or name twice; a type that is not read; a shape that cannot be; data
/// that overlap or lie outside the file.
pub fn read(file: &[u8]) -> Result<GgufFile, FormatError> {
    read_within(file, &Budget::unlimited())
}

/// As [`read`], with so much memory for what the file lists.
pub fn read_within(file: &[u8], budget: &Budget) -> Result<GgufFile, FormatError> {
    if !magic::is_gguf(file) {
        return Err(FormatError::new(
            0,
            FormatFault::NotThisFormat("this is no GGUF file: it does not begin with GGUF"),
        ));
    }
    let mut cursor = Cursor { file, at: MAGIC_BYTES, budget };
    match cursor.u32("version")? {
        2 | 3 => {}
        1 => {
            return Err(refused(
                "this is a GGUF file of version 1, which llama.cpp does not read either: convert again",
            ));
        }
        version if matches!(version.swap_bytes(), 1..=3) => {
            return Err(refused("this is a big-endian GGUF file: convert the model again for a little-endian machine"));
        }
        _ => return Err(refused("this is a GGUF file of a version that is not known (2 and 3 are)")),
    }
    let tensors = cursor.count("tensor count", limits::MAX_ENTRIES as u64)?;
    let pairs = cursor.count("metadata count", limits::MAX_GGUF_PAIRS)?;
    let metadata = cursor.metadata(pairs)?;
    let mut infos = Vec::new();
    for _ in 0..tensors {
        infos.push(cursor.tensor()?);
    }
    let alignment = alignment(&metadata)?;
    let start = cursor.at as u64;
    let data = start.checked_next_multiple_of(alignment).unwrap_or(start);
    let entries = entries(&infos, data, file.len() as u64)?;
    Ok(GgufFile { entries, metadata })
}

fn refused(what: &'static str) -> FormatError {
    FormatError::new(MAGIC_BYTES as u64, FormatFault::NotThisFormat(what))
}

fn alignment(metadata: &[(String, Json)]) -> Result<u64, FormatError> {
    let stated = metadata.iter().find(|(key, _)| key == ALIGNMENT_KEY).map(|(_, value)| value.as_u64());
    match stated {
        None => Ok(ALIGNMENT),
        Some(Some(stated)) if (1..=1 << 30).contains(&stated) => Ok(stated),
        Some(_) => Err(FormatError::new(0, FormatFault::Malformed(ALIGNMENT_KEY))),
    }
}

/// A tensor as the file lists it.
struct Info {
    /// Where it is listed.
    at: u64,
    name: TensorName,
    shape: Shape,
    kind: u32,
    /// From the beginning of the data.
    offset: u64,
}

/// The name of a type.
fn type_name(kind: u32) -> String {
    TYPES
        .iter()
        .find(|(number, ..)| *number == kind)
        .map_or_else(|| format!("type {kind}"), |(_, name, _)| (*name).to_owned())
}

/// The tensors with the places of their data, each in the file and none over another.
fn entries(infos: &[Info], data: u64, file: u64) -> Result<Vec<Entry>, FormatError> {
    let dtype_of = |info: &Info| TYPES.iter().find(|(number, ..)| *number == info.kind).and_then(|(.., dtype)| *dtype);
    let mut entries = Vec::with_capacity(infos.len());
    let mut seen = HashSet::with_capacity(infos.len());
    for info in infos {
        let tensor = || info.name.to_string();
        let fault = |what| FormatError::new(info.at, what);
        if !seen.insert(&info.name) {
            return Err(fault(FormatFault::Duplicate(tensor())));
        }
        let Some(dtype) = dtype_of(info) else {
            let (kind, held) = (type_name(info.kind), held(infos));
            return Err(fault(FormatFault::GgmlType { tensor: tensor(), kind, held }));
        };
        let row = info.shape.dims().last().copied().unwrap_or(1);
        if !row.is_multiple_of(dtype.block().0) {
            return Err(fault(FormatFault::Malformed("row of a tensor: it is no whole number of blocks")));
        }
        let need = info.shape.bytes(dtype);
        let range = data.checked_add(info.offset).and_then(|at| ByteRange::new(at, need));
        let Some(range) = range.filter(|range| range.end() <= file) else {
            let have = file.saturating_sub(data.saturating_add(info.offset));
            return Err(fault(FormatFault::Truncated { field: "tensor data", need, have }));
        };
        let (name, shape) = (info.name.clone(), info.shape.clone());
        entries.push(Entry { name, dtype, shape, extents: Extents::contiguous(range) });
    }
    let mut places: Vec<(ByteRange, &Entry)> =
        entries.iter().filter_map(|entry| Some((entry.extents.as_contiguous()?, entry))).collect();
    places.sort_by_key(|(range, _)| *range);
    let overlap = places.windows(2).find(|pair| pair[0].0.end() > pair[1].0.start());
    match overlap {
        Some([_, (range, entry)]) => {
            Err(FormatError::new(range.start(), FormatFault::NotContiguous(entry.name.to_string())))
        }
        _ => Ok(entries),
    }
}

/// What types the tensors have: `61 F32, 210 Q4_1`.
fn held(infos: &[Info]) -> String {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for info in infos {
        *counts.entry(info.kind).or_default() += 1;
    }
    counts.iter().map(|(kind, count)| format!("{count} {}", type_name(*kind))).collect::<Vec<_>>().join(", ")
}

/// Reads a file from front to back.
struct Cursor<'a> {
    file: &'a [u8],
    at: usize,
    budget: &'a Budget,
}

impl<'a> Cursor<'a> {
    fn fault(&self, what: FormatFault) -> FormatError {
        FormatError::new(self.at as u64, what)
    }

    fn take(&mut self, field: &'static str, len: u64) -> Result<&'a [u8], FormatError> {
        let rest = self.file.get(self.at..).unwrap_or_default();
        let taken = usize::try_from(len).ok().and_then(|len| rest.get(..len));
        let Some(taken) = taken else {
            return Err(self.fault(FormatFault::Truncated { field, need: len, have: rest.len() as u64 }));
        };
        self.at += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], FormatError> {
        let bytes = self.take(field, N as u64)?;
        // `take` returns as many as are requested.
        Ok(bytes.first_chunk().copied().unwrap_or([0; N]))
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// A count that is not larger than any honest file's.
    fn count(&mut self, field: &'static str, limit: u64) -> Result<u64, FormatError> {
        let asked = self.u64(field)?;
        if asked > limit {
            return Err(self.fault(FormatFault::LimitExceeded { field, asked, limit }));
        }
        Ok(asked)
    }

    fn text(&mut self, field: &'static str) -> Result<&'a str, FormatError> {
        let len = self.u64(field)?;
        let bytes = self.take(field, len)?;
        str::from_utf8(bytes).map_err(|_| self.fault(FormatFault::Malformed(field)))
    }

    fn name(&mut self, field: &'static str) -> Result<&'a str, FormatError> {
        let name = self.text(field)?;
        let (asked, limit) = (name.len() as u64, limits::MAX_NAME_BYTES);
        if asked > limit {
            return Err(self.fault(FormatFault::LimitExceeded { field, asked, limit }));
        }
        Ok(name)
    }

    fn metadata(&mut self, pairs: u64) -> Result<Vec<(String, Json)>, FormatError> {
        let mut metadata = Vec::new();
        let mut seen = HashSet::new();
        for _ in 0..pairs {
            let key = self.name("metadata key")?;
            if !seen.insert(key) {
                return Err(self.fault(FormatFault::Duplicate(key.to_owned())));
            }
            let kind = self.u32("type of a value")?;
            let value = self.value(kind, 0)?;
            let text = value.as_str().map_or(0, str::len);
            self.budget.take_at(self.at as u64, limits::JSON_NODE_BYTES + (key.len() + text) as u64)?;
            metadata.push((key.to_owned(), value));
        }
        Ok(metadata)
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<Json, FormatError> {
        const FIELD: &str = "metadata value";
        Ok(match kind {
            0 => u8::from_le_bytes(self.array(FIELD)?).into(),
            1 => i8::from_le_bytes(self.array(FIELD)?).into(),
            2 => u16::from_le_bytes(self.array(FIELD)?).into(),
            3 => i16::from_le_bytes(self.array(FIELD)?).into(),
            4 => self.u32(FIELD)?.into(),
            5 => i32::from_le_bytes(self.array(FIELD)?).into(),
            6 => single(f32::from_le_bytes(self.array(FIELD)?)),
            7 => (u8::from_le_bytes(self.array(FIELD)?) != 0).into(),
            8 => {
                let text = self.text(FIELD)?;
                if text.len() as u64 > limits::MAX_GGUF_TEXT {
                    format!("a text of {} bytes", text.len()).into()
                } else {
                    text.into()
                }
            }
            9 => {
                let of = self.u32("type of an array")?;
                let len = self.u64("length of an array")?;
                self.skip(of, len, depth)?;
                format!("an array of {len} values").into()
            }
            10 => self.u64(FIELD)?.into(),
            11 => i64::from_le_bytes(self.array(FIELD)?).into(),
            12 => f64::from_le_bytes(self.array(FIELD)?).into(),
            _ => return Err(self.fault(FormatFault::Malformed("type of a metadata value"))),
        })
    }

    /// Goes on after the values of an array.
    fn skip(&mut self, kind: u32, len: u64, depth: usize) -> Result<(), FormatError> {
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            8 | 9 if depth < MAX_DEPTH => {
                for _ in 0..len {
                    // Each takes 8 bytes at least, so that the file ends the loop.
                    if kind == 8 {
                        let len = self.u64("text of an array")?;
                        self.take("text of an array", len)?;
                    } else {
                        let of = self.u32("type of an array")?;
                        let len = self.u64("length of an array")?;
                        self.skip(of, len, depth + 1)?;
                    }
                }
                return Ok(());
            }
            _ => return Err(self.fault(FormatFault::Malformed("type of an array"))),
        };
        let Some(bytes) = len.checked_mul(size) else {
            return Err(self.fault(FormatFault::Malformed("length of an array")));
        };
        self.take("array", bytes).map(|_| ())
    }

    fn tensor(&mut self) -> Result<Info, FormatError> {
        let at = self.at as u64;
        let name = TensorName::from(self.name("tensor name")?);
        self.budget.take_at(at, limits::ENTRY_BYTES + name.len() as u64)?;
        let dims = self.u32("number of dimensions")?;
        if dims > MAX_DIMS {
            let (asked, limit) = (dims.into(), MAX_DIMS.into());
            return Err(self.fault(FormatFault::LimitExceeded { field: "number of dimensions", asked, limit }));
        }
        let mut shape = Vec::with_capacity(dims as usize);
        for _ in 0..dims {
            shape.push(self.u64("dimensions")?);
        }
        shape.reverse();
        let shape = Shape::new(shape)
            .map_err(|source| FormatError::new(at, FormatFault::BadShape { tensor: name.to_string(), source }))?;
        let kind = self.u32("type of a tensor")?;
        let offset = self.u64("offset of a tensor")?;
        Ok(Info { at, name, shape, kind, offset })
    }
}

/// A single as the shortest decimal that is read as it: 1e-5, where the double would be 9.999999747378752e-6.
fn single(value: f32) -> Json {
    value.to_string().parse::<f64>().map_or(Json::Null, Json::from)
}

#[cfg(test)]
mod tests;
