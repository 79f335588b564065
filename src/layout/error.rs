//! Why a layout does not fit a tensor.

/// Why a layout does not fit a tensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The layout speaks of another number of axes than the tensor has.
    #[error("the layout maps {map} axes, the tensor has {tensor}")]
    WrongAxes {
        /// Axes of the tensor map.
        map: usize,
        /// Axes of the tensor.
        tensor: usize,
    },
    /// An axis cannot be cut into equal parts.
    #[error("axis {axis} of {dim} cannot be cut into {parts} equal parts")]
    DoesNotDivide {
        /// The tensor axis.
        axis: usize,
        /// Its length.
        dim: u64,
        /// The number of parts.
        parts: u64,
    },
    /// The parallel optimizer's groups do not fit the replicas.
    #[error("an optimizer shard of {size} does not divide the {replicas} replicas")]
    OptimizerShard {
        /// The group size.
        size: u64,
        /// The number of replicas.
        replicas: u64,
    },
    /// An optimizer shard of a scalar.
    #[error("a scalar cannot be cut by the parallel optimizer")]
    ScalarShard,
    /// The full shape is too large.
    #[error(transparent)]
    Shape(#[from] crate::tensor::ShapeError),
}
