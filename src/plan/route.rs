//! The plan as a value: sources, outputs, and the routes between them.

use std::path::PathBuf;

use super::calculation::Computed;
use crate::formats::{FileLayout, FormatKind};
use crate::layout::Move;
use crate::source::Extents;
use crate::tensor::{BlockType, Dtype, Shape, TensorName};

/// What is read, what is written, and which bytes go where.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Plan {
    /// The source files.
    pub sources: Vec<PlanSource>,
    /// The source tensors that routes read.
    pub tensors: Vec<SourceTensor>,
    /// The files to write.
    pub outputs: Vec<OutputFile>,
    /// What [`Transform::Update`] adds.
    pub updates: Vec<LowRank>,
    /// The factors of updates, each whole and in single precision.
    pub factors: Vec<OutputTensor>,
    /// What is computed before anything is written, and read like a source.
    pub computed: Option<Computed>,
}

/// A product of two thin matrices that is added to a weight `W`: `W + scale * B A`.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// Index of `A`, `[rank, columns]`, among [`Plan::factors`].
    pub a: usize,
    /// Index of `B`, `[rows, rank]`, among [`Plan::factors`].
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

/// A source file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanSource {
    /// Where it lies.
    pub path: PathBuf,
    /// Its length in bytes.
    pub len: u64,
    /// Its rank.
    pub rank: u32,
}

/// A tensor of a source file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTensor {
    /// Index of the file among [`Plan::sources`].
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
    /// Header bytes and tensor data, in file order.
    pub layout: FileLayout,
    /// Its tensors, by the index that the layout uses.
    pub tensors: Vec<OutputTensor>,
    /// Whether the last 17 bytes are MindSpore's CRC trailer, known only when everything before is written.
    pub crc: bool,
    /// Where the CRC-32 of a tensor's bytes belongs in the file (a zip archive's), once they are written.
    pub tensor_crcs: Vec<TensorCrc>,
}

/// A place in an output file for the CRC-32 of a tensor, 4 bytes, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TensorCrc {
    /// The offset in the file.
    pub at: u64,
    /// The index of the tensor in the file.
    pub tensor: usize,
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
    /// Index of the tensor among [`Plan::tensors`].
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
        /// Index among [`Plan::updates`].
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

/// Sums over a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PlanTotals {
    /// Tensors in the output files.
    pub tensors: u64,
    /// Bytes read from tensors of the source files (each route's bytes).
    pub read: u64,
    /// Bytes of the output files.
    pub written: u64,
    /// Output bytes that are one run in the source and unchanged.
    pub contiguous: u64,
    /// Output bytes gathered from strided runs.
    pub gathered: u64,
    /// Output bytes that are converted.
    pub converted: u64,
    /// Header and padding bytes.
    pub headers: u64,
}

impl Plan {
    /// Bytes that one thread needs for the factors of an update, beside its buffers.
    pub fn factor_bytes(&self) -> u64 {
        let bytes = |t: &OutputTensor| t.shape.bytes(t.dtype);
        self.updates.iter().map(|u| bytes(&self.factors[u.a])).max().unwrap_or(0)
    }

    /// The source files; what is computed is none.
    pub fn files(&self) -> impl Iterator<Item = &PlanSource> {
        let computed = self.computed.as_ref().map(|c| c.source);
        self.sources.iter().enumerate().filter(move |(index, _)| Some(*index) != computed).map(|(_, source)| source)
    }

    /// Sums over the plan.
    pub fn totals(&self) -> PlanTotals {
        let mut totals = PlanTotals::default();
        for file in &self.outputs {
            totals.written += file.layout.len();
            for tensor in &file.tensors {
                totals.tensors += 1;
                if let Some(quantised) = &tensor.quantised {
                    totals.read +=
                        quantised.operand.iter().map(|r| r.transform.stored(0, r.moves.volume()).1).sum::<u64>();
                    totals.converted += tensor.shape.bytes(tensor.dtype);
                }
                for route in &tensor.routes {
                    let written = route.moves.volume() * route.transform.unit();
                    totals.read += route.transform.stored(0, route.moves.volume()).1;
                    match route.transform {
                        Transform::Cast { .. } | Transform::Update { .. } | Transform::Dequantise { .. } => {
                            totals.converted += written;
                        }
                        Transform::Copy if route.moves.dims.is_empty() => totals.contiguous += written,
                        Transform::Copy => totals.gathered += written,
                    }
                }
            }
        }
        totals.headers = totals.written - totals.contiguous - totals.gathered - totals.converted;
        totals
    }
}
