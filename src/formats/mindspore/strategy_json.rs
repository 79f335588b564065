//! The JSON encoding of strategy files: `{"current_stage": .., "parallel_layout_item": {param: {..}},
//! "parallel_strategy_item": {node: {"parallel_strategy": [..], "stage": ..}}}`.

use super::layout_check::{RawLayout, RawStrategy};
use super::wire::malformed;
use crate::formats::json::{self, Node};
use crate::formats::{Budget, FormatError, FormatFault, limits};

pub(super) fn read(file: &[u8], budget: &Budget) -> Result<RawStrategy, FormatError> {
    let mut loan = budget.loan();
    let tree = json::tree_within(file, &mut loan)?;
    let Some(Node::Map(items)) = tree.get("parallel_layout_item") else {
        return Err(malformed(0, "strategy file: no object `parallel_layout_item`"));
    };
    let layouts = items.iter().map(|(name, item)| {
        budget.take_at(0, limits::LAYOUT_BYTES + name.len() as u64)?;
        raw_layout(name, item)
            .map_err(|why| FormatError::new(0, FormatFault::BadLayout { param: name.clone(), why: why.to_owned() }))
    });
    Ok(RawStrategy { stage: stage(&tree)?, layouts: layouts.collect::<Result<_, _>>()? })
}

fn stage(tree: &Node) -> Result<u32, FormatError> {
    let first = match tree.get("parallel_strategy_item") {
        None => None,
        Some(Node::Map(items)) => items.first(),
        Some(_) => {
            return Err(malformed(0, "strategy file: `parallel_strategy_item` is no object"));
        }
    };
    let Some((_, item)) = first else { return Ok(0) };
    let stage = item.get("stage").and_then(Node::integer).and_then(|stage| u32::try_from(stage).ok());
    stage.ok_or_else(|| malformed(0, "strategy item: no number `stage`"))
}

fn raw_layout(name: &str, item: &Node) -> Result<RawLayout, &'static str> {
    let integer = |key, why| item.get(key).and_then(Node::integer).ok_or(why);
    let list = |key, why| item.get(key).and_then(Node::integers).ok_or(why);
    let full_shape = match item.get("tensor_shape") {
        None => None,
        Some(node) => Some(node.integers().ok_or("`tensor_shape` is no list of integers")?),
    };
    // Written only where they are not empty.
    let offsets = item.get("indices_offset").is_some_and(|node| !is_empty(node));
    let field = integer("field", "`field` is no integer")?;
    Ok(RawLayout {
        at: 0,
        name: name.to_owned(),
        device_matrix: list("dev_matrix", "`dev_matrix` is no list of integers")?,
        tensor_map: list("tensor_map", "`tensor_map` is no flat list of integers")?
            .into_iter()
            .map(|entry| vec![entry])
            .collect(),
        step: integer("opt_weight_shard_step", "`opt_weight_shard_step` is no integer")?,
        size: integer("opt_weight_shard_size", "`opt_weight_shard_size` is no integer")?,
        uneven: field != 0 || offsets,
        full_shape,
    })
}

/// Whether a list holds nothing but empty lists.
fn is_empty(node: &Node) -> bool {
    matches!(node, Node::List(nodes) if nodes.iter().all(is_empty))
}
