//! The proof that a plan writes every byte of every output once and reads nothing that is not there.

use super::{OutputTensor, Plan, PlanError, Transform};
use crate::formats::Segment;
use crate::layout::{CoverFault, Footprint, exact_cover};
use crate::tensor::{Dtype, Shape};

/// Proves the plan.
///
/// # Errors
/// The first tensor with a gap, an overlap, a byte behind its end, or a read behind the end of its source.
pub fn prove(plan: &Plan) -> Result<(), PlanError> {
    for file in &plan.outputs {
        let rank = file.rank.unwrap_or(0);
        let places = file.layout.extents(file.tensors.len());
        let mut next = vec![0; file.tensors.len()];
        for segment in &file.layout.segments {
            if let Segment::Data { tensor, range } = segment {
                if next[*tensor] != range.start() {
                    let fault = CoverFault::Gap(next[*tensor].min(range.start()));
                    return Err(PlanError::Cover { name: file.tensors[*tensor].name.to_string(), rank, fault });
                }
                next[*tensor] = range.end();
            }
        }
        for (tensor, place) in file.tensors.iter().zip(&places) {
            let bytes = tensor.shape.bytes(tensor.dtype);
            if place.len() != bytes {
                let fault = CoverFault::Gap(place.len().min(bytes));
                return Err(PlanError::Cover { name: tensor.name.to_string(), rank, fault });
            }
            prove_tensor(plan, tensor, rank)?;
        }
    }
    for calculation in plan.computed.iter().flat_map(|c| &c.calculations) {
        prove_tensor(plan, &calculation.weight, 0)?;
    }
    Ok(())
}

/// Proves that a tensor's routes, and those of what it is quantised with, write each element once.
fn prove_tensor(plan: &Plan, tensor: &OutputTensor, rank: u32) -> Result<(), PlanError> {
    let Some(quantised) = &tensor.quantised else { return prove_routes(plan, tensor, rank) };
    let rows = tensor.shape.elements().checked_div(quantised.columns).unwrap_or(0);
    let vectors = [
        (Some(&quantised.operand), Dtype::F16, tensor.shape.elements()),
        (Some(&quantised.scales), Dtype::F32, rows),
        (quantised.multiply.as_ref(), Dtype::F16, quantised.columns),
        (quantised.divide.as_ref(), Dtype::F16, rows),
    ];
    for (routes, dtype, elements) in vectors {
        let Some(routes) = routes else { continue };
        let shape = Shape::new([elements]).unwrap_or_default();
        let part = OutputTensor { dtype, shape, routes: routes.clone(), quantised: None, ..tensor.clone() };
        prove_routes(plan, &part, rank)?;
    }
    Ok(())
}

/// Proves that the routes of one tensor write each of its elements once.
fn prove_routes(plan: &Plan, tensor: &OutputTensor, rank: u32) -> Result<(), PlanError> {
    let name = || tensor.name.to_string();
    let mut footprints: Vec<Footprint<'_>> = Vec::with_capacity(tensor.routes.len());
    let mut unit = 1;
    for route in &tensor.routes {
        let (from, to) = route.transform.unit();
        let source = &plan.tensors[route.source];
        let (read_as, written_as) = match route.transform {
            Transform::Copy => (tensor.dtype, tensor.dtype),
            Transform::Cast { from, to } => (from, to),
        };
        if source.dtype != read_as || tensor.dtype != written_as {
            return Err(PlanError::Cast { name: name(), from: source.dtype.name(), to: tensor.dtype.name() });
        }
        // So all routes of a tensor have one unit: its sources have one dtype.
        unit = to;
        if route.moves.src_end() * from > plan.tensors[route.source].extents.len() {
            return Err(PlanError::OutOfBounds { name: name(), rank });
        }
        footprints.push(Footprint::from(&route.moves));
    }
    let total = tensor.shape.bytes(tensor.dtype) / unit;
    exact_cover(footprints, total).map_err(|fault| PlanError::Cover { name: name(), rank, fault })
}

/// Proves of a comparison's routes what [`prove`] proves of a plan's.
///
/// # Errors
/// As [`prove`].
pub fn prove_covered(plan: &Plan) -> Result<(), PlanError> {
    let tensors = plan.outputs.iter().flat_map(|f| f.tensors.iter().map(move |t| (f, t)));
    tensors.into_iter().try_for_each(|(file, tensor)| prove_routes(plan, tensor, file.rank.unwrap_or(0)))
}
