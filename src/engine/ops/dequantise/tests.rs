//! What gguf-py computes, and that it does not depend on how a target is cut.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::blocks::decode_with;
use super::*;
use crate::engine::cast;
use crate::engine::ops::{Operands, Pipeline};
use crate::engine::view::{Source, View};
use crate::plan::{Op, OperandId, OpsId, OutputTensor, SourceId, SourceTensor, Unit};
use crate::source::{ByteRange, Extents, index};
use crate::storage::LocalBlob;
use crate::sys::{StableInputs, Vectors};
use crate::tensor::Dtype;

/// No op here takes anything.
struct Nothing;

impl Operands for Nothing {
    fn operand(&self, _: OperandId) -> &OutputTensor {
        unreachable!("there are none")
    }

    fn read(&self, _: OperandId, _: u64, _: &mut [u8]) {}
}

/// Dequantises as a pipeline does it, then converts. Returns how many overflowed.
fn run(
    source: &Source<'_>,
    (from, to): (BlockType, Dtype),
    elements: (u64, u64, u64),
    begin: u64,
    buf: &mut [u8],
) -> u64 {
    let mut ops = vec![Op::Dequantise { from }];
    ops.extend((to != Dtype::F32).then_some(Op::Cast { from: Dtype::F32, to }));
    Pipeline::new(OpsId::new(1), &ops, Unit::of(&ops), &Nothing).run(source, elements, begin, buf)
}

/// Blocks of a type, and the bits of their elements as gguf-py computes them.
#[derive(Deserialize)]
struct Known {
    blocks: String,
    bits: Vec<String>,
}

fn known() -> Vec<(BlockType, Vec<u8>, Vec<u32>)> {
    let text = include_str!("../../../../tests/data/gguf/blocks.json");
    let all: BTreeMap<String, Known> = serde_json::from_str(text).unwrap();
    let byte = |at: usize, hex: &str| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let of = |kind: BlockType| {
        let Known { blocks, bits } = &all[kind.name()];
        let bytes = (0..blocks.len()).step_by(2).map(|at| byte(at, blocks)).collect();
        (kind, bytes, bits.iter().map(|bits| u32::from_str_radix(bits, 16).unwrap()).collect())
    };
    BlockType::ALL.into_iter().map(of).collect()
}

#[test]
fn every_type_is_what_gguf_py_makes_of_it_on_any_vectors() {
    for (kind, blocks, expected) in known() {
        for vectors in Vectors::all() {
            let mut out = vec![0f32; expected.len()];
            decode_with(vectors, kind, &blocks, &mut out);
            let found: Vec<u32> = out.iter().map(|value| value.to_bits()).collect();
            assert_eq!(found, expected, "{} {vectors:?}", kind.name());
        }
    }
}

/// A source whose tensor has these blocks over and over, in one piece or in two that a block is cut by.
fn with_source(blocks: &[u8], cut: Option<u64>, test: impl FnOnce(&Source<'_>)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let len = blocks.len() as u64;
    std::fs::write(&path, [blocks, blocks].concat()).unwrap();
    let mut extents = Extents::default();
    for (at, end) in cut.map_or(vec![(0, len)], |cut| vec![(0, cut), (len + cut, 2 * len)]) {
        extents.push(ByteRange::new(at, end - at).unwrap());
    }
    let tensor = SourceTensor { file: SourceId::new(0), name: "a".into(), dtype: Dtype::F32, extents };
    let mappings = [std::sync::Arc::new(LocalBlob::open(&path, StableInputs::in_test()).unwrap())];
    test(&Source::new(&tensor, &mappings, &View::default()));
}

#[test]
fn any_part_of_a_target_is_the_same_part_of_the_whole() {
    for (kind, blocks, bits) in known() {
        // More than is computed in one go.
        let blocks = blocks.repeat(usize::try_from(2500 / kind.elements() / 4 + 1).unwrap());
        let bits: Vec<u32> =
            bits.iter().copied().cycle().take(blocks.len() / index(kind.bytes()) * index(kind.elements())).collect();
        let singles: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        let count = bits.len() as u64;
        for to in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            let mut whole = vec![0; singles.len() / 4 * to.size_in_memory()];
            let overflowed = cast::convert(Dtype::F32, to, &singles, &mut whole);
            with_source(&blocks, (to == Dtype::F32).then_some(kind.bytes() + 1), |source| {
                for (src, from) in [(0, 0), (1, 0), (31, 3), (32, 1), (300, 2), (1023, 5), (1025, 0)] {
                    // Bytes `from ..` of a target that holds the elements from `src` on.
                    for len in [0, 1, 2, 7, 64, 1000, whole.len()] {
                        let begin = index(src * to.size() + from);
                        let len = len.min(whole.len() - begin);
                        let mut buf = vec![0; len];
                        let (first, last) = (from / to.size(), (from + len as u64).div_ceil(to.size()));
                        run(source, (kind, to), (src + first, first, last - first), from, &mut buf);
                        assert!(buf == whole[begin..begin + len], "{} {to} {src} {from} {len}", kind.name());
                    }
                }
                let mut buf = vec![0; whole.len()];
                assert_eq!(run(source, (kind, to), (0, 0, count), 0, &mut buf), overflowed, "{} {to}", kind.name());
            });
        }
    }
}

#[test]
fn what_overflows_is_counted_once_where_it_begins() {
    // One block of the largest half times 127: beyond what a half holds.
    let mut block = [127u8; 34];
    block[..2].copy_from_slice(&0x7bffu16.to_le_bytes());
    with_source(&block.repeat(2), None, |source| {
        let overflowed = |from: u64, len: usize| {
            let last = (from + len as u64).div_ceil(2);
            let first = from / 2;
            run(source, (BlockType::Q8_0, Dtype::F16), (first, first, last - first), from, &mut vec![0; len])
        };
        assert_eq!(overflowed(0, 128), 64);
        assert_eq!(overflowed(0, 63) + overflowed(63, 65), 64);
    });
}
