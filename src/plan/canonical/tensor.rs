//! A tensor that a plan makes, and its routes.

use super::feed::Feed;
use crate::plan::route::{OutputTensor, Route};

pub(super) fn tensor(tensor: &OutputTensor, feed: &mut impl Feed) {
    let OutputTensor { name, dtype, shape, first_holder, routes } = tensor;
    feed.bytes(name.as_bytes());
    feed.bytes(dtype.name().as_bytes());
    feed.number(shape.dims().len() as u64);
    feed.numbers(shape.dims().iter().copied());
    feed.number(u64::from(*first_holder));
    feed.number(routes.len() as u64);
    for Route { source, ops, moves } in routes {
        let ends = [moves.src, moves.dst, moves.run, moves.dims.len() as u64];
        let dims = moves.dims.iter().flat_map(|d| [d.count, d.src_stride, d.dst_stride]);
        feed.numbers([source.index() as u64, ops.index() as u64].into_iter().chain(ends).chain(dims));
    }
}
