//! The names that safetensors headers give to dtypes.

use crate::tensor::Dtype;

/// Every name of the format that has a MindSpore dtype. (MindSpore does not read `F8_*`.)
const NAMES: [(&str, Dtype); 13] = [
    ("BOOL", Dtype::Bool),
    ("I8", Dtype::I8),
    ("U8", Dtype::U8),
    ("I16", Dtype::I16),
    ("U16", Dtype::U16),
    ("I32", Dtype::I32),
    ("U32", Dtype::U32),
    ("I64", Dtype::I64),
    ("U64", Dtype::U64),
    ("F16", Dtype::F16),
    ("BF16", Dtype::BF16),
    ("F32", Dtype::F32),
    ("F64", Dtype::F64),
];

/// The dtype of a name.
pub(super) fn from_name(name: &str) -> Option<Dtype> {
    NAMES.iter().find(|(known, _)| *known == name).map(|&(_, dtype)| dtype)
}

/// The name of a dtype. `Int4` is stored as `I8` and marked in the metadata; text has no name.
pub(super) fn name(dtype: Dtype) -> Option<&'static str> {
    let stored = if dtype == Dtype::Int4 { Dtype::I8 } else { dtype };
    NAMES.iter().find(|&&(_, known)| known == stored).map(|&(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for (text, dtype) in NAMES {
            assert_eq!(from_name(text), Some(dtype));
            assert_eq!(name(dtype), Some(text));
        }
        assert_eq!(name(Dtype::Int4), Some("I8"));
        assert_eq!(name(Dtype::Str), None);
        assert_eq!(from_name("F8_E4M3"), None);
    }
}
