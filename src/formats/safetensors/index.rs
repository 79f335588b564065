//! Index files of checkpoints that are spread over several safetensors files: Hugging Face's
//! `model.safetensors.index.json` and MindSpore's `param_name_map.json`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::formats::json::{self, Node};
use crate::formats::{FormatError, FormatFault};

/// Reads an index: which file holds which tensor. `json`: all bytes of the file.
///
/// Both `{"metadata": {..}, "weight_map": {name: file}}` and the bare `{name: file}` of older MindSpore releases are
/// read.
///
/// Errors: no such JSON; a name twice; a file name that could lead out of the directory.
pub fn read(json: &[u8]) -> Result<BTreeMap<String, String>, FormatError> {
    let tree = json::tree(json)?;
    let Node::Map(pairs) = tree else {
        return Err(bad("the index is no JSON object".into()));
    };
    let nested = pairs.iter().position(|(key, value)| key == "weight_map" && matches!(value, Node::Map(_)));
    let pairs = match nested.map(|at| pairs.get(at)) {
        Some(Some((_, Node::Map(inner)))) => inner.clone(),
        _ => pairs,
    };
    pairs.into_iter().map(pair).collect()
}

/// Writes an index in the given order, indented by four spaces as MindSpore does. `total_size`: bytes of all tensors.
///
/// # Panics
/// Never: strings and a number into memory always serialize.
pub fn write(map: &[(String, String)], total_size: u64) -> Vec<u8> {
    let index = Index { metadata: Metadata { total_size }, weight_map: InOrder(map) };
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    index.serialize(&mut serializer).expect("strings and a number into memory always serialize");
    out
}

fn bad(what: String) -> FormatError {
    FormatError::new(0, FormatFault::Json(what))
}

fn pair((name, file): (String, Node)) -> Result<(String, String), FormatError> {
    let Node::Text(file) = file else {
        return Err(bad(format!("the index gives no file name for `{name}`")));
    };
    let leaves = file.is_empty() || file.contains(['/', '\\', '\0']) || file.contains("..") || file == ".";
    if leaves {
        return Err(bad(format!("the index names {file:?} for `{name}`: not a plain file name")));
    }
    Ok((name, file))
}

#[derive(Serialize)]
struct Index<'a> {
    metadata: Metadata,
    weight_map: InOrder<'a>,
}

#[derive(Serialize)]
struct Metadata {
    total_size: u64,
}

struct InOrder<'a>(&'a [(String, String)]);

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, file) in self.0 {
            map.serialize_entry(name, file)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &[u8] = include_bytes!("../../../tests/data/formats/param_name_map.json");

    #[test]
    fn mindspores_map_is_read_and_written_back_byte_for_byte() {
        let map = read(GOLDEN).unwrap();
        assert_eq!(map.len(), 21);
        assert!(map.values().all(|file| file == "part0.safetensors"));
        // The order of the file, which `read` does not keep.
        let text = std::str::from_utf8(GOLDEN).unwrap();
        let mut ordered: Vec<_> = map.into_iter().collect();
        ordered.sort_by_key(|(name, _)| text.find(&format!("\"{name}\"")));
        assert_eq!(write(&ordered, 213_632), GOLDEN);
    }

    #[test]
    fn a_bare_map_is_read() {
        let map = read(br#"{"a":"x.safetensors","weight_map":"y.safetensors"}"#).unwrap();
        assert_eq!(map["a"], "x.safetensors");
        assert_eq!(map["weight_map"], "y.safetensors");
    }

    #[test]
    fn hostile_indices_are_refused() {
        for json in [
            r#"{"weight_map":{"a":"../x"}}"#,
            r#"{"weight_map":{"a":"/etc/passwd"}}"#,
            r#"{"weight_map":{"a":"x\\y"}}"#,
            r#"{"weight_map":{"a":"x\u0000"}}"#,
            r#"{"weight_map":{"a":".."}}"#,
            r#"{"weight_map":{"a":""}}"#,
            r#"{"weight_map":{"a":1}}"#,
            r#"{"weight_map":{"a":"x","a":"y"}}"#,
            r#"{"weight_map":["a"]}"#,
            r#"{"a":{"b":"c"}}"#,
            "[]",
            "",
        ] {
            assert!(read(json.as_bytes()).is_err(), "{json}");
        }
    }
}
