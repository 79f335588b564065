//! What quantised keys and values need.

use std::collections::HashMap;

use super::model::QuantisedModel;
use super::options::QuantOptions;
use crate::model::naming::{LayerParam, cache_names};
use crate::plan::calculation::CacheScales;
use crate::plan::catalog::Catalog;
use crate::plan::{Observed, PlanError};
use crate::tensor::Dtype;

/// What quantised keys and values of one layer need.
pub(super) fn caches(
    source: &Catalog,
    layer: u32,
    options: &QuantOptions<'_>,
    order: &HashMap<String, usize>,
    model: &mut QuantisedModel,
) -> Result<(), PlanError> {
    let value = source.require(&LayerParam::Value.name(layer))?;
    let channels = value.shape.dims().first().copied().unwrap_or(0);
    let statistics = options.statistics.ok_or_else(|| PlanError::Statistics("none were given".to_owned()))?;
    let linear = order.get(&LayerParam::Value.fused_layer(layer)).map(|&at| &model.linears[at]);
    let divide = linear.and_then(|l| Some(l.divide?.at + l.parts.last()?.first * 2));
    let mut scales = CacheScales {
        name: LayerParam::Value.cell(layer).as_str().into(),
        keys: statistics.range(&Observed::Keys.name(layer), channels)?,
        values: statistics.range(&Observed::Values.name(layer), channels)?,
        divide,
        key_scales: Vec::new(),
        value_scales: Vec::new(),
        packed: 0,
    };
    for (name, param) in cache_names(layer, options.ranks == 1) {
        let (dtype, dims, fill): (Dtype, Vec<u64>, &[u8]) = match param {
            "key_value_scale" => (Dtype::I64, vec![2, channels], &[0]),
            "key_value_zp" => (Dtype::I32, vec![2, channels], &[0]),
            // What golden-stick writes here is -0.
            "key_zp" | "value_zp" => (Dtype::F16, vec![channels], &[0x00, 0x80]),
            "key_input_zp" | "value_input_zp" => (Dtype::I8, vec![channels], &[0]),
            _ => (Dtype::F16, vec![channels], &[0]),
        };
        let place = model.room.reserve(dtype, dims.iter().product(), fill);
        match param {
            "key_value_scale" => scales.packed = place.at,
            "key_scale" | "key_input_scale" => scales.key_scales.push(place.at),
            "value_scale" | "value_input_scale" => scales.value_scales.push(place.at),
            _ => {}
        }
        let made = model.room.tensor(&name, place, 0, &dims, &dims[..1])?;
        model.catalog.push(made);
    }
    model.caches.push(scales);
    Ok(())
}
