//! What is done to elements on their way: ops, one after the other.
//!
//! An op knows an element by its row and column in the tensor that it goes into, wherever it comes from. What an op takes beside
//! the element (a scale, a row of a factor) it reads from an operand of the plan, which has that tensor's rows and columns.

use super::ids::OperandId;
use crate::tensor::{BlockType, Dtype};

/// One op of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Conversion to another floating-point type, to nearest even.
    Cast {
        /// What comes.
        from: Dtype,
        /// What goes on.
        to: Dtype,
    },
    /// Numbers of single precision are made of blocks. It can only be the first.
    Dequantise {
        /// What comes.
        from: BlockType,
    },
    /// A product of two thin matrices is added, in single precision.
    AddLowRank(LowRank),
    /// Integers are made of fp16 numbers.
    Quantise(Quantise),
}

/// How much one unit of a route's move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Units that are stored together in the source, and the bytes of those.
    pub block: (u64, u64),
    /// Bits in the target.
    pub written: u64,
}

impl Unit {
    /// Of what is moved as it is.
    pub const BYTE: Self = Self { block: (1, 1), written: 8 };

    /// The unit of what goes through these ops.
    pub fn of(ops: &[Op]) -> Self {
        let (Some(first), Some(last)) = (ops.first(), ops.last()) else { return Self::BYTE };
        Self { block: first.takes().block(), written: last.gives_bits() }
    }

    /// The bytes of the source that some units are read from: the first, and how many.
    pub fn stored(self, first: u64, units: u64) -> (u64, u64) {
        let (together, bytes) = self.block;
        let (begin, end) = (first / together, (first + units).div_ceil(together));
        (begin * bytes, if units == 0 { 0 } else { (end - begin) * bytes })
    }

    /// The units that have a part in bytes `from .. to` of the target.
    pub fn within(self, from: u64, to: u64) -> (u64, u64) {
        (from * 8 / self.written, (to * 8).div_ceil(self.written))
    }

    /// The byte of the target in which a unit begins.
    pub fn byte(self, unit: u64) -> u64 {
        unit * self.written / 8
    }
}

impl Op {
    /// The dtype of the elements that come.
    pub fn takes(&self) -> Dtype {
        match self {
            Self::Cast { from, .. } => *from,
            Self::Dequantise { from } => Dtype::Blocks(*from),
            Self::AddLowRank(_) => Dtype::F32,
            Self::Quantise(_) => Dtype::F16,
        }
    }

    /// The dtype of what goes on.
    pub fn gives(&self) -> Dtype {
        match self {
            Self::Cast { to, .. } => *to,
            Self::Dequantise { .. } | Self::AddLowRank(_) => Dtype::F32,
            Self::Quantise(how) => how.width.stored(),
        }
    }

    /// Bits of an element of that.
    fn gives_bits(&self) -> u64 {
        match self {
            Self::Quantise(how) => 8 / how.width.in_a_byte(),
            other => other.gives().size() * 8,
        }
    }
}

/// `scale * B A` is added to a weight, whose rows and columns are those of the target tensor, or some of them.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// `A`, `[rank, columns of the weight]`, in single precision.
    pub a: OperandId,
    /// `B`, `[rows of the weight, rank]`, in single precision.
    pub b: OperandId,
    /// What the product is multiplied by.
    pub scale: f32,
    /// Columns of one row of the target tensor.
    pub width: u64,
    /// The row and column of the target tensor at which the piece of this weight begins.
    pub from: (u64, u64),
    /// The row and column of the whole weight that these are.
    pub to: (u64, u64),
    /// How the rows lie: of each axis as which they are read, from the outermost on, how many rows of the target tensor and how
    /// many of the weight one step is. What is dense in both is one axis.
    pub steps: Box<[(u64, u64)]>,
}

/// So that plans can be compared: no scale is NaN.
impl Eq for LowRank {}

impl LowRank {
    /// The row and column of the whole weight that an element of the target tensor is. It must be of the piece.
    pub fn place(&self, element: u64) -> (u64, u64) {
        let (mut row, column) = (element / self.width - self.from.0, element % self.width - self.from.1);
        let mut of_weight = self.to.0;
        for (in_target, in_weight) in &self.steps {
            of_weight += row / in_target * in_weight;
            row %= in_target;
        }
        (of_weight, self.to.1 + column)
    }
}

/// Each element `x` becomes `clamp(round(x * multiply[column] / divide[row] / scale[row, column / group]))`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantise {
    /// Elements of a row.
    pub columns: u64,
    /// How many neighbours of a row have one scale; a divisor of `columns`, which is all of them.
    pub group: u64,
    /// What they become.
    pub width: Width,
    /// In which arithmetic.
    pub arithmetic: Arithmetic,
    /// The scale of each group, row by row, as [`Arithmetic::scales`] says.
    pub scales: OperandId,
    /// A factor for each column, as fp16.
    pub multiply: Option<OperandId>,
    /// A divisor for each row, as fp16.
    pub divide: Option<OperandId>,
}

/// In which precision scales and quotients are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// Each step is rounded to fp16, as golden-stick's ptq does.
    Half,
    /// fp32, as its round-to-nearest does.
    Single,
}

impl Arithmetic {
    /// Its name, the same in every release.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Half => "fp16",
            Self::Single => "fp32",
        }
    }

    /// The precision that scales have.
    pub fn scales(self) -> Dtype {
        match self {
            Self::Half => Dtype::F16,
            Self::Single => Dtype::F32,
        }
    }
}

/// The integers that elements are quantised to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Width {
    /// One a byte.
    #[default]
    Int8,
    /// Two a byte, the first in the low half, each in two's complement.
    Int4,
}

impl Width {
    /// Its name, the same in every release.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }

    /// Elements in a byte.
    pub const fn in_a_byte(self) -> u64 {
        match self {
            Self::Int8 => 1,
            Self::Int4 => 2,
        }
    }

    /// The dtype as which they are stored. Two in a byte are no number of their own, so they are bytes, which all readers have.
    pub const fn stored(self) -> Dtype {
        match self {
            Self::Int8 => Dtype::I8,
            Self::Int4 => Dtype::U8,
        }
    }
}
