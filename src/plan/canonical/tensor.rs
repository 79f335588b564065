//! A tensor that a plan makes, and its routes.

use super::hasher::PlanHasher;
use crate::plan::route::{OutputTensor, Route};

pub(super) fn tensor(tensor: &OutputTensor, hasher: &mut impl PlanHasher) {
    let OutputTensor { name, dtype, shape, first_holder, routes } = tensor;
    hasher.bytes(name.as_bytes());
    hasher.bytes(dtype.name().as_bytes());
    hasher.number(shape.dims().len() as u64);
    hasher.numbers(shape.dims().iter().copied());
    hasher.number(u64::from(*first_holder));
    hasher.number(routes.len() as u64);
    for Route { source, ops, moves } in routes {
        let ends = [moves.src, moves.dst, moves.run, moves.dims.len() as u64];
        let dims = moves.dims.iter().flat_map(|d| [d.count, d.src_stride, d.dst_stride]);
        hasher.numbers([source.index() as u64, ops.index() as u64].into_iter().chain(ends).chain(dims));
    }
}
