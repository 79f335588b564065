//! Fused parameters: `w_qkv` and `w_gate_hidden`, and the two orders in which their rows stand.

use std::fmt;

use super::lora::{LoraFactor, factor_of};
use super::quantised::{Quantity, quantity};

/// In which order the rows of a fused parameter stand. Files do not tell: both have the same names and shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum FusionLayout {
    /// mindformers up to 1.3: each rank's own `[q; k; v]` and `[gate; up]`, one part after the other.
    /// Cutting or joining such tensors on axis 0 is wrong; they are taken apart and put together again.
    #[default]
    RankConcat,
    /// mindformers from 1.4 on: for each kv head its q heads, then its k, then its v; gate and up row by row in turn.
    Grouped,
}

impl FusionLayout {
    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RankConcat => "rank-concat",
            Self::Grouped => "grouped",
        }
    }
}

impl fmt::Display for FusionLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A fused parameter and what it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fused {
    /// The fused name.
    pub name: String,
    /// The names of the parts in order: q, k, v or gate (`w1`), up (`w3`).
    pub parts: Vec<String>,
    /// The output projection of the same attention, whose axis 1 tells the number of q rows. `None` for gate/up.
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

const QKV: (&str, &[&str]) = ("attention.w_qkv.", &["attention.wq.", "attention.wk.", "attention.wv."]);
const GATE_UP: (&str, &[&str]) = ("feed_forward.w_gate_hidden.", &["feed_forward.w1.", "feed_forward.w3."]);

/// The fused parameter that `name` is, or is a part of; `None` for any other name. The factors of an adapter on a fused weight
/// are fused as the weight is: mindpet adds `B (A x)` to the layer's output, so `B` has the rows of the weight, in its order,
/// and `A` belongs to the input.
/// A prefix before `attention.` or `feed_forward.` is kept, so optimizer states are recognised too.
pub fn fused(name: &str) -> Option<Fused> {
    for (whole, parts) in [QKV, GATE_UP] {
        for marker in parts.iter().chain([&whole]) {
            let Some(at) = name.find(marker) else { continue };
            let (prefix, tail) = (&name[..at], &name[at + marker.len()..]);
            let begins_a_component = prefix.is_empty() || prefix.ends_with('.');
            let (quantity, factor) = (quantity(tail), factor_of(tail));
            let known = matches!(tail, "weight" | "bias") || quantity.is_some() || factor.is_some();
            if !begins_a_component || !known {
                continue;
            }
            let output = if quantity.is_some() { "attention.wo._layer.weight" } else { "attention.wo.weight" };
            return Some(Fused {
                name: format!("{prefix}{whole}{tail}"),
                parts: parts.iter().map(|part| format!("{prefix}{part}{tail}")).collect(),
                query_rows_of: (whole == QKV.0).then(|| format!("{prefix}{output}")),
                shared: factor == Some(LoraFactor::A)
                    || matches!(
                        quantity,
                        Some(
                            Quantity::InputScale
                                | Quantity::InputZeroPoint
                                | Quantity::InputScaleCopy
                                | Quantity::InputZeroPointCopy
                        )
                    ),
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
        assert_eq!(fused("model.layers.3.feed_forward.w3.weight").unwrap().parts.len(), 2);
        let factor = fused("model.layers.3.attention.w_qkv.lora_B.weight").unwrap();
        assert_eq!((factor.parts[2].as_str(), factor.shared), ("model.layers.3.attention.wv.lora_B.weight", false));
        assert!(fused("model.layers.3.feed_forward.w1.mindpet_delta_lora_a").unwrap().shared);
        for other in
            ["model.layers.3.attention.wo.weight", "model.layers.3.feed_forward.w2.weight", "xattention.wq.weight"]
        {
            assert_eq!(fused(other), None, "{other}");
        }
    }
}
