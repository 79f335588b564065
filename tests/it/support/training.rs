//! A small training run: a model cut over stages and devices as any layout says, element by element, with the optimizer's
//! state beside it. Knows nothing of `src/`.

use std::path::Path;

use super::ckpt::to_varint;
use super::llama::Random;
use super::{Llama, Tensor, write_ckpt, write_safetensors};

/// How the devices of a stage share a parameter.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) matrix: Vec<u64>,
    /// For each tensor axis the device axes, major first, counted from the right.
    pub(crate) map: Vec<Vec<u64>>,
    /// 0: no optimizer shard; -1: over all replicas; n: over groups of n.
    pub(crate) size: i64,
}

/// A training run.
#[derive(Clone, Debug)]
pub(crate) struct TrainingRun {
    pub(crate) model: Llama,
    /// No `lm_head`: the embedding is in the first stage and in the last.
    pub(crate) tied: bool,
    pub(crate) stages: u64,
    pub(crate) matrix: Vec<u64>,
    /// Decides the layouts.
    pub(crate) seed: u64,
}

impl Layout {
    fn coordinates(&self, device: u64) -> Vec<u64> {
        let mut rest = device;
        let mut coordinates: Vec<u64> = self
            .matrix
            .iter()
            .rev()
            .map(|extent| {
                let c = rest % extent;
                rest /= extent;
                c
            })
            .collect();
        coordinates.reverse();
        coordinates
    }

    fn extent(&self, from_right: u64) -> u64 {
        self.matrix[self.matrix.len() - 1 - usize::try_from(from_right).expect("small")]
    }

    pub(crate) fn parts(&self, axis: usize) -> u64 {
        self.map[axis].iter().map(|m| self.extent(*m)).product()
    }

    fn replicas(&self) -> u64 {
        self.matrix.iter().product::<u64>() / (0..self.map.len()).map(|axis| self.parts(axis)).product::<u64>()
    }

    /// The local dims of a device's block and the elements of the whole that it holds, in order.
    pub(crate) fn block(&self, dims: &[u64], device: u64) -> (Vec<u64>, Vec<u64>) {
        let coordinates = self.coordinates(device);
        let at = |from_right: u64| coordinates[coordinates.len() - 1 - usize::try_from(from_right).expect("small")];
        let range = |axis: usize| {
            let index = self.map[axis].iter().fold(0, |index, m| index * self.extent(*m) + at(*m));
            let len = dims[axis] / self.parts(axis);
            index * len..(index + 1) * len
        };
        let mut rows: Vec<u64> = range(0).collect();
        let replicas = self.replicas();
        let groups = match self.size {
            0 => 1,
            -1 => replicas,
            n => u64::try_from(n).expect("positive"),
        };
        // The position among the devices that hold the block: the unused device axes, major first.
        let mut position = 0;
        for (axis, extent) in self.matrix.iter().enumerate() {
            let from_right = (self.matrix.len() - 1 - axis) as u64;
            if !self.map.iter().flatten().any(|m| *m == from_right) {
                position = position * extent + coordinates[axis];
            }
        }
        let mine = rows.len() / usize::try_from(groups).expect("small");
        let first = usize::try_from(position % groups).expect("small") * mine;
        rows = rows[first..first + mine].to_vec();
        let columns: Vec<u64> = if dims.len() > 1 { range(1).collect() } else { vec![0] };
        let width = if dims.len() > 1 { dims[1] } else { 1 };
        let elements = rows.iter().flat_map(|row| columns.iter().map(move |column| row * width + column)).collect();
        let mut local = vec![rows.len() as u64];
        local.extend((dims.len() > 1).then_some(columns.len() as u64));
        (local, elements)
    }
}

impl TrainingRun {
    pub(crate) fn devices(&self) -> u64 {
        self.matrix.iter().product()
    }

    pub(crate) fn ranks(&self) -> u64 {
        self.devices() * self.stages
    }

    /// The whole tensors of the model.
    pub(crate) fn full(&self) -> Vec<Tensor> {
        let mut full = self.model.full();
        full.retain(|t| !(self.tied && t.name == "lm_head.weight"));
        full
    }

    /// A mindformers yaml of the model as the target wants it.
    pub(crate) fn yaml(&self, fused: bool, vocabulary_whole: bool) -> String {
        let yaml = self.model.yaml(fused, vocabulary_whole);
        yaml.replace("parallel_config:", &format!("    tie_word_embeddings: {}\nparallel_config:", self.tied))
    }

    pub(crate) fn is_in(&self, name: &str, stage: u64) -> bool {
        if name == "model.tok_embeddings.embedding_weight" {
            return stage == 0 || self.tied && stage == self.stages - 1;
        }
        match name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')) {
            Some((layer, _)) => layer.parse::<u64>().expect("a layer") * self.stages / self.model.layers == stage,
            None => stage == self.stages - 1,
        }
    }

    /// The layout of a parameter in a stage: any that divides it.
    pub(crate) fn layout(&self, name: &str, dims: &[u64], stage: u64) -> Layout {
        let mut random = Random(name.bytes().fold(self.seed ^ stage, |h, b| h.wrapping_mul(31).wrapping_add(b.into())));
        let mut pick = |n: usize| usize::try_from(random.next() % n as u64).expect("small");
        let mut layout = Layout { matrix: self.matrix.clone(), map: vec![Vec::new(); dims.len()], size: 0 };
        let mut axes: Vec<u64> = (0..self.matrix.len() as u64).collect();
        while !axes.is_empty() {
            let device_axis = axes.remove(pick(axes.len()));
            let tensor_axis = pick(dims.len() + 1);
            if tensor_axis < dims.len()
                && dims[tensor_axis].is_multiple_of(layout.parts(tensor_axis) * layout.extent(device_axis))
            {
                layout.map[tensor_axis].push(device_axis);
            }
        }
        let (replicas, rows) = (layout.replicas(), dims[0] / layout.parts(0));
        let sizes: Vec<u64> =
            (2..=replicas).filter(|n| replicas.is_multiple_of(*n) && rows.is_multiple_of(*n)).collect();
        if !sizes.is_empty() && pick(3) > 0 {
            let size = sizes[pick(sizes.len())];
            layout.size = if size == replicas && pick(2) == 0 { -1 } else { i64::try_from(size).expect("small") };
        }
        layout
    }

    /// What a rank's file holds: its shards, the optimizer's state of each, and counters.
    pub(crate) fn rank(&self, full: &[Tensor], rank: u64) -> Vec<Tensor> {
        let (stage, device) = (rank / self.devices(), rank % self.devices());
        let mut out = Vec::new();
        for tensor in full.iter().filter(|t| self.is_in(&t.name, stage)) {
            let (dims, elements) = self.layout(&tensor.name, &tensor.dims, stage).block(&tensor.dims, device);
            let size = self.model.float.size();
            let at = |element: &u64| usize::try_from(*element).expect("small") * size;
            let bytes = elements.iter().flat_map(|e| tensor.bytes[at(e)..at(e) + size].to_vec()).collect();
            out.push(Tensor { dims, bytes, ..tensor.clone() });
        }
        for state in ["adam_m.", "adam_v."] {
            let states: Vec<Tensor> =
                out.iter().filter(|t| t.name.starts_with("model") || t.name.starts_with("lm")).cloned().collect();
            // Other in every rank: whoever takes it for the model's is found out.
            out.extend(states.into_iter().map(|t| Tensor {
                name: format!("{state}{}", t.name),
                bytes: t.bytes.iter().map(|b| b.wrapping_add(rank.to_le_bytes()[0])).collect(),
                ..t
            }));
        }
        let counter = |name: &str, dtype: &str| Tensor {
            name: name.to_owned(),
            dtype: dtype.to_owned(),
            dims: Vec::new(),
            // Alike in every rank, as in every save.
            bytes: 7u32.to_le_bytes().to_vec(),
        };
        out.extend([counter("global_step", "Int32"), counter("learning_rate", "Float32")]);
        out
    }

    /// The protobuf strategy file of a stage.
    pub(crate) fn strategy(&self, full: &[Tensor], stage: u64) -> Vec<u8> {
        let mut file = number(1, 2);
        let mut layouts = Vec::new();
        for tensor in full.iter().filter(|t| self.is_in(&t.name, stage)) {
            let layout = self.layout(&tensor.name, &tensor.dims, stage);
            for state in ["", "adam_m.", "adam_v."] {
                let name = format!("{state}{}", tensor.name);
                let strategies = message(2, &number(1, stage));
                file.extend(message(2, &[message(1, format!("Op_{name}").as_bytes()), strategies].concat()));
                layouts.extend(message(3, &[message(1, name.as_bytes()), message(2, &layout.encoded())].concat()));
            }
        }
        file.extend(layouts);
        file
    }

    /// Writes `dir/rank_<r>/llama_rank_<r>-1_<step>.<extension>`.
    pub(crate) fn write(&self, dir: &Path, full: &[Tensor], step: u64, extension: &str) {
        for rank in 0..self.ranks() {
            let tensors = self.rank(full, rank);
            let folder = dir.join(format!("rank_{rank}"));
            std::fs::create_dir_all(&folder).expect("a directory");
            let bytes = if extension == "ckpt" { write_ckpt(&tensors) } else { write_safetensors(&tensors) };
            std::fs::write(folder.join(format!("llama_rank_{rank}-1_{step}.{extension}")), bytes).expect("a file");
        }
    }

    /// Writes `dir/ckpt_strategy_rank_<r>.ckpt` for every rank, or for the first of each stage.
    pub(crate) fn write_strategies(&self, dir: &Path, full: &[Tensor], every_rank: bool) {
        std::fs::create_dir_all(dir).expect("a directory");
        for rank in (0..self.ranks()).filter(|rank| every_rank || rank.is_multiple_of(self.devices())) {
            let bytes = self.strategy(full, rank / self.devices());
            std::fs::write(dir.join(format!("ckpt_strategy_rank_{rank}.ckpt")), bytes).expect("a file");
        }
    }
}

impl Layout {
    fn encoded(&self) -> Vec<u8> {
        let axis = |axes: &Vec<u64>| {
            let all: Vec<u8> = axes.iter().flat_map(|m| number(1, *m)).collect();
            if axes.is_empty() { number(1, u64::MAX) } else { all }
        };
        let maps: Vec<u8> = if self.map.iter().all(|axes| axes.len() <= 1) {
            message(2, &self.map.iter().flat_map(axis).collect::<Vec<u8>>())
        } else {
            // One message for each axis; a second, empty one distinguishes a nested map of one axis from a flat list.
            let mut maps: Vec<u8> = self.map.iter().flat_map(|axes| message(2, &axis(axes))).collect();
            maps.extend(if self.map.len() == 1 { message(2, &[]) } else { Vec::new() });
            maps
        };
        let matrix: Vec<u8> = self.matrix.iter().flat_map(|dim| number(1, *dim)).collect();
        [
            message(1, &matrix),
            maps,
            message(3, &[]),
            message(4, &[]),
            number(5, 0),
            number(6, u64::from(self.size != 0)),
            number(7, self.size.cast_unsigned()),
        ]
        .concat()
    }
}

/// A number in a protobuf message.
pub(crate) fn number(field: u64, value: u64) -> Vec<u8> {
    [to_varint(field << 3), to_varint(value)].concat()
}

/// A message, or text, in a protobuf message.
pub(crate) fn message(field: u64, content: &[u8]) -> Vec<u8> {
    [to_varint(field << 3 | 2), to_varint(content.len() as u64), content.to_vec()].concat()
}
