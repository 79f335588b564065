//! The names that `.ckpt` files give to dtypes (`tensor_type`; case matters).

use crate::tensor::Dtype;

/// Every name that `mindspore` 2.10.0 knows (`tensor_to_ms_type` in `train/serialization.py`).
const NAMES: [(&str, Dtype); 15] = [
    ("Bool", Dtype::Bool),
    ("UInt8", Dtype::U8),
    ("Int8", Dtype::I8),
    ("UInt16", Dtype::U16),
    ("Int16", Dtype::I16),
    ("UInt32", Dtype::U32),
    ("Int32", Dtype::I32),
    ("UInt64", Dtype::U64),
    ("Int64", Dtype::I64),
    ("Float16", Dtype::F16),
    ("BFloat16", Dtype::BF16),
    ("Float32", Dtype::F32),
    ("Float64", Dtype::F64),
    ("str", Dtype::Str),
    ("Int4", Dtype::Int4),
];

/// The dtype of a `tensor_type`, or `None` for a name that MindSpore does not load.
pub(super) fn from_name(name: &[u8]) -> Option<Dtype> {
    NAMES.iter().find(|(known, _)| known.as_bytes() == name).map(|&(_, dtype)| dtype)
}

/// The `tensor_type` of a dtype, or `None` for one that `.ckpt` cannot hold.
pub(super) fn name(dtype: Dtype) -> Option<&'static str> {
    NAMES.iter().find(|&&(_, known)| known == dtype).map(|&(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways_and_case_matters() {
        for (text, dtype) in NAMES {
            assert_eq!(from_name(text.as_bytes()), Some(dtype));
            assert_eq!(name(dtype), Some(text));
        }
        assert_eq!(from_name(b"float32"), None);
        assert_eq!(from_name(b"Float8"), None);
    }
}
