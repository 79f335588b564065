//! Names of quantised parameters, and the axis on which each is cut.
//!
//! Source: golden-stick 0.6.0 (`ptq/wrappers/mindformers/wrapper_cells.py`, `sharded_state_dict`), its 1.x (`ptq/hal.py`) and
//! its round-to-nearest generation. A linear layer `L` of the network becomes a cell around it, so its weight is
//! `L._layer.weight`, and what the quantised matrix product needs stands beside it.
//!
//! int4 weights and scales of groups of columns are an extension of this program ([`QuantNames::Extension`]): no network of
//! golden-stick's knows their names, so none takes them for its own.

use super::names::Split;
use crate::tensor::Dtype;

/// Which generation of golden-stick the names are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum QuantNames {
    /// 0.6.0, which mindformers 1.3 goes with.
    #[default]
    Gs06,
    /// 1.0 and later.
    Gs1x,
    /// Round-to-nearest (0.5 and `rtn-a16w8`).
    Rtn,
    /// This program's own: int4, and scales of groups.
    Extension,
}

/// How many neighbouring columns of a row may share a scale.
pub const GROUP_SIZES: [u64; 2] = [64, 128];

/// What a parameter of a quantised linear layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quantity {
    /// The int8 weight.
    Weight,
    /// The int4 weight, two columns a byte.
    PackedWeight,
    /// The bias, with the zero point's share where activations are quantised.
    Bias,
    /// One scale for each row.
    Scale,
    /// One scale for each group of columns of each row.
    GroupScale,
    /// The negated zero point of each row.
    ZeroPoint,
    /// The product of weight and input scale of each row, an fp32 in the low half of an int64.
    DequantScale,
    /// The input's scale, one for each column.
    InputScale,
    /// The input's zero point, one for each column.
    InputZeroPoint,
    /// A second copy of the input's scale, which no network loads.
    InputScaleCopy,
    /// A second copy of the input's zero point, which no network loads.
    InputZeroPointCopy,
}

/// Each quantity's name behind the layer's, by generation. The first that fits counts.
const TAILS: &[(&str, Quantity, &[QuantNames])] = &[
    ("_layer.weight", Quantity::Weight, &[QuantNames::Gs06, QuantNames::Gs1x]),
    ("_layer.bias", Quantity::Bias, &[QuantNames::Gs06, QuantNames::Gs1x, QuantNames::Extension]),
    ("_layer.matmul.t_scale", Quantity::Scale, &[QuantNames::Gs06]),
    ("_layer.matmul.t_zp_neg", Quantity::ZeroPoint, &[QuantNames::Gs06]),
    ("_layer.matmul.dequant_scale", Quantity::DequantScale, &[QuantNames::Gs06, QuantNames::Gs1x]),
    ("input_scale", Quantity::InputScale, &[QuantNames::Gs06]),
    ("input_zp", Quantity::InputZeroPoint, &[QuantNames::Gs06]),
    ("_layer.matmul.input_scale", Quantity::InputScaleCopy, &[QuantNames::Gs06]),
    ("_layer.matmul.input_zp", Quantity::InputZeroPointCopy, &[QuantNames::Gs06]),
    ("_layer.matmul.weight_scale", Quantity::Scale, &[QuantNames::Gs1x]),
    ("_layer.matmul.weight_zp", Quantity::ZeroPoint, &[QuantNames::Gs1x]),
    ("quant_op.input_scale", Quantity::InputScale, &[QuantNames::Gs1x]),
    ("quant_op.input_zp", Quantity::InputZeroPoint, &[QuantNames::Gs1x]),
    ("_handler.weight", Quantity::Weight, &[QuantNames::Rtn]),
    ("_handler.bias", Quantity::Bias, &[QuantNames::Rtn]),
    ("_weight_quantizer.scale", Quantity::Scale, &[QuantNames::Rtn]),
    ("_weight_quantizer.zp_neg", Quantity::ZeroPoint, &[QuantNames::Rtn]),
    ("_layer.grouped_weight", Quantity::Weight, &[QuantNames::Extension]),
    ("_layer.int4_weight", Quantity::PackedWeight, &[QuantNames::Extension]),
    ("_layer.matmul.group_scale", Quantity::GroupScale, &[QuantNames::Extension]),
    ("_layer.matmul.int4_scale", Quantity::Scale, &[QuantNames::Extension]),
];

/// The unquantised name of a layer, and what one of its parameters is: the longest tail of any layer's name, whichever family
/// the layer is of. `None` for a name that has no such tail.
fn any_layer(name: &str) -> Option<(&str, Quantity)> {
    let of = |(tail, quantity, _): &(&str, Quantity, &[QuantNames])| {
        Some((name.strip_suffix(tail)?.strip_suffix('.')?, *quantity))
    };
    TAILS.iter().filter_map(of).min_by_key(|(layer, _)| layer.len())
}

/// Whether a name is one that golden-stick or this program gives to a part of a quantised layer, of any family.
pub fn has_known_tail(name: &str) -> bool {
    any_layer(name).is_some()
}

/// Of a weight or bias that is stored as whole numbers under a name of a known kind: the layer. `None`: the name, or the dtype
/// under it, is of no such kind.
pub fn known_integers(name: &str, dtype: Dtype) -> Option<&str> {
    let (layer, quantity) = any_layer(name)?;
    let fits = match quantity {
        Quantity::Weight => matches!(dtype, Dtype::I8 | Dtype::Int4),
        Quantity::PackedWeight => matches!(dtype, Dtype::I8 | Dtype::U8 | Dtype::Int4),
        Quantity::Bias => dtype == Dtype::I32,
        _ => false,
    };
    fits.then_some(layer)
}

/// The names that the scales of a layer's whole numbers may have, of all generations: one of them must be there.
pub fn scales_of_layer(layer: &str) -> impl Iterator<Item = String> {
    let scales = [Quantity::Scale, Quantity::GroupScale, Quantity::DequantScale];
    TAILS
        .iter()
        .filter(move |(_, quantity, _)| scales.contains(quantity))
        .map(move |(tail, ..)| format!("{layer}.{tail}"))
}

/// The layer whose whole numbers a parameter gives their meaning: a scale or a zero point. `None` for any other.
pub fn companion_of(name: &str) -> Option<&str> {
    let (layer, quantity) = any_layer(name)?;
    let itself = matches!(quantity, Quantity::Weight | Quantity::PackedWeight | Quantity::Bias);
    let copy = matches!(quantity, Quantity::InputScaleCopy | Quantity::InputZeroPointCopy);
    (!itself && !copy).then_some(layer)
}

/// What a parameter shows to be quantised, beside the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlsoQuantised {
    /// The inputs of the linear layers.
    Inputs,
    /// Keys and values.
    Caches,
}

/// What a parameter shows to be quantised, beside the weights. `None` for any other.
pub fn also_quantised(name: &str) -> Option<AlsoQuantised> {
    let suffix = layer_part(name)?;
    if let Some((_, quantity)) = linear_of(suffix) {
        let of_inputs = matches!(quantity, Quantity::DequantScale | Quantity::InputScale | Quantity::InputZeroPoint);
        return of_inputs.then_some(AlsoQuantised::Inputs);
    }
    (kv_of(suffix).is_some() && !is_not_loaded(name)).then_some(AlsoQuantised::Caches)
}

/// Linear layers whose rows are shared by the ranks.
const BY_ROWS: [&str; 5] = ["attention.wq", "attention.wk", "attention.wv", "feed_forward.w1", "feed_forward.w3"];
/// Linear layers whose columns are shared by the ranks.
const BY_COLUMNS: [&str; 2] = ["attention.wo", "feed_forward.w2"];

/// The cell that keeps keys and values, in `ParallelLlamaForCausalLM`.
pub const KV_CELL: &str = "attention.paged_attention_mgr";
/// The same in `LlamaForCausalLM`, which runs on one card.
pub const KV_CELL_ALONE: &str = "attention.infer_attention.paged_attention_mgr";

/// What the cell that keeps keys and values holds, and whether its channels lie along axis 1.
const KV: [(&str, bool); 10] = [
    ("key_t_scale", false),
    ("key_t_zp", false),
    ("value_t_scale", false),
    ("value_t_zp", false),
    ("key_value_t_scale", true),
    ("key_value_t_zp", true),
    ("_key_input_quantizer.t_scale", false),
    ("_key_input_quantizer.t_zp", false),
    ("_value_input_quantizer.t_scale", false),
    ("_value_input_quantizer.t_zp", false),
];

/// The layer's name behind `model.layers.<n>.`, and what the parameter is, of a quantised linear layer's parameter.
pub(super) fn linear_of(suffix: &str) -> Option<(&str, Quantity)> {
    let layer = BY_ROWS.iter().chain(&BY_COLUMNS).find(|layer| suffix.starts_with(**layer))?;
    let tail = suffix[layer.len()..].strip_prefix('.')?;
    Some((&suffix[..layer.len()], quantity(tail)?))
}

/// What a name behind a linear layer's says.
pub(super) fn quantity(tail: &str) -> Option<Quantity> {
    TAILS.iter().find(|(known, ..)| *known == tail).map(|(_, quantity, _)| *quantity)
}

/// The name of a quantity behind the layer's, or `None` where that generation has none.
pub fn quantity_name(names: QuantNames, quantity: Quantity) -> Option<&'static str> {
    TAILS.iter().find(|(_, q, generations)| *q == quantity && generations.contains(&names)).map(|(name, ..)| *name)
}

/// How a quantised parameter is cut, by its name behind `model.layers.<n>.`; `None` for any other name.
pub(super) fn split(suffix: &str) -> Option<Split> {
    if let Some((layer, quantity)) = linear_of(suffix) {
        let by_rows = BY_ROWS.contains(&layer);
        let of_row =
            matches!(quantity, Quantity::Bias | Quantity::Scale | Quantity::ZeroPoint | Quantity::DequantScale);
        let matrix = matches!(quantity, Quantity::Weight | Quantity::PackedWeight | Quantity::GroupScale);
        // What belongs to a row goes with the rows, what belongs to a column with the columns.
        return Some(match (matrix, by_rows) {
            (true, false) => Split::Columns,
            _ if matrix || of_row == by_rows => Split::Rows,
            _ => Split::Whole,
        });
    }
    let (_, second) = kv_of(suffix)?;
    Some(if second { Split::Columns } else { Split::Rows })
}

/// The name in the cell that keeps keys and values, and whether its channels lie along axis 1.
pub(super) fn kv_of(suffix: &str) -> Option<(&'static str, bool)> {
    let tail = [KV_CELL, KV_CELL_ALONE].iter().find_map(|cell| suffix.strip_prefix(cell)?.strip_prefix('.'))?;
    KV.iter().find(|(name, _)| *name == tail).copied()
}

/// Whether the deployed network leaves this entry of a file alone, so that no strategy names it.
pub fn is_not_loaded(name: &str) -> bool {
    let copy = [".matmul.input_scale", ".matmul.input_zp"].iter().any(|end| name.ends_with(end));
    let loose = ["key_t_scale", "key_t_zp", "value_t_scale", "value_t_zp"];
    let kv = |tail: &str| loose.iter().any(|l| tail.strip_suffix(l).is_some_and(|cell| cell.ends_with("mgr.")));
    copy || (kv(name) && !name.contains("key_value"))
}

/// Whether a name is of a quantised checkpoint only.
pub fn is_quantised(name: &str) -> bool {
    layer_part(name).is_some_and(|suffix| {
        let unfused = linear_of(suffix).is_some() || kv_of(suffix).is_some();
        let fused = ["attention.w_qkv.", "feed_forward.w_gate_hidden."];
        unfused || fused.iter().any(|f| suffix.strip_prefix(f).is_some_and(|tail| quantity(tail).is_some()))
    })
}

/// The name that the parameter has before it is quantised: `…wq.weight` for `…wq._layer.weight`. `None` where it has none.
pub fn before(name: &str) -> Option<String> {
    let suffix = layer_part(name)?;
    let (layer, quantity) = linear_of(suffix)?;
    let prefix = &name[..name.len() - suffix.len()];
    match quantity {
        Quantity::Weight | Quantity::PackedWeight => Some(format!("{prefix}{layer}.weight")),
        Quantity::Bias => Some(format!("{prefix}{layer}.bias")),
        _ => None,
    }
}

/// Columns of the unquantised weight in one stored column: 2 for the int4 weights, which hold two in a byte.
pub fn columns_in_one(name: &str) -> u64 {
    let packed = layer_part(name).and_then(linear_of).is_some_and(|(_, quantity)| quantity == Quantity::PackedWeight);
    1 + u64::from(packed)
}

/// The unquantised weight, of whose columns a parameter is the scales of groups; `None` for any other parameter.
pub fn group_scale_of(name: &str) -> Option<String> {
    let suffix = layer_part(name)?;
    let (layer, _) = linear_of(suffix).filter(|(_, quantity)| *quantity == Quantity::GroupScale)?;
    Some(format!("{}{layer}.weight", &name[..name.len() - suffix.len()]))
}

/// The names that a linear layer's weight may have, unquantised or quantised, by any of them.
pub fn weight_names(name: &str) -> Vec<String> {
    let plain = before(name).unwrap_or_else(|| name.to_owned());
    let Some(layer) = plain.strip_suffix(".weight") else { return vec![plain] };
    let tails = TAILS.iter().filter(|(_, q, _)| matches!(q, Quantity::Weight | Quantity::PackedWeight));
    let quantised: Vec<String> = tails.map(|(tail, ..)| format!("{layer}.{tail}")).collect();
    quantised.into_iter().chain([plain]).collect()
}

/// The names that the scales of a quantised weight may have.
pub fn scale_names(weight: &str) -> Vec<String> {
    let tail = |known: &str| weight.strip_suffix(known)?.strip_suffix('.');
    let of = TAILS.iter().filter(|(_, q, _)| matches!(q, Quantity::Weight | Quantity::PackedWeight));
    let layer_and_names = of.filter_map(|(known, _, names)| Some((tail(known)?, *names)));
    let scales = TAILS.iter().filter(|(_, q, _)| matches!(q, Quantity::Scale | Quantity::GroupScale));
    let fits = |(layer, names): (&str, &[QuantNames])| -> Vec<String> {
        let same = scales.clone().filter(|(.., of)| of.iter().any(|one| names.contains(one)));
        same.map(|(tail, ..)| format!("{layer}.{tail}")).collect()
    };
    layer_and_names.flat_map(fits).collect()
}

/// Whether an entry is a second copy of what belongs to a layer's input. No network loads it, and a tool that did not know it
/// may have left it uncut, so it is never read: it is made anew from the first copy.
pub fn is_copy(name: &str) -> bool {
    ["._layer.matmul.input_scale", "._layer.matmul.input_zp"].iter().any(|end| name.ends_with(end))
        && is_quantised(name)
}

/// The name of the second copy of an input's scale or zero point; `None` for any other name.
pub fn copy_of(name: &str) -> Option<String> {
    let (layer, tail) = name.rsplit_once('.')?;
    let first =
        matches!(tail, "input_scale" | "input_zp") && !layer.ends_with("matmul") && !layer.ends_with("quant_op");
    (first && is_quantised(name)).then(|| format!("{layer}._layer.matmul.{tail}"))
}

/// The linear layer that `…wq.weight` is the weight of, where it is one that is quantised: `…wq`.
pub fn linear_weight(name: &str) -> Option<&str> {
    let suffix = layer_part(name)?.strip_suffix(".weight")?;
    BY_ROWS.iter().chain(&BY_COLUMNS).any(|l| *l == suffix).then(|| &name[..name.len() - ".weight".len()])
}

/// What stands behind `model.layers.<n>.`.
fn layer_part(name: &str) -> Option<&str> {
    super::names::layer_of(name).map(|(_, suffix)| suffix)
}

/// The name that an entry of the caches' cell has in the network for one card, or for several. Other names stay.
pub fn cache_name(name: &str, alone: bool) -> String {
    let (from, to) = if alone { (KV_CELL, KV_CELL_ALONE) } else { (KV_CELL_ALONE, KV_CELL) };
    name.replacen(&format!(".{from}."), &format!(".{to}."), 1)
}

/// The names and channels' axes of what keys and values need, with the cell's name for one card or for several.
pub fn kv_names(alone: bool) -> impl Iterator<Item = (String, &'static str)> {
    let cell = if alone { KV_CELL_ALONE } else { KV_CELL };
    KV.iter().map(move |(name, _)| (format!("{cell}.{name}"), *name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Split, role};

    /// The table of golden-stick 0.6.0's `sharded_state_dict`.
    #[test]
    fn every_quantised_parameter_is_cut_as_its_role_says() {
        let split = |name: &str| role(&format!("model.layers.7.{name}")).map(|r| r.split);
        for (layer, weight, of_row, of_column) in [
            ("attention.wq", Split::Rows, Split::Rows, Split::Whole),
            ("feed_forward.w3", Split::Rows, Split::Rows, Split::Whole),
            ("attention.wo", Split::Columns, Split::Whole, Split::Rows),
            ("feed_forward.w2", Split::Columns, Split::Whole, Split::Rows),
        ] {
            assert_eq!(split(&format!("{layer}._layer.weight")), Some(weight));
            for tail in
                ["_layer.bias", "_layer.matmul.t_scale", "_layer.matmul.t_zp_neg", "_layer.matmul.dequant_scale"]
            {
                assert_eq!(split(&format!("{layer}.{tail}")), Some(of_row), "{layer}.{tail}");
            }
            for tail in ["_layer.grouped_weight", "_layer.int4_weight", "_layer.matmul.group_scale"] {
                assert_eq!(split(&format!("{layer}.{tail}")), Some(weight), "{layer}.{tail}");
            }
            for tail in ["input_scale", "input_zp", "quant_op.input_scale", "_layer.matmul.input_scale"] {
                assert_eq!(split(&format!("{layer}.{tail}")), Some(of_column), "{layer}.{tail}");
            }
        }
        assert_eq!(split("attention.paged_attention_mgr.key_value_t_scale"), Some(Split::Columns));
        assert_eq!(split("attention.infer_attention.paged_attention_mgr.value_t_zp"), Some(Split::Rows));
        assert_eq!(split("attention.wq._layer.unknown"), None);
    }

    /// Their size is the checkpoint's, so the model's shapes leave it open.
    #[test]
    fn scales_of_groups_fit_a_model_with_any_size() {
        let spec = crate::models::builtin("llama2_7b").unwrap();
        let fits = |layer: &str, dims: [u64; 2]| {
            let name = format!("model.layers.31.{layer}._layer.matmul.group_scale");
            assert_eq!(spec.shape(&name), None);
            spec.fits_groups(&name, &crate::tensor::Shape::new(dims).unwrap())
        };
        assert!(fits("attention.wq", [4096, 64]) && fits("attention.wq", [4096, 32]));
        assert!(fits("feed_forward.w2", [4096, 172]) && fits("feed_forward.w1", [11008, 32]));
        for dims in [[4096, 4096], [4096, 16], [4096, 63], [2048, 64]] {
            assert!(!fits("attention.wq", dims), "{dims:?}");
        }
        let packed = spec.shape("model.layers.0.feed_forward.w2._layer.int4_weight").unwrap();
        assert_eq!(packed.dims(), [4096, 5504]);
    }

    #[test]
    fn what_no_network_loads_is_known() {
        for name in ["a.wo._layer.matmul.input_scale", "l.paged_attention_mgr.key_t_scale"] {
            assert!(is_not_loaded(name), "{name}");
        }
        for name in ["a.wo.input_scale", "l.paged_attention_mgr.key_value_t_scale", "m._key_input_quantizer.t_scale"] {
            assert!(!is_not_loaded(name), "{name}");
        }
        assert_eq!(before("model.layers.2.attention.wo._layer.weight").unwrap(), "model.layers.2.attention.wo.weight");
        assert!(is_quantised("model.layers.2.attention.w_qkv.input_zp"));
        assert!(!is_quantised("model.layers.2.attention.w_qkv.weight"));
    }
}
