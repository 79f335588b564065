//! What the pickle machine makes: values in one arena, which refer to each other by number, so that a value that is
//! used a million times is stored once, cycles are harmless, and nothing is freed recursively.

use super::dtype::Element;
use super::globals::Global;

/// The number of a value in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id(pub(super) u32);

/// A value of a pickle.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits, little-endian two's complement.
    Long(&'a [u8]),
    Float,
    Text(&'a str),
    Bytes,
    Tuple(Box<[Id]>),
    List(Vec<Id>),
    /// Any mapping, in the order of insertion, a key that is set twice included.
    Dict(Vec<(Id, Id)>),
    Set,
    Global(Global),
    /// An index into [`Pickle::storages`].
    Storage(u32),
    Tensor(Box<Tensor>),
    /// A tensor of a kind that is not read, and the name of the kind.
    Refused(&'static str),
    /// An object of a harmless class, whose content is of no interest.
    Object(&'static str),
}

impl Value<'_> {
    /// What it is, as Python names it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::Long(_) => "int",
            Self::Float => "float",
            Self::Text(_) => "str",
            Self::Bytes => "bytes",
            Self::Tuple(_) => "tuple",
            Self::List(_) => "list",
            Self::Dict(_) => "dict",
            Self::Set => "set",
            Self::Global(_) => "class or function",
            Self::Storage(_) => "storage",
            Self::Tensor(_) => "tensor",
            Self::Refused(kind) | Self::Object(kind) => kind,
        }
    }

    /// Whether it is a tensor, of whatever kind.
    pub(super) fn is_tensor(&self) -> bool {
        matches!(self, Self::Tensor(_) | Self::Refused(_))
    }
}

/// A storage as the pickle refers to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    /// The type of its elements; `None` for an untyped one, which counts bytes.
    pub(super) element: Option<Element>,
    /// Its name: the entry `data/<key>`, or a key of the legacy form.
    pub(super) key: &'a str,
    /// The number of elements.
    pub(super) numel: u64,
}

impl Storage<'_> {
    /// The bytes that it says it has, or `None` where the size of its elements is unknown or the product overflows.
    pub(super) fn bytes(&self) -> Option<u64> {
        let size = self.element.map_or(Some(1), Element::size)?;
        self.numel.checked_mul(size)
    }
}

/// A tensor as the pickle describes it: nothing is checked against its storage yet.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    /// The offset in the file of the opcode that made it.
    pub(super) at: u64,
    /// An index into [`Pickle::storages`].
    pub(super) storage: u32,
    pub(super) element: Element,
    /// The first element's place in the storage, in elements.
    pub(super) offset: u64,
    pub(super) dims: Vec<u64>,
    /// In elements.
    pub(super) strides: Vec<u64>,
}

/// The outcome of a pickle.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    pub(super) values: Vec<Value<'a>>,
    /// Every reference to a storage, in the order of the pickle.
    pub(super) storages: Vec<Storage<'a>>,
    pub(super) root: Id,
    /// Where in the file the pickle ends.
    pub(super) end: u64,
}

impl<'a> Pickle<'a> {
    /// A value. The machine makes no number without a value.
    pub(super) fn get(&self, id: Id) -> &Value<'a> {
        self.values.get(id.0 as usize).unwrap_or(&Value::None)
    }

    /// The value that the pickle holds.
    pub(super) fn root(&self) -> &Value<'a> {
        self.get(self.root)
    }
}
