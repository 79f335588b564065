//! The proof that a plan writes every byte of every output once and reads nothing that is not there.

use std::borrow::Cow;

use super::{OutputTensor, Plan, PlanError, Transform};
use crate::formats::Segment;
use crate::layout::{CoverFault, Footprint, Move, exact_cover};
use crate::tensor::{Dtype, Shape};

/// Proves the plan.
///
/// # Errors
/// The first tensor with a gap, an overlap, a byte behind its end, or a read behind the end of its source.
pub fn prove(plan: &Plan) -> Result<(), PlanError> {
    plan.factors.iter().try_for_each(|factor| prove_routes(plan, factor, 0))?;
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
    let elements = tensor.shape.elements() * quantised.width.in_a_byte();
    let rows = elements.checked_div(quantised.columns).unwrap_or(0);
    let scales = elements.checked_div(quantised.group).unwrap_or(0);
    let vectors = [
        (Some(&quantised.operand), Dtype::F16, elements),
        (Some(&quantised.scales), quantised.arithmetic.scales(), scales),
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
    // Copies are counted in bytes, everything else in elements: one unit where all are alike, else bytes.
    let mut units: Vec<u64> = tensor.routes.iter().map(|route| route.transform.unit()).collect();
    units.dedup();
    let unit = if let [unit] = units.as_slice() { *unit } else { 1 };
    let mut moves: Vec<Cow<'_, Move>> = Vec::with_capacity(tensor.routes.len());
    for route in &tensor.routes {
        let to = route.transform.unit();
        let source = &plan.tensors[route.source];
        let (read_as, written_as) = match route.transform {
            Transform::Copy => (tensor.dtype, tensor.dtype),
            Transform::Cast { from, to } => (from, to),
            Transform::Dequantise { from, to } => (Dtype::Blocks(from), to),
            Transform::Update { from, to, update } => {
                if !factors_fit(plan, update) {
                    return Err(PlanError::OutOfBounds { name: name(), rank });
                }
                (from, to)
            }
        };
        if source.dtype != read_as || tensor.dtype != written_as {
            return Err(PlanError::Cast { name: name(), from: source.dtype.name(), to: tensor.dtype.name() });
        }
        if route.transform.stored(0, route.moves.src_end()).1 > source.extents.len() {
            return Err(PlanError::OutOfBounds { name: name(), rank });
        }
        let counted = to / unit;
        moves.push(if counted == 1 {
            Cow::Borrowed(&route.moves)
        } else {
            Cow::Owned(route.moves.clone().scaled(counted))
        });
    }
    let total = tensor.shape.bytes(tensor.dtype) / unit;
    let footprints = moves.iter().map(|moves| Footprint::from(moves.as_ref())).collect();
    exact_cover(footprints, total).map_err(|fault| PlanError::Cover { name: name(), rank, fault })
}

/// Whether an update's factors are matrices that make one.
fn factors_fit(plan: &Plan, update: usize) -> bool {
    let Some(update) = plan.updates.get(update) else { return false };
    let (Some(a), Some(b)) = (plan.factors.get(update.a), plan.factors.get(update.b)) else { return false };
    matches!((a.shape.dims(), b.shape.dims()), (&[rank, _], &[_, b_rank]) if rank == b_rank)
}

/// Proves of a comparison's routes what [`prove`] proves of a plan's.
///
/// # Errors
/// As [`prove`].
pub fn prove_covered(plan: &Plan) -> Result<(), PlanError> {
    let tensors = plan.outputs.iter().flat_map(|f| f.tensors.iter().map(move |t| (f, t)));
    tensors.into_iter().try_for_each(|(file, tensor)| prove_routes(plan, tensor, file.rank.unwrap_or(0)))
}
