//! What a plan is made of: source tensors, outputs, and the routes between them.

use crate::formats::{FileLayout, FormatKind};
use crate::layout::Move;
use crate::source::Extents;
use crate::tensor::{BlockType, Dtype, Shape, TensorName};

/// A product of two thin matrices that is added to a weight `W`: `W + scale * B A`.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// Index of `A`, `[rank, columns]`, among the factors of the plan.
    pub a: usize,
    /// Index of `B`, `[rows, rank]`, among the factors of the plan.
    pub b: usize,
    /// What the product is multiplied by.
    pub scale: f32,
    /// Columns of one row of the source tensor.
    pub width: u64,
    /// The first row and column of the piece of the source tensor that is of this weight.
    pub from: (u64, u64),
    /// The row and column of the whole weight that these are.
    pub to: (u64, u64),
    /// How many rows of the source tensor, and of the weight, one group of rows takes, where other weights' rows stand between the
    /// groups. 1 and 1: the rows of both follow one another.
    pub group: (u64, u64),
}

impl LowRank {
    /// The row and column of the whole weight that an element of the source tensor is. It must be of the piece.
    pub fn place(&self, element: u64) -> (u64, u64) {
        let (row, column) = (element / self.width - self.from.0, element % self.width - self.from.1);
        (self.to.0 + row / self.group.0 * self.group.1 + row % self.group.0, self.to.1 + column)
    }
}

/// So that plans can be compared: no scale is NaN.
impl Eq for LowRank {}

/// A tensor of a source file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTensor {
    /// Index of the file among the sources of the plan.
    pub file: usize,
    /// Its name there.
    pub name: TensorName,
    /// Its elements.
    pub dtype: Dtype,
    /// Where its bytes lie in the file.
    pub extents: Extents,
}

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputFile {
    /// Its path below the target directory, with `/`.
    pub path: String,
    /// The rank that it belongs to. `None` for index files.
    pub rank: Option<u32>,
    /// Its format. `None` for index files.
    pub format: Option<FormatKind>,
    /// Header bytes, tensor data and checksums, in file order.
    pub layout: FileLayout,
    /// Its tensors, by the index that the layout uses.
    pub tensors: Vec<OutputTensor>,
}

/// A tensor of an output file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputTensor {
    /// Its name.
    pub name: TensorName,
    /// Its elements.
    pub dtype: Dtype,
    /// Its dimensions in this file.
    pub shape: Shape,
    /// Whether no earlier file holds the same elements, so that each is counted once over all ranks.
    pub first_holder: bool,
    /// Where its elements come from. Together they write every element once. Empty where they are quantised.
    pub routes: Vec<Route>,
    /// How its elements are quantised, where they are.
    pub quantised: Option<Box<Quantised>>,
}

/// How the elements of a tensor (a matrix, or rows of one) are made: `clamp(round(x * multiply[column] / divide[row] /
/// scale[row, column / group]))` of each element `x`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantised {
    /// Elements of a row.
    pub columns: u64,
    /// How many neighbours of a row have one scale; a divisor of `columns`, which is all of them.
    pub group: u64,
    /// What they become.
    pub width: Width,
    /// In which arithmetic.
    pub arithmetic: Arithmetic,
    /// Bring the elements before they are quantised, as fp16, in the target's order.
    pub operand: Vec<Route>,
    /// Bring the scale of each group, row by row, as [`Arithmetic::scales`] says.
    pub scales: Vec<Route>,
    /// Bring a factor for each column, as fp16.
    pub multiply: Option<Vec<Route>>,
    /// Bring a divisor for each row, as fp16.
    pub divide: Option<Vec<Route>>,
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

impl Quantised {
    /// Bytes of the operand (fp16) that one byte is made of.
    pub fn operand_bytes(&self) -> u64 {
        2 * self.width.in_a_byte()
    }
}

impl OutputTensor {
    /// All routes that bring its elements, quantised or not.
    pub fn operands(&self) -> &[Route] {
        self.quantised.as_ref().map_or(&self.routes, |q| &q.operand)
    }
}

/// Elements of one source tensor on their way to one output tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Index of the tensor among the tensors of the plan.
    pub source: usize,
    /// What is done to each element.
    pub transform: Transform,
    /// Which elements, from where to where. Unit: bytes for copies, elements for everything else.
    pub moves: Move,
}

/// What is done to each element on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transform {
    /// Nothing: the bytes are moved as they are.
    Copy,
    /// Conversion to another floating-point type, to nearest even.
    Cast {
        /// The source's dtype.
        from: Dtype,
        /// The target's dtype.
        to: Dtype,
    },
    /// The element plus that of a low-rank update, computed in single precision and converted to nearest even.
    Update {
        /// The source's dtype.
        from: Dtype,
        /// The target's dtype.
        to: Dtype,
        /// Index among the updates of the plan.
        update: usize,
    },
    /// Elements of blocks, computed in single precision and converted to nearest even.
    Dequantise {
        /// The source's type.
        from: BlockType,
        /// The target's dtype.
        to: Dtype,
    },
}

impl Transform {
    /// Bytes of one unit of the route's move in the target.
    pub fn unit(self) -> u64 {
        match self {
            Self::Copy => 1,
            Self::Cast { to, .. } | Self::Update { to, .. } | Self::Dequantise { to, .. } => to.size(),
        }
    }

    /// The bytes of the source tensor that some units of the route's move are read from: the first, and how many.
    pub fn stored(self, first: u64, units: u64) -> (u64, u64) {
        let (elements, bytes) = match self {
            Self::Copy => (1, 1),
            Self::Cast { from, .. } | Self::Update { from, .. } => (1, from.size()),
            Self::Dequantise { from, .. } => (from.elements(), from.bytes()),
        };
        let (begin, end) = (first / elements, (first + units).div_ceil(elements));
        (begin * bytes, if units == 0 { 0 } else { (end - begin) * bytes })
    }
}
