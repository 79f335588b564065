//! Which matrices' columns are smoothed, and what takes the inverse.

use std::collections::HashMap;

use super::linear::{Folded, FoldedInto, Gathered, Part};
use super::model::QuantisedModel;
use super::options::QuantOptions;
use super::room::hidden;
use crate::plan::PlanError;
use crate::plan::catalog::{Catalog, heads_unknown};

/// Decides which matrices' columns are smoothed and what takes the inverse: norms, v and up rows where the target is fused, else the
/// inputs themselves.
pub(super) fn smooth(
    source: &Catalog,
    options: &QuantOptions<'_>,
    order: &HashMap<String, usize>,
    model: &mut QuantisedModel,
) -> Result<(), PlanError> {
    let Some(alpha_milli) = options.alpha_milli.filter(|_| options.inputs) else { return Ok(()) };
    for index in 0..model.linears.len() {
        let group = model.linears[index].name.clone();
        let (mut repeat, mut block) = (1, model.linears[index].columns);
        let weight = model.linears[index].parts.first().and_then(Part::weight);
        let input = weight.and_then(|(layer, weight)| Some((layer, weight.input()?)));
        let inverse = match input {
            _ if !options.fused => FoldedInto::Input,
            Some((layer, input)) if input.input().is_none() => norm(source, &input.name(layer), options, model)?,
            _ => {
                // Rows that are not quantised are not divided either, so these columns are not smoothed.
                let before = input.and_then(|(layer, input)| order.get(&input.fused_layer(layer)));
                let Some(&before) = before else { continue };
                let before = &model.linears[before];
                let (Some(last), Some(divide)) = (before.parts.last(), before.divide) else { continue };
                if last.rows != block {
                    // Fewer v rows than columns of wo: the heads of one group share them.
                    let spec = options.spec.ok_or_else(heads_unknown)?;
                    (repeat, block) = (spec.heads() / spec.kv_heads().max(1), spec.head_dim());
                    if last.rows * repeat != model.linears[index].columns {
                        return Err(PlanError::Quantised(format!("`{group}` does not take what v gives")));
                    }
                }
                FoldedInto::Rows { to: divide.at + last.first * divide.dtype.size() }
            }
        };
        model.linears[index].smooth = Some(Folded { alpha_milli, repeat, block, inverse });
    }
    Ok(())
}

/// The norm before a layer, which takes its smoothing: computed, in the precision of the norms.
fn norm(
    source: &Catalog,
    name: &str,
    options: &QuantOptions<'_>,
    model: &mut QuantisedModel,
) -> Result<FoldedInto, PlanError> {
    let tensor = source.require(name)?;
    let dims = tensor.shape.dims().to_vec();
    let to = model.room.reserve(options.norms, tensor.shape.elements(), &[0]);
    let made = model.room.tensor(name, to, 0, &dims, &tensor.radices)?;
    let vector = hidden(&mut model.catalog, tensor.clone());
    model.replaced.insert(name.to_owned(), made);
    Ok(FoldedInto::Norm { vector: Gathered { parts: vec![(vector, 0)], columns: 1, dtype: options.norms }, to })
}
