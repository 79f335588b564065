//! Pure algebra: which rank owns which region of which tensor. No I/O, no formats, no unsafe.
//!
//! The terms are MindSpore's: a *device matrix* arranges the devices of one pipeline stage (row-major, the last axis
//! fastest), a *tensor map* says over which device axis each tensor axis is split (counted from the right of the matrix;
//! -1 = not split), an *optimizer shard* splits axis 0 of the block further over the replicas.
//!
//! Invariant: a [`Region`] is a box in the coordinates of a full tensor; a [`Piece`] says where such a box lies in a
//! stored tensor; a [`Move`] carries what two pieces share. Rows are never listed, whatever their number.

mod cover;
mod error;
mod piece;
mod region;
mod rows;
mod tensor_layout;

pub use cover::{CoverFault, Footprint, exact_cover};
pub use error::LayoutError;
pub use piece::{Dim, Move, Piece};
pub use region::Region;
pub use rows::boxes_of_rows;
pub use tensor_layout::{OptimizerShard, TensorLayout};
