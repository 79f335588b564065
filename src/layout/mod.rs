//! Pure algebra: which rank owns which region of which tensor. No I/O, no formats, no unsafe.
//!
//! The terms are MindSpore's: a *device matrix* arranges the devices of one pipeline stage (row-major, the last axis
//! fastest), a *tensor map* says over which device axis each tensor axis is split (counted from the right of the matrix;
//! -1 = not split), an *optimizer shard* splits axis 0 of the block further over the replicas.

mod region;

pub use region::Region;

/// How one parameter is laid out over the devices of one pipeline stage.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorLayout {
    /// Devices per axis, outermost first. The product is the number of devices of the stage.
    pub device_matrix: Vec<u64>,
    /// For each tensor axis the device axes that split it, major first, each counted from the right of the matrix.
    /// An empty list: not split. More than one entry: a nested layout.
    pub tensor_map: Vec<Vec<usize>>,
    /// Over how many replicas axis 0 of the block is split further.
    pub optimizer_shard: OptimizerShard,
    /// The step as the strategy file states it. Redundant (the device matrix decides), kept so that a file can be written
    /// back as it was read.
    pub optimizer_shard_step: i32,
}

/// The parallel optimizer's split of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OptimizerShard {
    /// Not split.
    None,
    /// Over all replicas (`opt_weight_shard_size` = -1).
    All,
    /// Over groups of this many consecutive replicas.
    Groups(u64),
}
