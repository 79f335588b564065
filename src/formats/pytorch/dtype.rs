//! The names that pickles of PyTorch give to dtypes: classes of storages (`torch.HalfStorage`) and, for the types
//! without such a class, `torch.uint16`.

use crate::tensor::Dtype;

/// The type of a storage's or tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    /// One that this program knows.
    Known(Dtype),
    /// Another one, by its name in PyTorch, with the bytes of an element where one has whole bytes.
    Other(&'static str, Option<u64>),
}

impl Element {
    /// The bytes of one element.
    pub(super) fn size(self) -> Option<u64> {
        match self {
            Self::Known(dtype) => Some(dtype.size()),
            Self::Other(_, size) => size,
        }
    }
}

/// (name of the dtype below `torch`, name of the storage class below `torch`, type).
const NAMES: &[(&str, &str, Element)] = &[
    ("bool", "BoolStorage", Element::Known(Dtype::Bool)),
    ("int8", "CharStorage", Element::Known(Dtype::I8)),
    ("uint8", "ByteStorage", Element::Known(Dtype::U8)),
    ("int16", "ShortStorage", Element::Known(Dtype::I16)),
    ("int32", "IntStorage", Element::Known(Dtype::I32)),
    ("int64", "LongStorage", Element::Known(Dtype::I64)),
    ("float16", "HalfStorage", Element::Known(Dtype::F16)),
    ("bfloat16", "BFloat16Storage", Element::Known(Dtype::BF16)),
    ("float32", "FloatStorage", Element::Known(Dtype::F32)),
    ("float64", "DoubleStorage", Element::Known(Dtype::F64)),
    ("uint16", "", Element::Known(Dtype::U16)),
    ("uint32", "", Element::Known(Dtype::U32)),
    ("uint64", "", Element::Known(Dtype::U64)),
    ("complex64", "ComplexFloatStorage", Element::Other("torch.complex64", Some(8))),
    ("complex128", "ComplexDoubleStorage", Element::Other("torch.complex128", Some(16))),
    ("complex32", "", Element::Other("torch.complex32", Some(4))),
    ("bcomplex32", "", Element::Other("torch.bcomplex32", Some(4))),
    ("qint8", "QInt8Storage", Element::Other("torch.qint8", Some(1))),
    ("quint8", "QUInt8Storage", Element::Other("torch.quint8", Some(1))),
    ("qint32", "QInt32Storage", Element::Other("torch.qint32", Some(4))),
    ("quint4x2", "QUInt4x2Storage", Element::Other("torch.quint4x2", None)),
    ("quint2x4", "QUInt2x4Storage", Element::Other("torch.quint2x4", None)),
    ("float8_e4m3fn", "", Element::Other("torch.float8_e4m3fn", Some(1))),
    ("float8_e4m3fnuz", "", Element::Other("torch.float8_e4m3fnuz", Some(1))),
    ("float8_e5m2", "", Element::Other("torch.float8_e5m2", Some(1))),
    ("float8_e5m2fnuz", "", Element::Other("torch.float8_e5m2fnuz", Some(1))),
    ("float8_e8m0fnu", "", Element::Other("torch.float8_e8m0fnu", Some(1))),
    ("float4_e2m1fn_x2", "", Element::Other("torch.float4_e2m1fn_x2", Some(1))),
    ("bits8", "", Element::Other("torch.bits8", Some(1))),
    ("bits16", "", Element::Other("torch.bits16", Some(2))),
    ("bits1x8", "", Element::Other("torch.bits1x8", Some(1))),
    ("bits2x4", "", Element::Other("torch.bits2x4", Some(1))),
    ("bits4x2", "", Element::Other("torch.bits4x2", Some(1))),
];

/// The type that `torch.<name>` is.
pub(super) fn from_dtype(name: &str) -> Option<Element> {
    NAMES.iter().find(|(dtype, ..)| *dtype == name).map(|&(.., element)| element)
}

/// The type of the elements of the storage class `torch.<name>`.
pub(super) fn from_storage(name: &str) -> Option<Element> {
    NAMES.iter().find(|(_, storage, _)| !storage.is_empty() && *storage == name).map(|&(.., element)| element)
}

/// How a pickle names a dtype: below `torch`, the class of its storage, or the dtype itself where it has none.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spelling {
    Storage(&'static str),
    Dtype(&'static str),
}

/// The spelling of a dtype, or `None` for one that PyTorch does not have.
pub(super) fn spelling(dtype: Dtype) -> Option<Spelling> {
    let &(name, storage, _) = NAMES.iter().find(|(.., element)| *element == Element::Known(dtype))?;
    Some(if storage.is_empty() { Spelling::Dtype(name) } else { Spelling::Storage(storage) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for &(name, storage, element) in NAMES {
            assert_eq!(from_dtype(name), Some(element));
            match (element, storage) {
                (Element::Known(dtype), "") => {
                    assert!(matches!(spelling(dtype), Some(Spelling::Dtype(n)) if n == name));
                }
                (Element::Known(dtype), _) => {
                    assert!(matches!(spelling(dtype), Some(Spelling::Storage(n)) if n == storage));
                    assert_eq!(from_storage(storage), Some(element));
                }
                (Element::Other(text, _), _) => assert_eq!(text, format!("torch.{name}")),
            }
        }
        assert!(from_storage("").is_none() && from_dtype("half").is_none());
        assert!(spelling(Dtype::Int4).is_none() && spelling(Dtype::Str).is_none());
    }
}
