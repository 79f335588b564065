//! Tensors to files: which tensor is in which file, at which place, with which header; numbered files and their index.

use super::PlanError;
use super::ids::OpsId;
use super::options::{PlanOptions, WholeModel, WholeReader};
use super::route::{OutputFile, OutputTensor};
use super::value::Plan;
use crate::formats::{FileLayout, Reader, TensorToWrite, Writing, safetensors};

/// Tensors smaller than this are not worth an aligned place.
const ALIGNED_FROM: u64 = 64 << 10;

fn to_write(plan: &Plan, tensor: &OutputTensor) -> TensorToWrite {
    TensorToWrite {
        name: tensor.name.clone(),
        dtype: tensor.dtype,
        shape: tensor.shape.clone(),
        phase: phase(plan, tensor),
    }
}

/// Where in a block the tensor should begin so that most of its bytes lie as they do in the source.
fn phase(plan: &Plan, tensor: &OutputTensor) -> Option<u64> {
    let mut votes: Vec<(u64, u64)> = Vec::new();
    for route in &tensor.routes {
        if route.ops != OpsId::COPY || !route.moves.dims.is_empty() || route.moves.run < ALIGNED_FROM {
            continue;
        }
        let mut at = route.moves.dst;
        for range in plan.stored(route).extents.locate(route.moves.src, route.moves.run) {
            let block = FileLayout::BLOCK;
            let phase = (range.start() % block + block - at % block) % block;
            match votes.iter_mut().find(|(p, _)| *p == phase) {
                Some((_, bytes)) => *bytes += range.len(),
                None => votes.push((phase, range.len())),
            }
            at += range.len();
        }
    }
    votes.into_iter().max_by_key(|&(phase, bytes)| (bytes, u64::MAX - phase)).map(|(phase, _)| phase)
}

/// One file of a rank.
pub(super) fn file(
    plan: &Plan,
    path: String,
    rank: u32,
    tensors: Vec<OutputTensor>,
    options: &PlanOptions,
) -> Result<OutputFile, PlanError> {
    let list: Vec<TensorToWrite> = tensors.iter().map(|t| to_write(plan, t)).collect();
    let reader = match options.whole {
        Some(WholeModel { reader: WholeReader::HuggingFace, .. }) => Reader::PyTorch,
        _ => Reader::MindSpore,
    };
    let how = Writing { padding: options.padding, crc: options.crc, reader };
    let layout = options.format.layout(&list, how);
    let layout = layout.map_err(|source| PlanError::Header { rank, source })?;
    Ok(OutputFile { path, rank: Some(rank), format: Some(options.format), layout, tensors })
}

/// A whole-model directory: numbered files, and an index under the names that its readers look for.
pub(super) fn whole_model(
    plan: &Plan,
    rank: u32,
    tensors: Vec<OutputTensor>,
    whole: WholeModel,
    options: &PlanOptions,
) -> Result<Vec<OutputFile>, PlanError> {
    let mut shards: Vec<Vec<OutputTensor>> = vec![Vec::new()];
    let (mut filled, mut total) = (0, 0);
    for tensor in tensors {
        let bytes = tensor.shape.bytes(tensor.dtype);
        if filled > 0 && filled + bytes > whole.shard_bytes {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        total += bytes;
        if let Some(shard) = shards.last_mut() {
            shard.push(tensor);
        }
    }
    let count = shards.len();
    let (mut outputs, mut map) = (Vec::new(), Vec::new());
    let extension = options.format.extension();
    let stem = options.format.stem();
    for (number, shard) in (1..).zip(shards) {
        let path = if count == 1 {
            format!("{stem}.{extension}")
        } else {
            format!("{stem}-{number:05}-of-{count:05}.{extension}")
        };
        map.extend(shard.iter().map(|t| (t.name.to_string(), path.clone())));
        outputs.push(file(plan, path, rank, shard, options)?);
    }
    let index = safetensors::write_index(&map, total);
    let index_name = format!("{stem}.{extension}.index.json");
    let names: &[&str] = match whole.reader {
        WholeReader::MindSpore => &[&index_name, "param_name_map.json"],
        // transformers writes no index beside a single file.
        WholeReader::HuggingFace if count == 1 => &[],
        WholeReader::HuggingFace => &[&index_name],
    };
    for path in names {
        let mut layout = FileLayout::default();
        layout.literal(&index);
        outputs.push(OutputFile { path: (*path).to_owned(), rank: None, format: None, layout, tensors: Vec::new() });
    }
    Ok(outputs)
}
