//! What can be wrong with a file's bytes.

use crate::tensor::ShapeError;

/// A fault in a file and the offset at which it was seen. The path is added by the code that opened the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} (at byte {at})")]
pub struct FormatError {
    /// The offset in the file of the field at fault.
    pub at: u64,
    /// What is wrong.
    #[source]
    pub what: FormatFault,
}

impl FormatError {
    /// A fault at an offset.
    pub fn new(at: u64, what: FormatFault) -> Self {
        Self { at, what }
    }
}

/// What is wrong with a file's bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatFault {
    /// The file has no bytes at all.
    #[error("the file is empty")]
    Empty,
    /// A field says that it is longer than what remains of the file.
    #[error("the file is cut short: `{field}` needs {need} bytes, {have} remain")]
    Truncated {
        /// The field that does not fit.
        field: &'static str,
        /// Its length in bytes.
        need: u64,
        /// The bytes that remain.
        have: u64,
    },
    /// The bytes are no valid encoding.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// The bytes are another kind of file than expected.
    #[error("{0}")]
    NotThisFormat(&'static str),
    /// MindSpore's encrypted container.
    #[error(
        "the checkpoint is encrypted ({0}); decrypt it first (`load_checkpoint(dec_key=...)` and `save_checkpoint`)"
    )]
    Encrypted(&'static str),
    /// A count or length beyond any honest file's.
    #[error("`{field}` is {asked}, above the limit of {limit}")]
    LimitExceeded {
        /// The field.
        field: &'static str,
        /// What the file says.
        asked: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// More memory than may be taken for what a header says.
    #[error("its contents take more memory than {}, {allowed} bytes", if *.stated { "--memory allows" } else { "this machine has" })]
    Memory {
        /// Bytes that may be taken.
        allowed: u64,
        /// Whether the user has said so.
        stated: bool,
    },
    /// A required field is not there.
    #[error("`{tensor}` has no `{field}`")]
    Missing {
        /// The tensor.
        tensor: String,
        /// The field.
        field: &'static str,
    },
    /// A dtype that this program does not know.
    #[error("`{tensor}` has the unsupported dtype `{dtype}`")]
    UnsupportedDtype {
        /// The tensor.
        tensor: String,
        /// The dtype as the file spells it.
        dtype: String,
    },
    /// A type of ggml's that is not read.
    #[error("`{tensor}` is {kind}, which is not read (the tensors of the file: {held})")]
    GgmlType {
        /// The tensor.
        tensor: String,
        /// ggml's name of the type.
        kind: String,
        /// How many tensors of which types there are.
        held: String,
    },
    /// A shape that cannot be.
    #[error("`{tensor}`: {source}")]
    BadShape {
        /// The tensor.
        tensor: String,
        /// Why.
        source: ShapeError,
    },
    /// The content is shorter or longer than dtype and dims say.
    #[error("`{tensor}` holds {have} bytes, its dims and dtype need {need}")]
    WrongLength {
        /// The tensor.
        tensor: String,
        /// The bytes that dtype and shape need.
        need: u64,
        /// The bytes that are there.
        have: u64,
    },
    /// One name twice in a file.
    #[error("`{0}` is in the file twice")]
    Duplicate(String),
    /// Bytes of two tensors overlap, or there is a hole between them.
    #[error("the data of `{0}` overlaps another tensor's or leaves a hole")]
    NotContiguous(String),
    /// Bytes after the end of the last tensor.
    #[error("{0} bytes follow the last tensor")]
    TrailingBytes(u64),
    /// The checksum of the file does not match.
    #[error("the CRC-32 of the file is {actual:#010x}, {where_stated} says {stated:#010x}: the file is damaged")]
    CrcMismatch {
        /// What the file says.
        stated: u32,
        /// Where it says so.
        where_stated: &'static str,
        /// What the bytes give.
        actual: u32,
    },
    /// The dtype cannot be expressed in the format to be written.
    #[error("`{tensor}` has the dtype {dtype}, which {format} cannot hold")]
    CannotWrite {
        /// The tensor.
        tensor: String,
        /// Its dtype.
        dtype: &'static str,
        /// The format.
        format: &'static str,
    },
    /// A tensor, name or shape that the format to be written has no way to express.
    #[error("`{tensor}` cannot be written: {why}")]
    CannotExpress {
        /// The tensor or key.
        tensor: String,
        /// What prevents it.
        why: &'static str,
    },
    /// JSON that does not parse, or lacks what it must have.
    #[error("{0}")]
    Json(String),
    /// A layout in a strategy file that contradicts itself.
    #[error("`{param}`: {why}")]
    BadLayout {
        /// The parameter.
        param: String,
        /// What is wrong with its layout.
        why: String,
    },
    /// A pickle that names what is not on the list of `pytorch`.
    #[error(
        "the pickle asks for `{0}`, which no tensor needs; it was not run (save the weights alone: \
         `torch.save(model.state_dict(), path)`)"
    )]
    RefusedGlobal(String),
    /// An opcode that checkpoints do not use.
    #[error("the pickle uses the opcode {code:#04x} ({name}), which checkpoints do not use")]
    RefusedOpcode {
        /// The opcode.
        code: u8,
        /// Its name in Python's `pickle`.
        name: &'static str,
    },
    /// An entry of a zip archive that cannot be read in place.
    #[error("the zip entry `{entry}` {why}")]
    ZipEntry {
        /// Its name.
        entry: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A checkpoint without a dict of tensors.
    #[error("the checkpoint holds no dict of tensors where one is looked for: {0}")]
    NoStateDict(String),
    /// A checkpoint with several dicts of tensors.
    #[error("the checkpoint holds several dicts of tensors ({0}): save the one to be converted alone")]
    SeveralStateDicts(String),
    /// A tensor that is not a plain strided one.
    #[error("`{tensor}` is a {kind}, which is not supported")]
    UnsupportedTensor {
        /// The tensor.
        tensor: String,
        /// Its kind.
        kind: &'static str,
    },
    /// A tensor whose bytes are not in the file.
    #[error("the storage `{storage}` of `{tensor}` is not in the file")]
    MissingStorage {
        /// The tensor.
        tensor: String,
        /// The key of its storage.
        storage: String,
    },
    /// A storage of another length than its elements need.
    #[error("the storage `{storage}` has {have} bytes, which does not fit its {elements} elements")]
    WrongStorage {
        /// The key of the storage.
        storage: String,
        /// How many elements it should have.
        elements: u64,
        /// How many bytes are there.
        have: u64,
    },
    /// A storage that counts its elements in two ways.
    #[error("the storage `{storage}` should have {elements} elements, {have} are there")]
    StorageCount {
        /// The key of the storage.
        storage: String,
        /// How many elements the tensors know of.
        elements: u64,
        /// How many the storage says.
        have: u64,
    },
    /// Strides or an offset that lead out of the storage.
    #[error("`{tensor}` reaches {need} bytes into its storage, which has {have}")]
    OutsideStorage {
        /// The tensor.
        tensor: String,
        /// Where its last element ends.
        need: u64,
        /// The length of the storage in bytes.
        have: u64,
    },
}
