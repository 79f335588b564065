//! The fused layers of the families' tables, and the layers of which each is made.

use super::schemes::{PLAIN, is_linear, schemes};
use crate::model::scheme::{Row, Scheme};
use crate::model::{Family, FusionLayout, Mesh, Role};

/// A fused layer and those that it is made of, by their names in a decoder layer, each with a dot.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FusedLayer {
    pub whole: String,
    pub parts: Vec<String>,
    pub output: Option<String>,
}

/// The fused layers of the families, each once.
pub(super) fn fused_layers(families: &[&'static Family]) -> Vec<FusedLayer> {
    let mut found: Vec<FusedLayer> = Vec::new();
    for (family, scheme) in FusionLayout::ALL.into_iter().flat_map(|order| schemes(families, order.scheme())) {
        for row in scheme.rows.iter().filter(|row| row.params().count() > 1 && is_linear(family, row)) {
            let Some(layer) = fused_layer(family, row) else { continue };
            if !found.contains(&layer) {
                found.push(layer);
            }
        }
    }
    found
}

fn fused_layer(family: &Family, row: &Row) -> Option<FusedLayer> {
    let plain = family.scheme(PLAIN)?;
    let parts: Vec<u16> = row.params().collect();
    let names = parts.iter().map(|&param| in_layer(plain.row_of(param)?)).collect::<Option<Vec<_>>>()?;
    let rows = |param: u16| &family.params()[usize::from(param)].dims[0];
    let alike = parts.iter().all(|&part| rows(part) == rows(parts[0]));
    let output = if alike { None } else { Some(output_of(family, plain, parts[0])?) };
    Some(FusedLayer { whole: in_layer(row)?, parts: names, output })
}

/// The layer whose columns are what the rows of `query` are: both are cut over one axis.
fn output_of(family: &Family, plain: &Scheme, query: u16) -> Option<String> {
    let params = family.params();
    let cut = |at: u16| params[usize::from(at)].cut.iter().find(|cut| cut.mesh == Mesh::Tensor).map(|cut| cut.axis);
    let axis = cut(query)?;
    let takes = |&at: &u16| {
        let param = &params[usize::from(at)];
        param.role == Role::Linear && param.dims.get(1).is_some_and(|columns| columns.contains(&axis))
    };
    let output = (0..u16::try_from(params.len()).ok()?).find(takes)?;
    in_layer(plain.row_of(output)?)
}

/// The name of a row's layer in a decoder layer, with a dot.
fn in_layer(row: &Row) -> Option<String> {
    row.pattern.in_layer()?.strip_suffix("weight").map(str::to_owned)
}
