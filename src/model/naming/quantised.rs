//! Names of quantised parameters.
//!
//! Source: golden-stick 0.6.0 (`ptq/wrappers/mindformers/wrapper_cells.py`, `sharded_state_dict`), its 1.x (`ptq/hal.py`) and
//! its round-to-nearest generation. A linear layer `L` of the network becomes a cell around it, so its weight is
//! `L._layer.weight`, and what the quantised matrix product needs is beside it.

use super::role::role;
use super::table::table;
use crate::model::companion::{Companion, companions};
use crate::model::{QuantNames, Quantity, Role as Purpose};
use crate::tensor::Dtype;

/// What goes with the quantised layers that conversions read and write.
fn quantities() -> impl Iterator<Item = &'static Companion> {
    companions().iter().filter(|companion| companion.quantity.factor().is_none() && companion.quantity.is_converted())
}

/// The layer that a name is of a companion of: the longest tail of any layer's name, whichever family the layer is of. `None`
/// for a name that has no such tail.
fn any_layer(name: &str) -> Option<(&str, Quantity)> {
    let of = |companion: &Companion| {
        Some((name.strip_suffix(companion.tail.as_str())?.strip_suffix('.')?, companion.quantity))
    };
    quantities().filter_map(of).min_by_key(|(layer, _)| layer.len())
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
    let is_scale =
        |c: &&Companion| matches!(c.quantity, Quantity::Scale | Quantity::GroupScale | Quantity::DequantScale);
    quantities().filter(is_scale).map(move |companion| format!("{layer}.{}", companion.tail))
}

/// The layer whose whole numbers a parameter gives their meaning: a scale or a zero point. `None` for any other.
pub fn companion_of(name: &str) -> Option<&str> {
    let (layer, quantity) = any_layer(name)?;
    let itself = quantity.is_weight() || quantity == Quantity::Bias;
    (!itself && !quantity.is_copy()).then_some(layer)
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
    let role = role(name)?;
    match role.companion {
        Some(companion) => {
            let of_inputs =
                matches!(companion.quantity, Quantity::DequantScale | Quantity::InputScale | Quantity::InputZeroPoint);
            of_inputs.then_some(AlsoQuantised::Inputs)
        }
        None => (role.param.role == Purpose::Cache && role.param.loaded).then_some(AlsoQuantised::Caches),
    }
}

/// The name of a quantity after that of the layer, or `None` where that generation has none.
pub fn quantity_name(names: QuantNames, quantity: Quantity) -> Option<&'static str> {
    let of = |c: &&Companion| c.quantity == quantity && c.generation == names.generation();
    companions().iter().find(of).map(|companion| companion.tail.as_str())
}

/// Whether the deployed network leaves this entry of a file alone, so that no strategy names it.
pub fn is_not_loaded(name: &str) -> bool {
    let copy = quantity_of(name).is_some_and(Quantity::is_copy);
    copy || role(name).is_some_and(|role| !role.param.loaded)
}

/// What a name is of a quantised layer, fused or not.
fn quantity_of(name: &str) -> Option<Quantity> {
    let quantity = table().find(name)?.companion?.quantity;
    quantity.factor().is_none().then_some(quantity)
}

/// The layer, unfused, and what the name is of it.
fn unfused(name: &str) -> Option<(&str, Quantity)> {
    let companion = role(name)?.companion?;
    Some((layer(name, companion), companion.quantity))
}

/// The name without the companion's own.
fn layer<'a>(name: &'a str, companion: &Companion) -> &'a str {
    &name[..name.len() - companion.tail.len() - 1]
}

/// Whether a name is of a quantised checkpoint only.
pub fn is_quantised(name: &str) -> bool {
    quantity_of(name).is_some() || role(name).is_some_and(|role| role.param.role == Purpose::Cache)
}

/// The name that the parameter has before it is quantised: `…wq.weight` for `…wq._layer.weight`. `None` where it has none.
pub fn before(name: &str) -> Option<String> {
    let (layer, quantity) = unfused(name)?;
    match quantity {
        Quantity::Weight | Quantity::PackedWeight => Some(format!("{layer}.weight")),
        Quantity::Bias => Some(format!("{layer}.bias")),
        _ => None,
    }
}

/// Columns of the unquantised weight in one stored column: 2 for the int4 weights, which hold two in a byte.
pub fn columns_in_one(name: &str) -> u64 {
    1 + u64::from(unfused(name).is_some_and(|(_, quantity)| quantity == Quantity::PackedWeight))
}

/// The unquantised weight, of whose columns a parameter is the scales of groups; `None` for any other parameter.
pub fn group_scale_of(name: &str) -> Option<String> {
    let (layer, _) = unfused(name).filter(|(_, quantity)| *quantity == Quantity::GroupScale)?;
    Some(format!("{layer}.weight"))
}

/// The names that a linear layer's weight may have, unquantised or quantised, by any of them.
pub fn weight_names(name: &str) -> Vec<String> {
    let plain = before(name).unwrap_or_else(|| name.to_owned());
    let Some(layer) = plain.strip_suffix(".weight") else { return vec![plain] };
    let weights = quantities().filter(|companion| companion.quantity.is_weight());
    let quantised: Vec<String> = weights.map(|companion| format!("{layer}.{}", companion.tail)).collect();
    quantised.into_iter().chain([plain]).collect()
}

/// The names that the scales of a quantised weight may have.
pub fn scale_names(weight: &str) -> Vec<String> {
    let layer = |c: &Companion| weight.strip_suffix(c.tail.as_str())?.strip_suffix('.');
    let weights = quantities().filter(|companion| companion.quantity.is_weight());
    let of_layer = weights.filter_map(|companion| Some((layer(companion)?, &companion.generation)));
    let names = |(layer, generation): (&str, &'static String)| {
        let is_scale = |c: &&Companion| matches!(c.quantity, Quantity::Scale | Quantity::GroupScale);
        let same = quantities().filter(is_scale).filter(move |companion| companion.generation == *generation);
        let layer = layer.to_owned();
        same.map(move |companion| format!("{layer}.{}", companion.tail))
    };
    of_layer.flat_map(names).collect()
}

/// Whether an entry is a second copy of what belongs to a layer's input: see [`Quantity::is_copy`].
pub fn is_copy(name: &str) -> bool {
    quantity_of(name).is_some_and(Quantity::is_copy)
}

/// The name of the second copy of an input's scale or zero point; `None` for any other name.
pub fn copy_of(name: &str) -> Option<String> {
    let companion = table().find(name)?.companion?;
    let copy = companion.quantity.copy()?;
    let same = companions().iter().find(|c| c.quantity == copy && c.generation == companion.generation)?;
    Some(format!("{}.{}", layer(name, companion), same.tail))
}

/// The linear layer that `…wq.weight` is the weight of, where it is one that is quantised: `…wq`.
pub fn linear_weight(name: &str) -> Option<&str> {
    let role = role(name).filter(|role| role.companion.is_none() && role.param.role == Purpose::Linear)?;
    role.layer.and(name.strip_suffix(".weight"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_network_loads_is_known() {
        let of_layer = |name: &str| format!("model.layers.2.attention.{name}");
        for name in ["wo._layer.matmul.input_scale", "w_qkv._layer.matmul.input_zp", "paged_attention_mgr.key_t_scale"]
        {
            assert!(is_not_loaded(&of_layer(name)), "{name}");
        }
        for name in [
            "wo.input_scale",
            "paged_attention_mgr.key_value_t_scale",
            "infer_attention.paged_attention_mgr._key_input_quantizer.t_scale",
        ] {
            assert!(!is_not_loaded(&of_layer(name)), "{name}");
        }
        assert_eq!(before("model.layers.2.attention.wo._layer.weight").unwrap(), "model.layers.2.attention.wo.weight");
        assert!(is_quantised("model.layers.2.attention.w_qkv.input_zp"));
        assert!(!is_quantised("model.layers.2.attention.w_qkv.weight"));
    }

    #[test]
    fn every_generation_is_in_the_table_once() {
        for names in QuantNames::ALL {
            let of: Vec<_> = companions().iter().filter(|c| c.generation == names.generation()).collect();
            assert!(of.iter().any(|companion| companion.quantity.is_weight()), "{names:?}");
            let twice = of.iter().enumerate().find(|(at, one)| of[..*at].iter().any(|c| c.quantity == one.quantity));
            assert_eq!(twice, None, "{names:?}");
        }
        assert_eq!(quantity_name(QuantNames::Extension, Quantity::Scale), Some("_layer.matmul.int4_scale"));
        assert_eq!(quantity_name(QuantNames::Rtn, Quantity::DequantScale), None);
    }
}
