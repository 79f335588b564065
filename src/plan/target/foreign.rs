//! What a Hugging Face checkpoint of a source's parameters shall hold.

use std::collections::HashSet;

use super::{Content, Kind, TargetEntry, TargetRank};
use crate::layout::TensorLayout;
use crate::model::naming::is_training_state;
use crate::model::{Captures, Dialect, OwnSizes, Stored};
use crate::plan::catalog::{Lay, heads_unknown};
use crate::plan::tensor_id::Known;
use crate::plan::{Arrangement, Catalog, PlanError};
use crate::tensor::{Shape, TensorName};

/// One file's worth of parameters under their foreign names, whole, in the catalog's order; joined ones are where their first
/// part is.
///
/// # Errors
/// A parameter that the family has no name for; parts of a joined parameter that are missing, or differ in dtype; training
/// state.
pub fn foreign_target(catalog: &Catalog, dialect: &Dialect) -> Result<TargetRank, PlanError> {
    let (mut unplaced, mut training) = (Vec::new(), Vec::new());
    let mut entries = Vec::with_capacity(catalog.tensors().len());
    let mut done: HashSet<String> = HashSet::new();
    let kept = catalog.tensors().iter().enumerate().filter(|(index, _)| !catalog.merged.contains(index));
    for (_, tensor) in kept {
        let row = tensor.id.filter(|id| id.companion.is_none()).and_then(|id| {
            let captures = Captures { layer: id.param.layer, expert: None };
            Some(Stored { row: dialect.row_of(id.param.param)?, captures, companion: None })
        });
        let Some(stored) = row else {
            if is_training_state(&tensor.name) {
                training.push(tensor.name.to_string());
            } else {
                unplaced.push(tensor.name.to_string());
            }
            continue;
        };
        for stored in dialect.by_expert(&stored, catalog.sized.as_ref().map(|sized| &sized.sizes)) {
            let Some(name) = dialect.name(&stored) else { continue };
            if done.insert(name.clone()) {
                entries.push(entry(catalog, &name, &Known { state: "".into(), stored })?);
            }
        }
    }
    if !unplaced.is_empty() {
        return Err(PlanError::NoForeignName { family: &dialect.family().name, names: unplaced });
    }
    if !training.is_empty() {
        return Err(PlanError::TrainingState(training));
    }
    Ok(TargetRank { rank: 0, entries })
}

fn entry(catalog: &Catalog, name: &str, known: &Known) -> Result<TargetEntry, PlanError> {
    let (mut tensors, mut lacks) = (Vec::new(), Vec::new());
    for id in known.ids() {
        match catalog.find(id) {
            Some(at) => tensors.push(at),
            None => lacks.extend(catalog.family().map(|family| id.name(family))),
        }
    }
    let (Some(&first), Some(sized), true) = (tensors.first(), &catalog.sized, lacks.is_empty()) else {
        return Err(PlanError::Lacks(lacks));
    };
    let first = &catalog.tensors()[first];
    if let Some(other) = tensors.iter().map(|&at| &catalog.tensors()[at]).find(|t| t.dtype != first.dtype) {
        return Err(PlanError::Ambiguous(format!(
            "`{}` ({}{}) and `{}` ({}{}) cannot be joined",
            first.name, first.dtype, first.shape, other.name, other.dtype, other.shape
        )));
    }
    if sized.lacks_heads(known.stored.row) {
        return Err(heads_unknown());
    }
    let lay = Lay::new(sized, known, OwnSizes::NONE, name)?;
    let layout = TensorLayout::flat(1, lay.dims().len(), None);
    let laid = lay.on(Arrangement::Rules(1), &layout, 0)?;
    let role = first.id.and_then(|id| Some((catalog.role(id.param)?, None)));
    Ok(TargetEntry {
        name: TensorName::from(name),
        dtype: first.dtype,
        shape: Shape::new(laid.dims).map_err(|e| PlanError::Layout { name: name.to_owned(), source: e.into() })?,
        kind: Kind::of(&first.name, role, first.dtype, &first.shape),
        first_holder: true,
        layout: None,
        content: Content::Pieces(laid.pieces.into_iter().map(|(part, piece)| (tensors[part], piece)).collect()),
    })
}
