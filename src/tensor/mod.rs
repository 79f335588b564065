//! The vocabulary: dtypes, shapes, tensor names. Depends on nothing else in the crate.

mod block;
mod dtype;
mod name;
mod shape;

pub use block::BlockType;
pub use dtype::Dtype;
pub use name::TensorName;
pub use shape::{Shape, ShapeError};
