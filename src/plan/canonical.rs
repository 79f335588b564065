//! A plan as numbers and names, one after the other: what it is on every host, and what distinguishes two plans.
//!
//! Every structure is taken apart in full, so that what is added to one is not forgotten here.

mod calculation;
mod hasher;
mod tensor;

pub use self::hasher::PlanHasher;
use self::tensor::tensor;
use super::op::{LowRank, Op, Quantise};
use super::route::{OutputFile, SourceTensor};
use super::value::Plan;
use crate::formats::{Checksum, ChecksumKind, Encoding, Segment};
use crate::source::Extents;

impl Plan {
    /// All of a plan but its source files, whose paths differ from host to host.
    pub fn feed(&self, hasher: &mut impl PlanHasher) {
        let Self { sources: _, tensors, outputs, pipelines, operands, passes, memory } = self;
        hasher.number(tensors.len() as u64);
        for SourceTensor { file, name, dtype, extents: found } in tensors {
            hasher.number(file.index() as u64);
            hasher.bytes(name.as_bytes());
            hasher.bytes(dtype.name().as_bytes());
            extents(found, hasher);
        }
        hasher.number(outputs.len() as u64);
        for output in outputs {
            file(output, hasher);
        }
        hasher.number(pipelines.len() as u64);
        for ops in pipelines {
            hasher.number(ops.len() as u64);
            for one in ops {
                op(one, hasher);
            }
        }
        hasher.number(operands.len() as u64);
        for operand in operands {
            tensor(operand, hasher);
        }
        hasher.number(passes.len() as u64);
        for pass in passes {
            calculation::feed(pass, hasher);
        }
        hasher.bytes(memory);
    }
}

fn extents(extents: &Extents, hasher: &mut impl PlanHasher) {
    hasher.number(extents.parts().len() as u64);
    for (_, range) in extents.parts() {
        hasher.numbers([range.start(), range.len()]);
    }
}

fn file(output: &OutputFile, hasher: &mut impl PlanHasher) {
    // The format is what wrote the layout's header.
    let OutputFile { path, rank, format: _, layout, tensors } = output;
    hasher.bytes(path.as_bytes());
    hasher.number(rank.map_or(u64::MAX, u64::from));
    hasher.number(layout.segments.len() as u64);
    for segment in &layout.segments {
        match segment {
            Segment::Literal(bytes) => {
                hasher.number(0);
                hasher.bytes(bytes);
            }
            Segment::Data { tensor, range } => hasher.numbers([1, *tensor as u64, range.start(), range.len()]),
            Segment::Late(Checksum { kind, of, encoding }) => {
                hasher.numbers([2, of.start(), of.len()]);
                hasher.bytes(match kind {
                    ChecksumKind::Crc32 => b"crc32",
                });
                hasher.bytes(match encoding {
                    Encoding::LittleEndian => b"little endian",
                    Encoding::BigEndian => b"big endian",
                });
            }
        }
    }
    hasher.number(tensors.len() as u64);
    for one in tensors {
        tensor(one, hasher);
    }
}

fn op(op: &Op, hasher: &mut impl PlanHasher) {
    match op {
        Op::Cast { from, to } => {
            hasher.bytes(b"cast");
            hasher.bytes(from.name().as_bytes());
            hasher.bytes(to.name().as_bytes());
        }
        Op::Dequantise { from } => {
            hasher.bytes(b"dequantise");
            hasher.bytes(from.name().as_bytes());
        }
        Op::AddLowRank(LowRank { a, b, scale, width, from, to, steps }) => {
            hasher.bytes(b"low rank");
            hasher.numbers([a.index() as u64, b.index() as u64, u64::from(scale.to_bits()), *width]);
            hasher.numbers([from.0, from.1, to.0, to.1, steps.len() as u64]);
            hasher.numbers(steps.iter().flat_map(|&(in_target, in_weight)| [in_target, in_weight]));
        }
        Op::Quantise(Quantise { columns, group, width, arithmetic, scales, multiply, divide }) => {
            hasher.bytes(b"quantise");
            hasher.numbers([*columns, *group, scales.index() as u64]);
            hasher.bytes(width.name().as_bytes());
            hasher.bytes(arithmetic.name().as_bytes());
            hasher.optional(multiply.map(|id| id.index() as u64));
            hasher.optional(divide.map(|id| id.index() as u64));
        }
    }
}
