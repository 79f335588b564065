//! The protobuf encoding of strategy files (`node_strategy.proto`, package `mindspore.straspb`, proto2).
//!
//! The outer message is walked in place and its items are decoded one by one: errors state where, and a hostile file
//! costs no more memory than one item. proto2's required fields are `optional` here, so that a missing one is seen.

use prost::Message;

use super::layout_check::{RawLayout, RawStrategy};
use super::wire::{Fields, Payload, malformed};
use crate::formats::{Budget, FormatError, FormatFault, limits};
use crate::layout::{OptimizerShard, TensorLayout};

#[derive(Clone, PartialEq, Message)]
pub(super) struct ParallelStrategyMap {
    #[prost(uint32, optional, tag = "1")]
    pub(super) current_stage: Option<u32>,
    #[prost(message, repeated, tag = "2")]
    pub(super) parallel_strategy_item: Vec<ParallelStrategyItem>,
    #[prost(message, repeated, tag = "3")]
    pub(super) parallel_layout_item: Vec<ParallelLayoutItem>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ParallelStrategyItem {
    #[prost(string, optional, tag = "1")]
    pub(super) node_name: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub(super) parallel_strategys: Option<ParallelStrategys>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ParallelStrategys {
    #[prost(uint32, optional, tag = "1")]
    pub(super) stage: Option<u32>,
    #[prost(message, repeated, tag = "2")]
    pub(super) parallel_strategy: Vec<Dims32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ParallelLayoutItem {
    #[prost(string, optional, tag = "1")]
    pub(super) param_name: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub(super) parallel_layouts: Option<ParallelLayouts>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ParallelLayouts {
    #[prost(message, repeated, tag = "1")]
    pub(super) dev_matrix: Vec<Dims32>,
    #[prost(message, repeated, tag = "2")]
    pub(super) tensor_map: Vec<TensorMap>,
    #[prost(message, repeated, tag = "3")]
    pub(super) param_split_shape: Vec<Dims64>,
    #[prost(message, repeated, tag = "4")]
    pub(super) indices_offset: Vec<Dims64>,
    #[prost(int32, optional, tag = "5")]
    pub(super) field: Option<i32>,
    #[prost(int32, optional, tag = "6")]
    pub(super) opt_weight_shard_step: Option<i32>,
    #[prost(int32, optional, tag = "7")]
    pub(super) opt_weight_shard_size: Option<i32>,
}

/// `ParallelStrategy` and `DevMatrix`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Dims32 {
    #[prost(uint32, repeated, packed = "false", tag = "1")]
    pub(super) dim: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorMap {
    #[prost(int32, repeated, packed = "false", tag = "1")]
    pub(super) dim: Vec<i32>,
}

/// `ParamSplitShape` and `IndicesOffset`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Dims64 {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub(super) dim: Vec<i64>,
}

const MAP_FIELDS: &[&str] = &["unknown field", "current_stage", "parallel_strategy_item", "parallel_layout_item"];

pub(super) fn read(file: &[u8]) -> Result<RawStrategy, FormatError> {
    read_within(file, &Budget::unlimited())
}

pub(super) fn read_within(file: &[u8], budget: &Budget) -> Result<RawStrategy, FormatError> {
    let mut fields = Fields::new(file, &(0..file.len()), MAP_FIELDS);
    let (mut current_stage, mut stage, mut layouts) = (None, None, Vec::new());
    while let Some(field) = fields.next_field()? {
        match (field.number, field.payload) {
            (1, Payload::Varint(number)) => current_stage = Some(number),
            (2, Payload::Bytes(range)) if stage.is_none() => {
                let item: ParallelStrategyItem = decode(file.get(range), field.at)?;
                let stated = item.parallel_strategys.and_then(|strategys| strategys.stage);
                stage = Some(stated.ok_or_else(|| malformed(field.at, "strategy item: no `stage`"))?);
            }
            // Only the first item's stage is used, as in `merge_pipeline_strategys`.
            (2, Payload::Bytes(_)) => {}
            (3, Payload::Bytes(range)) => {
                if layouts.len() >= limits::MAX_ENTRIES {
                    let (limit, asked) = (limits::MAX_ENTRIES as u64, layouts.len() as u64 + 1);
                    let what = FormatFault::LimitExceeded { field: "number of layouts", asked, limit };
                    return Err(FormatError::new(field.at, what));
                }
                let layout = raw_layout(decode(file.get(range), field.at)?, field.at)?;
                budget.take_at(field.at, limits::LAYOUT_BYTES + layout.name.len() as u64)?;
                layouts.push(layout);
            }
            (1..=3, _) => {
                return Err(malformed(field.at, "strategy file: a field of the wrong wire type"));
            }
            _ => {}
        }
    }
    if current_stage.is_none() {
        return Err(malformed(0, "strategy file: no `current_stage`"));
    }
    Ok(RawStrategy { stage: stage.unwrap_or(0), layouts })
}

/// All of a file, strategy items included, for rewriting it. [`read`] has found nothing wrong with it.
pub(super) fn whole(file: &[u8]) -> Result<ParallelStrategyMap, FormatError> {
    ParallelStrategyMap::decode(file).map_err(|_| malformed(0, "strategy file"))
}

fn decode<M: Message + Default>(item: Option<&[u8]>, at: u64) -> Result<M, FormatError> {
    let item = item.unwrap_or_default();
    let (asked, limit) = (item.len() as u64, limits::MAX_STRATEGY_ITEM_BYTES);
    if asked > limit {
        return Err(FormatError::new(at, FormatFault::LimitExceeded { field: "strategy item", asked, limit }));
    }
    M::decode(item).map_err(|_| malformed(at, "item of the strategy file"))
}

fn raw_layout(item: ParallelLayoutItem, at: u64) -> Result<RawLayout, FormatError> {
    let name = item.param_name.ok_or_else(|| malformed(at, "layout item: no `param_name`"))?;
    let bad = |why: &str| FormatError::new(at, FormatFault::BadLayout { param: name.clone(), why: why.to_owned() });
    let asked = name.len() as u64;
    if asked > limits::MAX_NAME_BYTES {
        let (field, limit) = ("param_name", limits::MAX_NAME_BYTES);
        return Err(FormatError::new(at, FormatFault::LimitExceeded { field, asked, limit }));
    }
    let layouts = item.parallel_layouts.ok_or_else(|| bad("it has no `parallel_layouts`"))?;
    let (Some(field), Some(step), Some(size)) =
        (layouts.field, layouts.opt_weight_shard_step, layouts.opt_weight_shard_size)
    else {
        return Err(bad("`field`, `opt_weight_shard_step` or `opt_weight_shard_size` is missing"));
    };
    let [dev_matrix] = layouts.dev_matrix.as_slice() else {
        return Err(bad("it does not have exactly one `dev_matrix`"));
    };
    // Before they are copied, and by the words of [`RawLayout::check`].
    let longest = layouts.tensor_map.iter().map(|axes| axes.dim.len()).fold(layouts.tensor_map.len(), usize::max);
    for (list, axes) in [("dev_matrix", dev_matrix.dim.len()), ("tensor_map", longest)] {
        if axes > limits::MAX_RANK {
            return Err(bad(&format!("`{list}` has {axes} axes")));
        }
    }
    let tensor_map = match layouts.tensor_map.as_slice() {
        [] => return Err(bad("it has no `tensor_map`")),
        // One message: a list with one entry per tensor axis.
        [flat] => flat.dim.iter().map(|&entry| vec![i64::from(entry)]).collect(),
        // Several: one message per tensor axis. MindSpore's reader drops empty ones.
        nested => {
            let axes = nested.iter().filter(|axis| !axis.dim.is_empty());
            axes.map(|axis| axis.dim.iter().map(|&entry| i64::from(entry)).collect()).collect()
        }
    };
    Ok(RawLayout {
        at,
        device_matrix: dev_matrix.dim.iter().map(|&dim| i64::from(dim)).collect(),
        tensor_map,
        step: step.into(),
        size: size.into(),
        uneven: field != 0 || layouts.indices_offset.iter().any(|offset| !offset.dim.is_empty()),
        full_shape: None,
        name,
    })
}

pub(super) fn write(params: &[(String, TensorLayout)], stage: u32) -> Vec<u8> {
    let strategy = |(name, layout): &(String, TensorLayout)| ParallelStrategyItem {
        node_name: Some(name.clone()),
        parallel_strategys: Some(ParallelStrategys {
            stage: Some(stage),
            parallel_strategy: vec![Dims32 { dim: layout.tensor_map.iter().map(|axes| parts(layout, axes)).collect() }],
        }),
    };
    let map = ParallelStrategyMap {
        current_stage: Some(0),
        parallel_strategy_item: params.iter().map(strategy).collect(),
        parallel_layout_item: params.iter().map(layout_item).collect(),
    };
    map.encode_to_vec()
}

fn layout_item((name, layout): &(String, TensorLayout)) -> ParallelLayoutItem {
    let layouts = ParallelLayouts {
        dev_matrix: vec![Dims32 { dim: layout.device_matrix.iter().map(|&dim| narrow(dim)).collect() }],
        tensor_map: tensor_map(layout),
        // MindSpore's readers index both lists, so each has one (empty) element.
        param_split_shape: vec![Dims64::default()],
        indices_offset: vec![Dims64::default()],
        field: Some(0),
        opt_weight_shard_step: Some(step(layout)),
        opt_weight_shard_size: Some(match layout.optimizer_shard {
            OptimizerShard::None => 0,
            OptimizerShard::All => -1,
            OptimizerShard::Groups(size) => i32::try_from(size).unwrap_or(i32::MAX),
        }),
    };
    ParallelLayoutItem { param_name: Some(name.clone()), parallel_layouts: Some(layouts) }
}

fn tensor_map(layout: &TensorLayout) -> Vec<TensorMap> {
    // The indices of a layout lie within its device matrix, which is short.
    let entry = |&axis: &usize| i32::try_from(axis).unwrap_or(i32::MAX);
    if layout.tensor_map.iter().all(|axes| axes.len() <= 1) {
        let dim = layout.tensor_map.iter().map(|axes| axes.first().map_or(-1, entry)).collect();
        return vec![TensorMap { dim }];
    }
    let axis = |axes: &Vec<usize>| TensorMap {
        dim: if axes.is_empty() { vec![-1] } else { axes.iter().map(entry).collect() },
    };
    let mut maps: Vec<TensorMap> = layout.tensor_map.iter().map(axis).collect();
    if maps.len() == 1 {
        maps.push(TensorMap::default());
    }
    maps
}

/// Over how many parts a tensor axis is split.
fn parts(layout: &TensorLayout, axes: &[usize]) -> u32 {
    narrow(axes.iter().filter_map(|&axis| layout.device_matrix.iter().rev().nth(axis)).product())
}

/// The step as stated. Where a sharded parameter states none, the number of devices to the right of the innermost
/// replicated device axis, which MindSpore checks; readers take 0 for "not sharded".
fn step(layout: &TensorLayout) -> i32 {
    if layout.optimizer_shard == OptimizerShard::None || layout.optimizer_shard_step != 0 {
        return layout.optimizer_shard_step;
    }
    let replicated = |axis: &usize| !layout.tensor_map.iter().flatten().any(|used| used == axis);
    let inner = (0..layout.device_matrix.len()).find(replicated).unwrap_or(0);
    let right: u64 = layout.device_matrix.iter().rev().take(inner).product();
    i32::try_from(right).unwrap_or(i32::MAX)
}

/// Device counts are 32-bit in the schema; a layout beyond it has been refused at reading or planning.
fn narrow(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
