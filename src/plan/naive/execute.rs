//! A plan carried out one unit at a time, and what it made compared with what it should have made.

use std::collections::{BTreeMap, HashSet};

use super::convert::Request;
use super::cut::Block;
use super::files::{File, Tensor, bytes_of};
use super::placement::Placement;
use super::whole::{Cut, Item, Model};
use crate::layout::Dim;
use crate::plan::{Op, OutputTensor, Plan};
use crate::tensor::Dtype;

/// The bytes of the tensors that routes read.
pub(super) fn sources(plan: &Plan, files: &[File]) -> Vec<Vec<u8>> {
    let bytes = |tensor: &crate::plan::SourceTensor| {
        let parts = tensor.extents.parts().iter();
        parts
            .flat_map(|(_, range)| range.of(&files[tensor.file.index()].bytes).expect("within the file"))
            .copied()
            .collect()
    };
    plan.tensors.iter().map(bytes).collect()
}

/// Calls `each` with where the runs of a move begin in source and target.
fn walk(src: u64, dst: u64, dims: &[Dim], each: &mut impl FnMut(usize, usize)) {
    let at = |n: u64| usize::try_from(n).expect("small");
    match dims.split_first() {
        None => each(at(src), at(dst)),
        Some((dim, inner)) => {
            (0..dim.count).for_each(|n| walk(src + n * dim.src_stride, dst + n * dim.dst_stride, inner, each));
        }
    }
}

/// What a tensor's routes make of the sources. Elements that are converted are left as they were in the source.
pub(super) fn made(plan: &Plan, sources: &[Vec<u8>], tensor: &OutputTensor, from: Dtype) -> Vec<u8> {
    let len = usize::try_from(tensor.shape.elements() * from.size()).expect("small");
    // Nothing that is written is all zeros, so what was there before shows.
    let (mut made, mut written) = (vec![0; len], 0);
    for route in &tensor.routes {
        assert_eq!(plan.stored(route).dtype, from);
        let source = &sources[route.source.index()];
        let unit = match plan.ops(route.ops) {
            [] => 1,
            [Op::Cast { from: f, to }] => {
                assert_eq!((*f, *to), (from, tensor.dtype));
                from.size_in_memory()
            }
            _ => panic!("nothing is merged or quantised"),
        };
        let run = usize::try_from(route.moves.run).expect("small") * unit;
        walk(route.moves.src, route.moves.dst, &route.moves.dims, &mut |src, dst| {
            made[dst * unit..][..run].copy_from_slice(&source[src * unit..][..run]);
            written += run;
        });
    }
    assert_eq!(written, len, "{}: something is written twice or never", tensor.name);
    made
}

/// A tensor that an output must hold.
pub(super) struct Expected {
    pub(super) name: String,
    pub(super) is_norm: bool,
    pub(super) block: Block,
    /// Whether no earlier file of the stage holds the same.
    pub(super) is_first: bool,
}

/// What each rank of a placement must hold.
pub(super) fn of_ranks(model: &Model, target: &Placement) -> Vec<Vec<Expected>> {
    let mut seen: HashSet<(usize, String, Option<u32>)> = HashSet::new();
    let mut of_rank = |rank: usize| {
        let expected = |(item, block): (&Item, Block)| {
            let first = seen.insert((rank / target.devices, item.name.clone(), block.elements.first().copied()));
            let is_norm = model.parameters[item.parts[0]].cut == Cut::Whole;
            Expected { name: item.name.clone(), is_norm, block, is_first: first }
        };
        target.blocks(model, rank).map(expected).collect()
    };
    (0..target.ranks()).map(&mut of_rank).collect()
}

/// The plan must make of the files what is expected, file by file. `counter`: what all of them hold besides.
pub(super) fn check(
    plan: &Plan,
    files: &[File],
    (dtype, request): (Dtype, &Request),
    expected: Vec<Vec<Expected>>,
    counter: Option<&Tensor>,
) {
    let sources = sources(plan, files);
    assert_eq!(plan.outputs.len(), expected.len(), "a file a rank");
    let alone = expected.len() == 1;
    for (rank, (file, expected)) in plan.outputs.iter().zip(expected).enumerate() {
        assert_eq!(file.path, format!("rank_{rank}/checkpoint_{rank}.{}", request.format.extension()));
        assert_eq!(file.rank.map(|rank| rank as usize), Some(rank));
        let mut tensors: BTreeMap<&str, &OutputTensor> = file.tensors.iter().map(|t| (&*t.name, t)).collect();
        assert_eq!(tensors.len(), file.tensors.len(), "rank {rank} holds a name twice");
        for Expected { name, is_norm, block, is_first } in expected {
            let what = format!("`{name}` of rank {rank}");
            let tensor = tensors.remove(name.as_str()).unwrap_or_else(|| panic!("{what} is missing"));
            let wanted = if is_norm { request.norms } else { request.precision };
            assert_eq!(tensor.dtype, wanted.unwrap_or(dtype), "{what}");
            let dims: Vec<u64> = block.dims.iter().map(|&n| n as u64).collect();
            assert_eq!(tensor.shape.dims(), dims, "{what}");
            assert_eq!(made(plan, &sources, tensor, dtype), bytes_of(&block.elements, dtype), "{what}");
            assert_eq!(tensor.first_holder, is_first, "{what} is counted wrongly");
        }
        if let Some(wanted) = counter {
            let tensor = tensors.remove(wanted.name.as_str()).expect("what all ranks hold");
            assert_eq!((tensor.dtype, &tensor.shape), (wanted.dtype, &wanted.shape), "{}", wanted.name);
            assert_eq!(made(plan, &sources, tensor, wanted.dtype), wanted.bytes, "{}", wanted.name);
            assert_eq!(tensor.first_holder, rank == 0 || alone, "{}", wanted.name);
        }
        assert!(tensors.is_empty(), "rank {rank} holds {:?} besides", tensors.keys());
    }
}
