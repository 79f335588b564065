//! Strategy files as wholes: the stages of a run merged to one file, protobuf to JSON and back.
//!
//! Unlike reading, this keeps what the layouts do not need: the strategies of the operators.

use std::collections::HashMap;

use prost::Message;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::strategy_proto::{
    Dims32, Dims64, ParallelLayoutItem, ParallelLayouts, ParallelStrategyItem, ParallelStrategyMap, ParallelStrategys,
    TensorMap, whole,
};
use super::wire::malformed;
use super::{StrategyFile, read_strategy};
use crate::formats::json::{self, Node};
use crate::formats::{FormatError, FormatFault};

/// Merges the files of pipeline stages as MindSpore's `merge_pipeline_strategys` does: each name gets its stage before it,
/// `<stage>-<name>`, and of several files of a stage the first is taken. All files in one encoding, which the result has too.
///
/// # Errors
/// The index of the file at fault, and what is wrong: unreadable, merged already, without operators (which show the stage), or
/// a parameter with a hyphen in its name, which MindSpore could not read back.
pub fn merge(files: &[Vec<u8>]) -> Result<Vec<u8>, (usize, FormatError)> {
    let mut merged = ParallelStrategyMap { current_stage: Some(1), ..ParallelStrategyMap::default() };
    let (mut json_items, mut json_layouts) = (Ordered::default(), Ordered::default());
    let mut stages = std::collections::BTreeSet::new();
    for (index, bytes) in files.iter().enumerate() {
        let fault = |error: FormatError| (index, error);
        let file = read_strategy(bytes).map_err(fault)?;
        let stage = mergeable(&file).map_err(fault)?;
        if !stages.insert(stage) {
            continue;
        }
        if is_json(bytes) {
            let tree = json::tree(bytes).map_err(fault)?;
            let pairs = |key: &str| match tree.get(key) {
                Some(Node::Map(pairs)) => pairs.as_slice(),
                _ => &[],
            };
            for (name, node) in pairs("parallel_strategy_item") {
                json_items.insert(name.clone(), value(node));
            }
            for (name, node) in pairs("parallel_layout_item") {
                json_layouts.insert(format!("{stage}-{name}"), value(node));
            }
        } else {
            let map = whole(bytes).map_err(fault)?;
            merged.parallel_strategy_item.extend(map.parallel_strategy_item);
            merged.parallel_layout_item.extend(map.parallel_layout_item.into_iter().map(|mut item| {
                item.param_name = item.param_name.map(|name| format!("{stage}-{name}"));
                item
            }));
        }
    }
    if json_layouts.pairs.is_empty() {
        return Ok(merged.encode_to_vec());
    }
    Ok(JsonFile { current_stage: 1, parallel_layout_item: json_layouts, parallel_strategy_item: json_items }.bytes())
}

/// A JSON strategy file. In the order in which the other encoding has them: the first operator shows the stage.
#[derive(Serialize)]
struct JsonFile {
    current_stage: u32,
    parallel_layout_item: Ordered,
    parallel_strategy_item: Ordered,
}

impl JsonFile {
    fn bytes(&self) -> Vec<u8> {
        // Names are text and values finite, so there is nothing that JSON could not say.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// A JSON object whose keys keep their order. Of values with one key the last counts, as in MindSpore's own JSON: operators
/// of two stages may have one name.
#[derive(Default)]
struct Ordered {
    pairs: Vec<(String, Value)>,
    index: HashMap<String, usize>,
}

impl Ordered {
    fn insert(&mut self, key: String, value: Value) {
        let next = self.pairs.len();
        match *self.index.entry(key.clone()).or_insert(next) {
            at if at < next => self.pairs[at].1 = value,
            _ => self.pairs.push((key, value)),
        }
    }
}

impl Serialize for Ordered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.pairs.iter().map(|(key, value)| (key, value)))
    }
}

/// Whether a strategy file is JSON, as MindSpore determines by its name.
pub fn is_json(file: &[u8]) -> bool {
    file.trim_ascii_start().first() == Some(&b'{')
}

/// The stage of a file that can be merged.
fn mergeable(file: &StrategyFile) -> Result<u32, FormatError> {
    if file.merged {
        return Err(malformed(0, "strategy file: it is merged already"));
    }
    let Some((&stage, layouts)) = file.stages.first_key_value() else {
        return Err(malformed(0, "strategy file: it holds no parameter"));
    };
    match layouts.keys().find(|name| name.contains('-')) {
        Some(name) => {
            let why = "MindSpore cannot read a merged strategy with a hyphen in a name".to_owned();
            Err(FormatError::new(0, FormatFault::BadLayout { param: name.clone(), why }))
        }
        None => Ok(stage),
    }
}

/// A protobuf strategy file as MindSpore's JSON. `shape`: a parameter's full shape, which only JSON states; left out where it
/// is not known (MindSpore does not read it).
///
/// # Errors
/// An unreadable file, or a nested layout, which JSON cannot say.
pub fn to_json(file: &[u8], shape: &dyn Fn(&str) -> Option<Vec<u64>>) -> Result<Vec<u8>, FormatError> {
    read_strategy(file)?;
    let map = whole(file)?;
    let mut items = Ordered::default();
    for item in map.parallel_strategy_item {
        let strategys = item.parallel_strategys.unwrap_or_default();
        let dims: Vec<&Vec<u32>> = strategys.parallel_strategy.iter().map(|s| &s.dim).collect();
        let stage = strategys.stage.unwrap_or(0);
        let entry = json!({"parallel_strategy": dims, "stage": stage});
        items.insert(item.node_name.unwrap_or_default(), entry);
    }
    let mut layouts = Ordered::default();
    for item in map.parallel_layout_item {
        let (name, layout) = (item.param_name.unwrap_or_default(), item.parallel_layouts.unwrap_or_default());
        let [map] = layout.tensor_map.as_slice() else {
            let why = "JSON cannot say a nested layout: keep the protobuf file".to_owned();
            return Err(FormatError::new(0, FormatFault::BadLayout { param: name, why }));
        };
        let matrix: Vec<u32> = layout.dev_matrix.iter().flat_map(|d| d.dim.clone()).collect();
        let mut entry = json!({
            "dev_matrix": matrix,
            "field": layout.field,
            "opt_weight_shard_size": layout.opt_weight_shard_size,
            "opt_weight_shard_step": layout.opt_weight_shard_step,
            "tensor_map": map.dim,
        });
        for (key, dims) in [("param_split_shape", layout.param_split_shape), ("indices_offset", layout.indices_offset)]
        {
            let dims: Vec<i64> = dims.into_iter().flat_map(|d| d.dim).collect();
            if !dims.is_empty() {
                entry[key] = json!(dims);
            }
        }
        let bare = name.split_once('-').map_or(name.as_str(), |(_, bare)| bare);
        if let Some(dims) = shape(&name).or_else(|| shape(bare)).filter(|dims| dims.len() == map.dim.len()) {
            entry["tensor_shape"] = json!(dims);
        }
        layouts.insert(name, entry);
    }
    let current_stage = map.current_stage.unwrap_or(0);
    Ok(JsonFile { current_stage, parallel_layout_item: layouts, parallel_strategy_item: items }.bytes())
}

/// A JSON strategy file as protobuf, which does not state the full shapes.
///
/// # Errors
/// An unreadable file, or numbers that do not fit the protobuf schema.
pub fn to_protobuf(file: &[u8]) -> Result<Vec<u8>, FormatError> {
    read_strategy(file)?;
    let tree = json::tree(file)?;
    let pairs = |key: &str| match tree.get(key) {
        Some(Node::Map(pairs)) => pairs.as_slice(),
        _ => &[],
    };
    let stage = tree.get("current_stage").and_then(Node::integer).unwrap_or(0);
    let items = pairs("parallel_strategy_item").iter().map(|(name, node)| strategy_item(name, node));
    let layouts = pairs("parallel_layout_item").iter().map(|(name, node)| layout_item(name, node));
    let map = ParallelStrategyMap {
        current_stage: Some(u32::try_from(stage).map_err(|_| malformed(0, "strategy file: `current_stage`"))?),
        parallel_strategy_item: items.collect::<Option<_>>().ok_or_else(|| malformed(0, "strategy item"))?,
        parallel_layout_item: layouts.collect::<Option<_>>().ok_or_else(|| malformed(0, "layout item"))?,
    };
    Ok(map.encode_to_vec())
}

fn strategy_item(name: &str, node: &Node) -> Option<ParallelStrategyItem> {
    let strategies = match node.get("parallel_strategy") {
        Some(Node::List(lists)) => lists.iter().map(dims32).collect::<Option<_>>()?,
        _ => return None,
    };
    let stage = u32::try_from(node.get("stage")?.integer()?).ok();
    Some(ParallelStrategyItem {
        node_name: Some(name.to_owned()),
        parallel_strategys: Some(ParallelStrategys { stage: Some(stage?), parallel_strategy: strategies }),
    })
}

fn layout_item(name: &str, node: &Node) -> Option<ParallelLayoutItem> {
    let narrow = |key: &str| i32::try_from(node.get(key)?.integer()?).ok();
    // MindSpore's readers index both lists, so each has one (empty) element.
    let offsets = |key: &str| {
        let dim = node.get(key).and_then(Node::integers).unwrap_or_default();
        vec![Dims64 { dim }]
    };
    let map = node.get("tensor_map")?.integers()?;
    let layouts = ParallelLayouts {
        dev_matrix: vec![dims32(node.get("dev_matrix")?)?],
        tensor_map: vec![TensorMap { dim: map.iter().map(|&axis| i32::try_from(axis).ok()).collect::<Option<_>>()? }],
        param_split_shape: offsets("param_split_shape"),
        indices_offset: offsets("indices_offset"),
        field: Some(narrow("field")?),
        opt_weight_shard_step: Some(narrow("opt_weight_shard_step")?),
        opt_weight_shard_size: Some(narrow("opt_weight_shard_size")?),
    };
    Some(ParallelLayoutItem { param_name: Some(name.to_owned()), parallel_layouts: Some(layouts) })
}

fn dims32(node: &Node) -> Option<Dims32> {
    let dim = node.integers()?.into_iter().map(|dim| u32::try_from(dim).ok()).collect::<Option<_>>()?;
    Some(Dims32 { dim })
}

/// A tree as a value again. What is no integer, text, list or map has no meaning in a strategy.
fn value(node: &Node) -> Value {
    match node {
        Node::Integer(n) => json!(n),
        Node::Text(text) => json!(text),
        Node::List(nodes) => nodes.iter().map(value).collect(),
        Node::Map(pairs) => Value::Object(pairs.iter().map(|(key, node)| (key.clone(), value(node))).collect()),
        Node::Other => Value::Null,
    }
}
