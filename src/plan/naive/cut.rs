//! Which elements a device holds, from the definitions of strategy files: by lists of rows and columns, one at a time.

use super::random::{Random, divisors};
use super::whole::{Item, Model};
use crate::layout::{OptimizerShard, TensorLayout};

/// In which order the rows of fused parameters are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Each rank's part of q, then of k, then of v.
    RankConcat,
    /// The model's rows group by group, of which each rank has a run.
    Grouped,
}

/// How often the replicas of a block are cut once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shard {
    None,
    All,
    Groups(usize),
}

/// A tensor over the devices of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Devices along each axis of the matrix; the last axis is the fastest.
    pub(super) matrix: Vec<usize>,
    /// For each axis of the tensor, the axes of the matrix (from the left) that cut it, major first.
    pub(super) map: Vec<Vec<usize>>,
    pub(super) shard: Shard,
}

/// What a device holds of a tensor: dimensions, and the numbers of the elements in row-major order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) dims: Vec<usize>,
    pub(super) elements: Vec<u32>,
}

impl Layout {
    /// `ranks` devices in a row that cut one axis, or none.
    pub(super) fn flat(ranks: usize, ndim: usize, axis: Option<usize>) -> Self {
        let map = (0..ndim).map(|at| if Some(at) == axis { vec![0] } else { Vec::new() }).collect();
        Self { matrix: vec![ranks], map, shard: Shard::None }
    }

    /// A random layout over a matrix. `rows`: what the parts of axis 0 must divide, each; `columns`: the same of axis 1.
    pub(super) fn random(random: &mut Random, matrix: &[usize], rows: &[usize], columns: Option<usize>) -> Self {
        let ndim = 1 + usize::from(columns.is_some());
        let mut layout = Self { matrix: matrix.to_vec(), map: vec![Vec::new(); ndim], shard: Shard::None };
        let mut axes: Vec<usize> = (0..matrix.len()).collect();
        random.shuffle(&mut axes);
        for device_axis in axes {
            if random.one_in(3) {
                continue;
            }
            let axis = random.below(ndim);
            let parts = layout.parts(axis) * matrix[device_axis];
            let fits = match (axis, columns) {
                (1, Some(columns)) => columns % parts == 0,
                _ => rows.iter().all(|rows| rows % parts == 0),
            };
            if fits {
                layout.map[axis].push(device_axis);
            }
        }
        layout
    }

    /// Has the optimizer cut the replicas' rows, of which all devices together hold `rows`.
    pub(super) fn sharded(mut self, random: &mut Random, rows: usize) -> Self {
        let ways = *random.pick(&divisors(&[rows / self.parts(0), self.replicas()]));
        self.shard = if ways == self.replicas() { Shard::All } else { Shard::Groups(ways) };
        self
    }

    /// The same, as the program reads it from a strategy file.
    pub(super) fn tensor_layout(&self) -> TensorLayout {
        let last = self.matrix.len() - 1;
        TensorLayout {
            device_matrix: self.matrix.iter().map(|&n| n as u64).collect(),
            tensor_map: self.map.iter().map(|axes| axes.iter().map(|axis| last - axis).collect()).collect(),
            optimizer_shard: match self.shard {
                Shard::None => OptimizerShard::None,
                Shard::All => OptimizerShard::All,
                Shard::Groups(ways) => OptimizerShard::Groups(ways as u64),
            },
            optimizer_shard_step: 0,
        }
    }

    /// Into how many parts the map cuts an axis.
    pub(super) fn parts(&self, axis: usize) -> usize {
        self.map[axis].iter().map(|&axis| self.matrix[axis]).product()
    }

    fn is_used(&self, device_axis: usize) -> bool {
        self.map.iter().flatten().any(|&used| used == device_axis)
    }

    /// How many devices hold each block.
    pub(super) fn replicas(&self) -> usize {
        (0..self.matrix.len()).filter(|&axis| !self.is_used(axis)).map(|axis| self.matrix[axis]).product()
    }

    fn coordinates(&self, device: usize) -> Vec<usize> {
        let mut rest = device;
        let mut coordinates = Vec::new();
        for &extent in self.matrix.iter().rev() {
            coordinates.insert(0, rest % extent);
            rest /= extent;
        }
        coordinates
    }

    /// The part of a list, all of an axis, that a device has.
    fn part<'a, T>(&self, list: &'a [T], axis: usize, coordinates: &[usize]) -> &'a [T] {
        let (mut parts, mut index) = (1, 0);
        for &device_axis in &self.map[axis] {
            parts *= self.matrix[device_axis];
            index = index * self.matrix[device_axis] + coordinates[device_axis];
        }
        nth(list, index, parts)
    }

    /// The part of a list of rows that the optimizer leaves to a device.
    fn shard<'a, T>(&self, rows: &'a [T], coordinates: &[usize]) -> &'a [T] {
        let mut replica = 0;
        for axis in (0..self.matrix.len()).filter(|&axis| !self.is_used(axis)) {
            replica = replica * self.matrix[axis] + coordinates[axis];
        }
        match self.shard {
            Shard::None => rows,
            Shard::All => nth(rows, replica, self.replicas()),
            Shard::Groups(ways) => nth(rows, replica % ways, ways),
        }
    }

    /// What a device holds of a tensor of the model.
    pub(super) fn block(&self, model: &Model, item: &Item, order: Order, device: usize) -> Block {
        let coordinates = self.coordinates(device);
        let first = &model.parameters[item.parts[0]];
        let all = model.rows(item, order == Order::Grouped);
        let mine: Vec<(usize, usize)> = if order == Order::Grouped {
            self.part(&all, 0, &coordinates).to_vec()
        } else {
            // Without groups the rows of each part follow one another.
            all.chunk_by(|a, b| a.0 == b.0).flat_map(|rows| self.part(rows, 0, &coordinates)).copied().collect()
        };
        let mine = self.shard(&mine, &coordinates);
        let width = first.dims.get(1).copied().unwrap_or(1);
        let columns: Vec<usize> = (0..width).collect();
        let columns = if first.dims.len() > 1 { self.part(&columns, 1, &coordinates) } else { &columns };
        let mut elements = Vec::with_capacity(mine.len() * columns.len());
        for &(part, row) in mine {
            let start = model.parameters[item.parts[part]].first as usize + row * width;
            for column in columns {
                elements.push(u32::try_from(start + column).expect("small"));
            }
        }
        let dims = [mine.len()].into_iter().chain((first.dims.len() > 1).then_some(columns.len())).collect();
        Block { dims, elements }
    }
}

/// The nth of so many equal parts.
fn nth<T>(list: &[T], index: usize, parts: usize) -> &[T] {
    assert!(list.len().is_multiple_of(parts), "{} in {parts} parts", list.len());
    let len = list.len() / parts;
    &list[index * len..(index + 1) * len]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::naive::whole::{Dims, Model};
    use crate::tensor::Dtype;

    /// By hand: 2 kv heads with 2 query heads of 1 row each, 2 columns.
    #[test]
    fn the_slicing_that_plans_are_held_against_is_right() {
        let dims = Dims {
            kv_heads: 2,
            repeat: 2,
            head_dim: 1,
            hidden: 2,
            ffn: 2,
            vocab: 5,
            layers: 1,
            bias: false,
            tied: true,
            qwen3: false,
        };
        let model = Model::new(&dims, Dtype::F16);
        let at = model.parameters.iter().position(|p| p.name.ends_with("wq.weight")).unwrap();
        let base = model.parameters[at].first;
        let fused = model.fused(at);
        assert_eq!(fused.name, "model.layers.0.attention.w_qkv.weight");
        let of = |layout: &Layout, order, device| {
            let block = layout.block(&model, &fused, order, device);
            (block.dims, block.elements.iter().map(|e| e - base).collect::<Vec<_>>())
        };
        // q is 0..8, k 8..12, v 12..16.
        let flat = Layout::flat(2, 2, Some(0));
        assert_eq!(of(&flat, Order::RankConcat, 1), (vec![4, 2], vec![4, 5, 6, 7, 10, 11, 14, 15]));
        assert_eq!(of(&flat, Order::Grouped, 0), (vec![4, 2], vec![0, 1, 2, 3, 8, 9, 12, 13]));
        // dp 2 x mp 2: rows over mp (the last axis), which dp cuts once more.
        let sharded = Layout { matrix: vec![2, 2], map: vec![vec![1], vec![]], shard: Shard::All };
        assert_eq!(of(&sharded, Order::RankConcat, 0), (vec![2, 2], vec![0, 1, 2, 3]));
        assert_eq!(of(&sharded, Order::RankConcat, 1), (vec![2, 2], vec![4, 5, 6, 7]));
        assert_eq!(of(&sharded, Order::RankConcat, 2), (vec![2, 2], vec![8, 9, 12, 13]));
        // Columns over the first axis, rows over the second.
        let both = Layout { matrix: vec![2, 2], map: vec![vec![1], vec![0]], shard: Shard::None };
        assert_eq!(of(&both, Order::Grouped, 1), (vec![4, 1], vec![4, 6, 10, 14]));
        assert_eq!(of(&both, Order::Grouped, 2), (vec![4, 1], vec![1, 3, 9, 13]));
    }
}
