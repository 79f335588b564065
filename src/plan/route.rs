//! What a plan is made of: source tensors, outputs, and the routes between them.

use super::ids::{OpsId, SourceId, StoredId};
use crate::formats::{FileLayout, FormatRef};
use crate::layout::Move;
use crate::source::Extents;
use crate::tensor::{Dtype, Shape, TensorName};

/// A tensor of a source file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTensor {
    /// The file, or the memory of the plan.
    pub file: SourceId,
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
    pub format: Option<FormatRef>,
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
    /// Where its elements come from. Together they write every element once.
    pub routes: Vec<Route>,
}

/// Elements of one source tensor on their way to one output tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The tensor.
    pub source: StoredId,
    /// What is done to each element.
    pub ops: OpsId,
    /// Which elements, from where to where. Unit: bytes where they are moved as they are, elements everywhere else.
    pub moves: Move,
}
