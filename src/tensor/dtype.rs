//! Element types. Their names in files belong to the formats.

use std::fmt;

use super::BlockType;

/// The type of a tensor's elements. All data are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// One byte an element, 0 or 1.
    Bool,
    /// Signed 8-bit integer.
    I8,
    /// Unsigned 8-bit integer.
    U8,
    /// Signed 16-bit integer.
    I16,
    /// Unsigned 16-bit integer.
    U16,
    /// Signed 32-bit integer.
    I32,
    /// Unsigned 32-bit integer.
    U32,
    /// Signed 64-bit integer.
    I64,
    /// Unsigned 64-bit integer.
    U64,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an IEEE 754 single.
    BF16,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
    /// MindSpore's `qint4x2`: stored as one byte for each listed element.
    Int4,
    /// Text as MindSpore's `append_dict` stores it: one UTF-32LE code point an element.
    Str,
    /// Floating-point numbers that are quantised block by block. No file is written so: they are read as singles.
    Blocks(BlockType),
}

impl Dtype {
    /// Of how many elements and bytes the smallest piece is that can be read by itself.
    pub const fn block(self) -> (u64, u64) {
        match self {
            Self::Blocks(kind) => (kind.elements(), kind.bytes()),
            other => (1, other.size()),
        }
    }

    /// The size of one element in bytes, once it is read. How many bytes elements take in a file [`Self::block`] says.
    pub const fn size(self) -> u64 {
        match self {
            Self::Bool | Self::I8 | Self::U8 | Self::Int4 => 1,
            Self::I16 | Self::U16 | Self::F16 | Self::BF16 => 2,
            Self::I32 | Self::U32 | Self::F32 | Self::Str | Self::Blocks(_) => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }

    /// The size of one element as a length in memory.
    pub const fn size_in_memory(self) -> usize {
        match self.size() {
            1 => 1,
            2 => 2,
            4 => 4,
            _ => 8,
        }
    }

    /// Whether the elements are floating-point numbers, so that a precision can be requested.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64 | Self::Blocks(_))
    }

    /// The short name used in reports and the manifest, such as `fp16`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::I8 => "int8",
            Self::U8 => "uint8",
            Self::I16 => "int16",
            Self::U16 => "uint16",
            Self::I32 => "int32",
            Self::U32 => "uint32",
            Self::I64 => "int64",
            Self::U64 => "uint64",
            Self::F16 => "fp16",
            Self::BF16 => "bf16",
            Self::F32 => "fp32",
            Self::F64 => "fp64",
            Self::Int4 => "int4",
            Self::Str => "str",
            Self::Blocks(kind) => kind.name(),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
