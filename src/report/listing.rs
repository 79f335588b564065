//! What `inspect` shows.

use std::fmt::Write;

use serde::Serialize;

use super::units;
use crate::model::naming::FUSED_LAYERS;

/// A checkpoint.
#[derive(Clone, Debug, Serialize)]
pub struct CheckpointListing {
    /// The path that was named.
    pub path: String,
    /// The format.
    pub format: String,
    /// Its ranks.
    pub ranks: Vec<RankListing>,
    /// The tensors of the lowest rank that holds each.
    pub tensors: Vec<TensorListing>,
    /// Whether q, k, v and gate, up are fused.
    pub fused: bool,
    /// Bytes of all files.
    pub bytes: u64,
    /// Elements of the whole model, each once. `None` where the layout is not known.
    pub parameters: Option<u64>,
    /// What could not be found out, and why.
    pub notes: Vec<String>,
}

/// A file of a checkpoint.
#[derive(Clone, Debug, Serialize)]
pub struct RankListing {
    /// The rank.
    pub rank: u32,
    /// The file.
    pub file: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// How many tensors it holds.
    pub tensors: usize,
    /// Whether it states a CRC.
    pub crc: bool,
    /// Whether its bytes were checked and are not those of its CRC.
    pub damaged: bool,
}

/// A tensor.
#[derive(Clone, Debug, Serialize)]
pub struct TensorListing {
    /// Its name in the file.
    pub name: String,
    /// Its elements.
    pub dtype: String,
    /// Its shape in a rank's file.
    pub shape: Vec<u64>,
    /// Its shape over all ranks. `None` where the layout is not known.
    pub full_shape: Option<Vec<u64>>,
    /// The lowest rank that holds it.
    pub rank: u32,
}

impl CheckpointListing {
    /// The listing as text.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}: {}, {} file(s), {}, {}\n",
            units::plain(&self.path),
            self.format,
            self.ranks.len(),
            units::bytes(self.bytes),
            if self.fused { format!("fused ({})", FUSED_LAYERS.join(", ")) } else { "not fused".to_owned() },
        );
        // Writing to a string cannot fail.
        let mut line = |s: String| {
            let _ = writeln!(text, "{}", units::plain(&s));
        };
        for rank in &self.ranks {
            let crc = match (rank.crc, rank.damaged) {
                (_, true) => ", DAMAGED (CRC)",
                (true, false) => ", CRC",
                (false, false) => "",
            };
            line(format!(
                "  rank {:<3} {:>12}  {} tensors{crc}  {}",
                rank.rank,
                units::bytes(rank.bytes),
                rank.tensors,
                rank.file
            ));
        }
        let width = self.tensors.iter().map(|t| t.name.len()).max().unwrap_or(0);
        for tensor in &self.tensors {
            let full = match &tensor.full_shape {
                Some(full) if *full != tensor.shape => format!(" of {full:?}"),
                _ => String::new(),
            };
            line(format!("  {:<width$}  {:<6} {:?}{full}", tensor.name, tensor.dtype, tensor.shape));
        }
        if let Some(parameters) = self.parameters {
            line(format!("  {parameters} elements in all"));
        }
        for note in &self.notes {
            line(format!("  note: {note}"));
        }
        text
    }
}

/// A strategy.
#[derive(Clone, Debug, Serialize)]
pub struct StrategyListing {
    /// The path that was named.
    pub path: String,
    /// The files that were read.
    pub files: Vec<String>,
    /// Pipeline stages.
    pub stages: usize,
    /// Devices of a stage.
    pub devices: u64,
    /// The parameters.
    pub params: Vec<ParamListing>,
}

/// A parameter of a strategy.
#[derive(Clone, Debug, Serialize)]
pub struct ParamListing {
    /// Its name.
    pub name: String,
    /// Its stage.
    pub stage: usize,
    /// Devices per axis, outermost first.
    pub device_matrix: Vec<u64>,
    /// Device axes (from the right) that split each tensor axis.
    pub tensor_map: Vec<Vec<usize>>,
    /// The optimizer shard: `none`, `all` or a group size.
    pub optimizer_shard: String,
    /// The full shape, where the file states it.
    pub full_shape: Option<Vec<u64>>,
}

impl StrategyListing {
    /// The listing as text.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}: strategy of {} stage(s) of {} device(s), {} parameters, from {} file(s)\n",
            units::plain(&self.path),
            self.stages,
            self.devices,
            self.params.len(),
            self.files.len()
        );
        let width = self.params.iter().map(|p| p.name.len()).max().unwrap_or(0);
        for param in &self.params {
            let map: Vec<String> = param
                .tensor_map
                .iter()
                .map(|axes| match axes.as_slice() {
                    [] => "-1".to_owned(),
                    [one] => one.to_string(),
                    several => format!("{several:?}"),
                })
                .collect();
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "  stage {} {:<width$}  device matrix {:?}, tensor map [{}], optimizer shard {}",
                param.stage,
                units::plain(&param.name),
                param.device_matrix,
                map.join(", "),
                param.optimizer_shard
            );
        }
        text
    }
}
