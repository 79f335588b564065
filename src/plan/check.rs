//! The proof that a plan writes every byte of every output once and reads nothing that is not there.

use std::borrow::Cow;

use super::op::{LowRank, Op, Quantise};
use super::{OutputTensor, Plan, PlanError};
use crate::formats::Segment;
use crate::layout::{CoverFault, Footprint, Move, exact_cover};
use crate::tensor::{Dtype, Shape};

/// Proves the plan.
///
/// # Errors
/// The first tensor with a gap, an overlap, a byte past its end, or a read past the end of its source.
pub fn prove(plan: &Plan) -> Result<(), PlanError> {
    plan.operands.iter().try_for_each(|operand| prove_routes(plan, operand, 0))?;
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
            prove_routes(plan, tensor, rank)?;
        }
    }
    for calculation in plan.matrices() {
        prove_routes(plan, &calculation.weight, 0)?;
    }
    Ok(())
}

/// Proves that the routes of one tensor write each of its elements once.
fn prove_routes(plan: &Plan, tensor: &OutputTensor, rank: u32) -> Result<(), PlanError> {
    let name = || tensor.name.to_string();
    // Copies are counted in bytes, everything else in elements: one unit where all are alike, else what all are multiples of.
    let mut units: Vec<u64> = tensor.routes.iter().map(|route| plan.unit(route).written).collect();
    units.dedup();
    let bits = if let [unit] = units.as_slice() { *unit } else { units.iter().copied().min().unwrap_or(8).min(8) };
    let mut moves: Vec<Cow<'_, Move>> = Vec::with_capacity(tensor.routes.len());
    for route in &tensor.routes {
        let (unit, source) = (plan.unit(route), plan.stored(route));
        let mut dtype = source.dtype;
        for op in plan.ops(route.ops) {
            if op.takes() != dtype {
                return Err(PlanError::Cast { name: name(), from: source.dtype.name(), to: tensor.dtype.name() });
            }
            dtype = op.gives();
            if !operands_fit(plan, op, &tensor.shape) {
                return Err(PlanError::OutOfBounds { name: name(), rank });
            }
        }
        if dtype != tensor.dtype {
            return Err(PlanError::Cast { name: name(), from: source.dtype.name(), to: tensor.dtype.name() });
        }
        if unit.stored(0, route.moves.src_end()).1 > source.extents.len() {
            return Err(PlanError::OutOfBounds { name: name(), rank });
        }
        let counted = unit.written / bits;
        moves.push(if counted == 1 {
            Cow::Borrowed(&route.moves)
        } else {
            Cow::Owned(route.moves.clone().scaled(counted))
        });
    }
    let total = tensor.shape.bytes(tensor.dtype) * 8 / bits;
    let footprints = moves.iter().map(|moves| Footprint::from(moves.as_ref())).collect();
    exact_cover(footprints, total).map_err(|fault| PlanError::Cover { name: name(), rank, fault })
}

/// Whether what an op takes beside the elements of a tensor of this shape is there and large enough.
fn operands_fit(plan: &Plan, op: &Op, shape: &Shape) -> bool {
    let operand = |id: super::OperandId, dtype| plan.operands.get(id.index()).filter(|found| found.dtype == dtype);
    match op {
        Op::Cast { .. } | Op::Dequantise { .. } => true,
        Op::AddLowRank(LowRank { a, b, width, .. }) => {
            let (Some(a), Some(b)) = (operand(*a, Dtype::F32), operand(*b, Dtype::F32)) else { return false };
            let factors = (a.shape.dims(), b.shape.dims());
            *width > 0 && matches!(factors, (&[rank, _], &[_, b_rank]) if rank == b_rank)
        }
        Op::Quantise(how) => {
            let Quantise { columns, group, width, arithmetic, scales, multiply, divide } = how;
            let elements = shape.elements() * width.in_a_byte();
            let (rows, groups) = (elements.checked_div(*columns), elements.checked_div(*group));
            let holds = |id, dtype, count: Option<u64>| {
                operand(id, dtype).is_some_and(|found| Some(found.shape.elements()) == count)
            };
            columns.checked_rem(*group) == Some(0)
                && holds(*scales, arithmetic.scales(), groups)
                && multiply.is_none_or(|id| holds(id, Dtype::F16, Some(*columns)))
                && divide.is_none_or(|id| holds(id, Dtype::F16, rows))
        }
    }
}

/// Proves of a comparison's routes what [`prove`] proves of a plan's.
///
/// # Errors
/// As [`prove`].
pub fn prove_covered(plan: &Plan) -> Result<(), PlanError> {
    let tensors = plan.outputs.iter().flat_map(|f| f.tensors.iter().map(move |t| (f, t)));
    tensors.into_iter().try_for_each(|(file, tensor)| prove_routes(plan, tensor, file.rank.unwrap_or(0)))
}
