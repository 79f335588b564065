//! Safetensors by hand: a length, a JSON header, the data.

use serde_json::{Map, Value, json};

use super::Tensor;

const NAMES: [(&str, &str); 14] = [
    ("BOOL", "Bool"),
    ("I8", "Int8"),
    ("U8", "UInt8"),
    ("I16", "Int16"),
    ("U16", "UInt16"),
    ("I32", "Int32"),
    ("U32", "UInt32"),
    ("I64", "Int64"),
    ("U64", "UInt64"),
    ("F16", "Float16"),
    ("BF16", "BFloat16"),
    ("F32", "Float32"),
    ("F64", "Float64"),
    ("F8_E4M3", "Float8E4M3FN"),
];

/// Reads a file. The data must be used up, without overlap or hole.
pub(crate) fn read_safetensors(bytes: &[u8]) -> Vec<Tensor> {
    let (length, rest) = bytes.split_first_chunk::<8>().expect("eight bytes");
    let (header, data) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).expect("a length"));
    let header: Map<String, Value> = serde_json::from_slice(header).expect("a JSON header");
    let mut tensors = Vec::new();
    let mut ranges = Vec::new();
    for (name, info) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        let number = |v: &Value| v.as_u64().expect("a number");
        let offset = |i: usize| usize::try_from(number(&info["data_offsets"][i])).expect("an offset");
        let (from, to) = (offset(0), offset(1));
        ranges.push((from, to));
        let kind = info["dtype"].as_str().expect("a dtype");
        tensors.push(Tensor {
            name: name.clone(),
            dtype: NAMES.iter().find(|(short, _)| *short == kind).expect("a known dtype").1.to_owned(),
            dims: info["shape"].as_array().expect("a shape").iter().map(number).collect(),
            bytes: data[from..to].to_vec(),
        });
    }
    ranges.sort_unstable();
    let end = ranges.iter().fold(0, |at, (from, to)| {
        assert_eq!(at, *from, "no overlap and no hole");
        *to
    });
    assert_eq!(end, data.len(), "the last tensor ends the file");
    tensors
}

/// Writes a file.
pub(crate) fn write_safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let mut header = Map::new();
    let mut data = Vec::new();
    for tensor in tensors {
        let kind = NAMES.iter().find(|(_, long)| *long == tensor.dtype).expect("a known dtype").0;
        let from = data.len();
        data.extend(&tensor.bytes);
        header.insert(
            tensor.name.clone(),
            json!({"dtype": kind, "shape": tensor.dims, "data_offsets": [from, data.len()]}),
        );
    }
    let header = serde_json::to_vec(&header).expect("JSON");
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}
