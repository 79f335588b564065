//! How the output files shall be written.

use crate::formats::FormatRef;
use crate::tensor::Dtype;

/// The requested precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As in the source.
    Keep,
    /// All floating-point parameters as this dtype.
    To(Dtype),
}

/// How the output files shall be written.
#[derive(Clone, Copy, Debug)]
pub struct PlanOptions {
    /// The precision of weights and biases.
    pub precision: Precision,
    /// The precision of the norms.
    pub norms: Precision,
    /// The format of the output files.
    pub format: FormatRef,
    /// Whether `.ckpt` files get a CRC trailer.
    pub crc: bool,
    /// Whether `.ckpt` files may be padded so that data can be written straight from the mapped source.
    pub padding: bool,
    /// For a target of one rank: write a whole-model directory instead of a rank directory.
    pub whole: Option<WholeModel>,
}

/// A directory that holds a whole model in numbered files, with an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WholeModel {
    /// The most bytes of tensors in a file; a larger tensor has a file of its own.
    pub shard_bytes: u64,
    /// Whose directory it is.
    pub reader: WholeReader,
}

/// The program that reads a whole-model directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WholeReader {
    /// MindSpore: safetensors with a `param_name_map.json`.
    MindSpore,
    /// Hugging Face's transformers.
    HuggingFace,
}
