//! One parameter over the devices of one pipeline stage: device matrix, tensor map, optimizer shard.
//!
//! The meaning of the numbers was checked against what MindSpore 2.10's `transform_checkpoints` does with strategy files
//! that its own compiler wrote (see `tests/data/mindspore`).

use super::{LayoutError, Region};
use crate::tensor::Shape;

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

impl TensorLayout {
    /// `devices` devices in a row that split one axis of a tensor, or hold it whole.
    pub fn flat(devices: u64, ndim: usize, split: Option<usize>) -> Self {
        let mut tensor_map = vec![Vec::new(); ndim];
        if let Some(axis) = split {
            tensor_map[axis].push(0);
        }
        Self {
            device_matrix: vec![devices],
            tensor_map,
            optimizer_shard: OptimizerShard::None,
            optimizer_shard_step: 0,
        }
    }

    /// The number of devices of the stage.
    pub fn devices(&self) -> u64 {
        self.device_matrix.iter().product()
    }

    /// Into how many parts the tensor map cuts an axis (without the optimizer shard).
    pub fn parts(&self, axis: usize) -> u64 {
        self.tensor_map.get(axis).map_or(1, |axes| axes.iter().map(|&m| self.extent(m)).product())
    }

    /// The full shape, from the shape of one rank's block.
    pub fn full_shape(&self, local: &Shape) -> Result<Shape, LayoutError> {
        self.check_axes(local.ndim())?;
        let mut dims = local.dims().to_vec();
        for (axis, dim) in dims.iter_mut().enumerate() {
            let mut parts = self.parts(axis);
            if axis == 0 {
                parts *= self.shard_parts()?;
            }
            // A product beyond 64 bits is beyond Shape's limit too: let Shape name it.
            *dim = dim.saturating_mul(parts);
        }
        if dims.is_empty() && self.shard_parts()? > 1 {
            return Err(LayoutError::ScalarShard);
        }
        Ok(Shape::new(dims)?)
    }

    /// The block that the tensor map gives to a device, before the optimizer shard.
    pub fn block(&self, full: &[u64], device: u64) -> Result<Region, LayoutError> {
        self.check_axes(full.len())?;
        let coordinates = self.coordinates(device);
        let mut start = Vec::with_capacity(full.len());
        let mut len = Vec::with_capacity(full.len());
        for (axis, &dim) in full.iter().enumerate() {
            let (mut parts, mut index) = (1, 0);
            for &m in &self.tensor_map[axis] {
                parts *= self.extent(m);
                index = index * self.extent(m) + coordinates[self.device_matrix.len() - 1 - m];
            }
            if dim % parts != 0 {
                return Err(LayoutError::DoesNotDivide { axis, dim, parts });
            }
            len.push(dim / parts);
            start.push(index * (dim / parts));
        }
        Ok(Region::new(start, len))
    }

    /// Which rows of its block (of `rows` rows) the optimizer shard leaves to a device: first row and number.
    pub fn shard_rows(&self, rows: u64, device: u64) -> Result<(u64, u64), LayoutError> {
        let parts = self.shard_parts()?;
        if !rows.is_multiple_of(parts) {
            return Err(LayoutError::DoesNotDivide { axis: 0, dim: rows, parts });
        }
        let index = self.replica(device) % parts;
        Ok((index * (rows / parts), rows / parts))
    }

    /// The region that a device holds.
    pub fn region(&self, full: &[u64], device: u64) -> Result<Region, LayoutError> {
        let block = self.block(full, device)?;
        if self.shard_parts()? == 1 {
            return Ok(block);
        }
        let (&start, &rows) = block.start().first().zip(block.len().first()).ok_or(LayoutError::ScalarShard)?;
        let (first, count) = self.shard_rows(rows, device)?;
        Ok(block.with_axis(0, start + first, count))
    }

    /// What distinguishes a device's block from the others', whatever the tensor's shape: devices for which it is the same are
    /// replicas. A shard that fits no group of replicas counts as none: reading the tensor refuses it.
    pub fn block_of(&self, device: u64) -> (Vec<u64>, u64) {
        let coordinates = self.coordinates(device);
        let last = self.device_matrix.len() - 1;
        let used = self.tensor_map.iter().flatten().map(|&m| coordinates[last - m]).collect();
        (used, self.replica(device) % self.shard_parts().unwrap_or(1))
    }

    /// Into how many parts the optimizer shard cuts axis 0 of a block.
    pub fn shard_parts(&self) -> Result<u64, LayoutError> {
        let replicas = self.replicas();
        match self.optimizer_shard {
            OptimizerShard::None => Ok(1),
            OptimizerShard::All => Ok(replicas),
            OptimizerShard::Groups(size) if size > 0 && replicas.is_multiple_of(size) => Ok(size),
            OptimizerShard::Groups(size) => Err(LayoutError::OptimizerShard { size, replicas }),
        }
    }

    /// How many devices hold one block.
    fn replicas(&self) -> u64 {
        let split: u64 = (0..self.tensor_map.len()).map(|axis| self.parts(axis)).product();
        self.devices() / split.max(1)
    }

    /// A device's position among the holders of its block: mixed radix over the device axes that split nothing.
    fn replica(&self, device: u64) -> u64 {
        let coordinates = self.coordinates(device);
        let last = self.device_matrix.len() - 1;
        let mut position = 0;
        for (axis, &extent) in self.device_matrix.iter().enumerate() {
            if !self.tensor_map.iter().flatten().any(|&m| last - m == axis) {
                position = position * extent + coordinates[axis];
            }
        }
        position
    }

    fn coordinates(&self, device: u64) -> Vec<u64> {
        let mut rest = device;
        let mut coordinates = vec![0; self.device_matrix.len()];
        for (axis, &extent) in self.device_matrix.iter().enumerate().rev() {
            coordinates[axis] = rest % extent;
            rest /= extent;
        }
        coordinates
    }

    fn extent(&self, from_right: usize) -> u64 {
        self.device_matrix[self.device_matrix.len() - 1 - from_right]
    }

    fn check_axes(&self, ndim: usize) -> Result<(), LayoutError> {
        if self.tensor_map.len() == ndim {
            return Ok(());
        }
        // MindSpore writes the map [-1] for a replicated scalar.
        if ndim == 0 && self.tensor_map.iter().all(Vec::is_empty) {
            return Ok(());
        }
        Err(LayoutError::WrongAxes { map: self.tensor_map.len(), tensor: ndim })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(matrix: &[u64], map: &[&[usize]], shard: OptimizerShard) -> TensorLayout {
        TensorLayout {
            device_matrix: matrix.to_vec(),
            tensor_map: map.iter().map(|m| m.to_vec()).collect(),
            optimizer_shard: shard,
            optimizer_shard_step: 0,
        }
    }

    #[test]
    fn the_optimizer_cuts_what_the_tensor_map_left_whole() {
        // dp2 x mp2, weight split over mp on axis 0, all replicas (dp) share its rows.
        let l = layout(&[2, 2], &[&[0], &[]], OptimizerShard::All);
        let regions: Vec<_> = (0..4).map(|d| l.region(&[8, 3], d).unwrap()).collect();
        let rows: Vec<_> = regions.iter().map(|r| (r.start()[0], r.len()[0])).collect();
        assert_eq!(rows, [(0, 2), (4, 2), (2, 2), (6, 2)]);
        assert_eq!(l.full_shape(&Shape::new(vec![2, 3]).unwrap()).unwrap().dims(), [8, 3]);
    }

    #[test]
    fn nested_axes_are_mixed_radix_and_indivisible_axes_are_refused() {
        let l = layout(&[2, 2, 2], &[&[1, 0], &[]], OptimizerShard::None);
        assert_eq!(l.region(&[8, 3], 7).unwrap().start(), [6, 0]);
        assert_eq!(l.region(&[8, 3], 1).unwrap().start(), [2, 0]);
        assert_eq!(l.region(&[6, 3], 0).unwrap_err(), LayoutError::DoesNotDivide { axis: 0, dim: 6, parts: 4 });
    }
}
