//! What a Hugging Face checkpoint of a source's parameters shall hold.

use std::collections::HashSet;

use super::{Content, TargetEntry, TargetRank, kind_of};
use crate::layout::TensorLayout;
use crate::model::naming::is_training_state;
use crate::models::ModelSpec;
use crate::models::foreign::{Naming, Place, Reorder};
use crate::plan::pieces::{self, Order, Part, Stored};
use crate::plan::{Catalog, PlanError};
use crate::tensor::{Shape, TensorName};

/// One file's worth of parameters under their foreign names, whole, in the catalog's order; joined ones stand where their
/// first part does.
///
/// # Errors
/// A parameter that the family has no name for; parts of a joined parameter that are missing, or differ in dtype; training
/// state.
pub fn foreign_target(catalog: &Catalog, naming: Naming, spec: Option<&ModelSpec>) -> Result<TargetRank, PlanError> {
    let (mut unplaced, mut training) = (Vec::new(), Vec::new());
    let mut entries = Vec::with_capacity(catalog.tensors().len());
    let mut done: HashSet<String> = HashSet::new();
    let kept = catalog.tensors().iter().enumerate().filter(|(index, _)| !catalog.merged.contains(index));
    for (_, tensor) in kept {
        let Some(name) = naming.foreign_name(&tensor.name) else {
            if is_training_state(&tensor.name) {
                training.push(tensor.name.to_string());
            } else {
                unplaced.push(tensor.name.to_string());
            }
            continue;
        };
        if done.insert(name.clone()) {
            entries.push(entry(catalog, naming, spec, &name)?);
        }
    }
    if !unplaced.is_empty() {
        return Err(PlanError::NoForeignName { family: naming.family().name(), names: unplaced });
    }
    if !training.is_empty() {
        return Err(PlanError::TrainingState(training));
    }
    Ok(TargetRank { rank: 0, entries })
}

fn entry(catalog: &Catalog, naming: Naming, spec: Option<&ModelSpec>, name: &str) -> Result<TargetEntry, PlanError> {
    let place = naming.place(name);
    let lacks: Vec<String> = place.names().iter().filter(|n| catalog.get(n).is_none()).cloned().collect();
    if !lacks.is_empty() {
        return Err(PlanError::Lacks(lacks));
    }
    let indices: Vec<usize> = place.names().iter().filter_map(|n| catalog.get(n)).collect();
    let tensors = || indices.iter().map(|&index| &catalog.tensors()[index]);
    let Some(first) = tensors().next() else { return Err(PlanError::Lacks(vec![name.to_owned()])) };
    if let Some(other) = tensors().find(|t| t.dtype != first.dtype || t.shape.ndim() != first.shape.ndim()) {
        return Err(PlanError::Ambiguous(format!(
            "`{}` ({}{}) and `{}` ({}{}) cannot be joined",
            first.name, first.dtype, first.shape, other.name, other.dtype, other.shape
        )));
    }
    let error = |source| PlanError::Layout { name: name.to_owned(), source };
    let layout = TensorLayout::flat(1, first.shape.ndim(), None);
    let Stored { dims, pieces } = match &place {
        Place::Parameter { transform: Reorder::Plain, .. } => {
            pieces::plain(first.shape.dims(), &first.radices, &layout, 0).map_err(error)?
        }
        Place::Parts { how, .. } => {
            let Some(spec) = spec else { return Err(crate::plan::catalog::heads_unknown()) };
            let grouping = how.grouping(spec);
            let parts: Vec<Part> = tensors()
                .map(|t| Part { rows: t.shape.dims().first().copied().unwrap_or(0), radices: t.radices.clone() })
                .collect();
            let order = if grouping.groups == 1 { Order::RankConcat } else { Order::Grouped(&grouping) };
            let tail = first.shape.dims().get(1..).unwrap_or_default();
            pieces::fused(order, &parts, tail, &layout, 0).map_err(error)?
        }
        _ => return Err(PlanError::Unplaced { side: "target", names: vec![name.to_owned()] }),
    };
    Ok(TargetEntry {
        name: TensorName::from(name),
        dtype: first.dtype,
        shape: Shape::new(dims).map_err(|e| error(e.into()))?,
        kind: kind_of(&first.name, first.dtype, &first.shape),
        first_holder: true,
        content: Content::Pieces(pieces.into_iter().map(|(part, piece)| (indices[part], piece)).collect()),
    })
}
