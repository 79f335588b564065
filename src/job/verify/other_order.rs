//! Whether two checkpoints that differ would be equal with their fused rows in another order.
//!
//! A checkpoint alone does not show the order of its fused rows; a second one of the same model does. Only the first layer is
//! compared, and only where the order was not stated.

use super::super::fusion_order::Order;
use super::sides::Sides;
use crate::Error;
use crate::model::FusionLayout;
use crate::model::naming::fused;
use crate::plan::{self, Catalog, Compared, Plan};
use crate::source::Extents;

/// What would make the fused rows of the first layer equal, as a sentence. `equal`: whether what a plan gives is what lies at
/// these places.
pub(super) fn other_order(
    sides: &Sides<'_>,
    ((a, a_catalog), (b, b_catalog)): ((&Order, &Catalog), (&Order, &Catalog)),
    equal: impl Fn(&Plan, &[Vec<Extents>]) -> Result<bool, Error>,
) -> Result<Option<String>, Error> {
    let open = |order: &Order| order.fused && !order.stated;
    let others = |order: &Order| {
        let grouped = open(order).then_some(FusionLayout::Grouped);
        [Some(order.layout), grouped].into_iter().flatten().collect::<Vec<_>>()
    };
    if (!open(a) && !open(b)) || first_layer(sides, a_catalog, b_catalog, &equal)? {
        return Ok(None);
    }
    for a_layout in others(a) {
        for b_layout in others(b) {
            if (a_layout, b_layout) == (a.layout, b.layout) {
                continue;
            }
            // Where the heads are not known, nothing can be grouped.
            let Ok((a_read, b_read)) = sides.read(a_layout, b_layout) else { continue };
            if first_layer(sides, &a_read.catalog, &b_read.catalog, &equal)? {
                let option = |name: &str, order: &Order, layout| open(order).then(|| format!("{name} {layout}"));
                let options = [option("--src-fusion", a, a_layout), option("--dst-fusion", b, b_layout)];
                let options: Vec<String> = options.into_iter().flatten().collect();
                return Ok(Some(format!(
                    "with {} the fused rows of the first layer are equal; as they were compared, they differ",
                    options.join(" ")
                )));
            }
        }
    }
    Ok(None)
}

/// Whether the fused parameters of the first layer, or their parts, are equal. Not, where there are none.
fn first_layer(
    sides: &Sides<'_>,
    a: &Catalog,
    b: &Catalog,
    equal: &impl Fn(&Plan, &[Vec<Extents>]) -> Result<bool, Error>,
) -> Result<bool, Error> {
    let (mut plan, mut places) = plan::compare(Compared::All, &sides.a.files, a, &sides.b.files, b);
    for (output, places) in plan.outputs.iter_mut().zip(&mut places) {
        let wanted = |name: &str| name.contains("layers.0.") && fused(name).is_some();
        let mut keep = output.tensors.iter().map(|tensor| wanted(&tensor.name)).collect::<Vec<_>>().into_iter();
        places.retain(|_| keep.next().unwrap_or(false));
        output.tensors.retain(|tensor| wanted(&tensor.name));
    }
    Ok(places.iter().any(|places| !places.is_empty()) && equal(&plan, &places)?)
}
