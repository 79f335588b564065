//! From the numbers of a strategy file to a [`TensorLayout`] that holds together.

use crate::formats::{FormatError, FormatFault, limits};
use crate::layout::{OptimizerShard, TensorLayout};
use crate::tensor::Shape;

/// A layout item as a file states it, protobuf or JSON.
#[derive(Clone, Debug, Default)]
pub(super) struct RawLayout {
    /// Offset of the item in the file.
    pub(super) at: u64,
    /// The parameter, with the stage before it in a merged file.
    pub(super) name: String,
    pub(super) device_matrix: Vec<i64>,
    /// For each tensor axis the device axes, -1 for none.
    pub(super) tensor_map: Vec<Vec<i64>>,
    /// `opt_weight_shard_step`.
    pub(super) step: i64,
    /// `opt_weight_shard_size`.
    pub(super) size: i64,
    /// Whether `field` or `indices_offset` ask for a split that is not even.
    pub(super) uneven: bool,
    /// `tensor_shape`, which only JSON has.
    pub(super) full_shape: Option<Vec<i64>>,
}

/// What both encodings give.
#[derive(Debug, Default)]
pub(super) struct RawStrategy {
    /// The stage of the first strategy item; 0 without any.
    pub(super) stage: u32,
    pub(super) layouts: Vec<RawLayout>,
}

/// One parameter of a strategy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamLayout {
    /// Its layout over the devices of the stage.
    pub layout: TensorLayout,
    /// Its shape before any split, which only JSON files state. For a nested layout MindSpore writes both this and the
    /// layout with the axis already divided, so it may differ from the shape in the checkpoint.
    pub full_shape: Option<Shape>,
}

impl RawLayout {
    /// The layout, checked. Errors: [`FormatFault::BadLayout`] that says what contradicts what.
    pub(super) fn check(&self, param: &str) -> Result<ParamLayout, FormatError> {
        self.checked().map_err(|why| FormatError::new(self.at, FormatFault::BadLayout { param: param.to_owned(), why }))
    }

    fn checked(&self) -> Result<ParamLayout, String> {
        if self.uneven {
            return Err("a split by `field` or `indices_offset` is not supported".into());
        }
        let device_matrix = device_matrix(&self.device_matrix)?;
        let tensor_map = tensor_map(&self.tensor_map, &device_matrix)?;
        let optimizer_shard = match (self.size, self.step) {
            (0, _) | (_, 0) => OptimizerShard::None,
            (-1, _) => OptimizerShard::All,
            (size, _) => {
                OptimizerShard::Groups(u64::try_from(size).map_err(|_| format!("`opt_weight_shard_size` is {size}"))?)
            }
        };
        let optimizer_shard_step =
            i32::try_from(self.step).map_err(|_| format!("`opt_weight_shard_step` is {}", self.step))?;
        let full_shape = self.full_shape.as_deref().map(|dims| full_shape(dims, tensor_map.len())).transpose()?;
        let layout = TensorLayout { device_matrix, tensor_map, optimizer_shard, optimizer_shard_step };
        Ok(ParamLayout { layout, full_shape })
    }
}

fn device_matrix(dims: &[i64]) -> Result<Vec<u64>, String> {
    if dims.is_empty() || dims.len() > limits::MAX_RANK {
        return Err(format!("`dev_matrix` has {} axes", dims.len()));
    }
    let positive = |&dim: &i64| u64::try_from(dim).ok().filter(|&dim| dim > 0);
    let Some(matrix) = dims.iter().map(positive).collect::<Option<Vec<_>>>() else {
        return Err(format!("`dev_matrix` is {dims:?}"));
    };
    match matrix.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim)) {
        Some(devices) if devices <= limits::MAX_STAGE_DEVICES => Ok(matrix),
        _ => Err(format!("`dev_matrix` {dims:?} has more than 2^32 devices")),
    }
}

fn tensor_map(map: &[Vec<i64>], matrix: &[u64]) -> Result<Vec<Vec<usize>>, String> {
    if map.len() > limits::MAX_RANK {
        return Err(format!("`tensor_map` has {} axes", map.len()));
    }
    let mut used = vec![false; matrix.len()];
    let mut axis = |&entry: &i64| {
        let right = usize::try_from(entry).ok().filter(|&entry| entry < matrix.len());
        let Some(right) = right else {
            return Err(format!("`tensor_map` names the device axis {entry}; there are {}", matrix.len()));
        };
        let left = matrix.len() - 1 - right;
        // An axis of one device splits nothing, however often it is named.
        if std::mem::replace(&mut used[left], true) && matrix[left] > 1 {
            return Err(format!("`tensor_map` uses the device axis {entry} twice"));
        }
        Ok(right)
    };
    map.iter().map(|axes| axes.iter().filter(|&&entry| entry != -1).map(&mut axis).collect()).collect()
}

fn full_shape(dims: &[i64], ndim: usize) -> Result<Shape, String> {
    if dims.len() != ndim {
        return Err(format!("`tensor_shape` {dims:?} has not the {ndim} axes of `tensor_map`"));
    }
    let dims: Option<Vec<u64>> = dims.iter().map(|&dim| u64::try_from(dim).ok()).collect();
    let dims = dims.ok_or("`tensor_shape` has a negative dimension")?;
    Shape::new(dims).map_err(|error| format!("`tensor_shape`: {error}"))
}
