//! Of which parameters a fused one is made, name by name.

use super::quantised::quantity_name;
use super::table::table;
use crate::model::companion::companions;
use crate::model::{Companion, QuantNames, Quantity};

/// The fused layers that nearly every family has, as users know them.
pub const FUSED_LAYERS: [&str; 2] = ["w_qkv", "w_gate_hidden"];

/// A fused parameter and what it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fused {
    /// The fused name.
    pub name: String,
    /// The names of the parts in order: q, k, v or gate, up.
    pub parts: Vec<String>,
    /// The output projection of the same attention, whose axis 1 shows the number of q rows. `None` where all parts have the
    /// same rows.
    pub query_rows_of: Option<String>,
    /// Whether the fused parameter is not made of the parts' rows but is the same as each of them: what belongs to the input.
    pub shared: bool,
}

/// How the rows of the parts alternate in a grouped parameter: `groups` times, for each part `slots` blocks of `height`
/// rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grouping {
    /// The number of groups: kv heads, or ffn rows.
    pub groups: u64,
    /// Blocks of each part in a group.
    pub slots: Vec<u64>,
    /// Rows of a block: the head dimension, or 1.
    pub height: u64,
}

/// The fused parameter that `name` is, or is a part of; `None` for any other name. The factors of an adapter on a fused weight
/// are fused as the weight is: mindpet adds `B (A x)` to the layer's output, so `B` has the rows of the weight, in its order,
/// and `A` belongs to the input.
/// What is before the name in the decoder layer is kept, so optimizer states are recognised too.
pub fn fused(name: &str) -> Option<Fused> {
    for layer in &table().fused {
        for marker in layer.parts.iter().chain([&layer.whole]) {
            let Some(at) = name.find(marker.as_str()) else { continue };
            let (prefix, tail) = (&name[..at], &name[at + marker.len()..]);
            let begins_a_component = prefix.is_empty() || prefix.ends_with('.');
            let companion =
                companions().iter().find(|companion| companion.tail == tail && companion.quantity.is_converted());
            let known = matches!(tail, "weight" | "bias") || companion.is_some();
            if !begins_a_component || !known {
                continue;
            }
            let quantised = companion.is_some_and(|companion| companion.quantity.factor().is_none());
            let output = if quantised { quantity_name(QuantNames::Gs06, Quantity::Weight)? } else { "weight" };
            return Some(Fused {
                name: format!("{prefix}{}{tail}", layer.whole),
                parts: layer.parts.iter().map(|part| format!("{prefix}{part}{tail}")).collect(),
                query_rows_of: layer.output.as_ref().map(|layer| format!("{prefix}{layer}{output}")),
                shared: companion.is_some_and(Companion::is_of_input),
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_and_the_whole_name_the_same_fused_parameter() {
        let whole = fused("model.layers.3.attention.w_qkv.bias").unwrap();
        assert_eq!(fused("model.layers.3.attention.wk.bias").unwrap(), whole);
        assert_eq!(whole.parts[2], "model.layers.3.attention.wv.bias");
        assert_eq!(whole.query_rows_of.as_deref(), Some("model.layers.3.attention.wo.weight"));
        let gate_up = fused("model.layers.3.feed_forward.w3.weight").unwrap();
        assert_eq!((gate_up.parts.len(), gate_up.query_rows_of), (2, None));
        let factor = fused("model.layers.3.attention.w_qkv.lora_B.weight").unwrap();
        assert_eq!((factor.parts[2].as_str(), factor.shared), ("model.layers.3.attention.wv.lora_B.weight", false));
        assert!(fused("model.layers.3.feed_forward.w1.mindpet_delta_lora_a").unwrap().shared);
        for other in
            ["model.layers.3.attention.wo.weight", "model.layers.3.feed_forward.w2.weight", "xattention.wq.weight"]
        {
            assert_eq!(fused(other), None, "{other}");
        }
        assert_eq!(table().fused.len(), 2, "{:?}", table().fused);
    }
}
