//! A plan as numbers and names, one after the other: what it is on every host, and what distinguishes two plans.
//!
//! Every structure is taken apart in full, so that what is added to one is not forgotten here.

mod calculation;
mod feed;
mod tensor;

pub use self::feed::Feed;
use self::tensor::tensor;
use super::op::{LowRank, Op, Quantise};
use super::route::{OutputFile, SourceTensor};
use super::value::Plan;
use crate::formats::{Checksum, ChecksumKind, Encoding, Segment};
use crate::source::Extents;

impl Plan {
    /// All of a plan but its source files, whose paths differ from host to host.
    pub fn feed(&self, feed: &mut impl Feed) {
        let Self { sources: _, tensors, outputs, pipelines, operands, passes, memory } = self;
        feed.number(tensors.len() as u64);
        for SourceTensor { file, name, dtype, extents: found } in tensors {
            feed.number(file.index() as u64);
            feed.bytes(name.as_bytes());
            feed.bytes(dtype.name().as_bytes());
            extents(found, feed);
        }
        feed.number(outputs.len() as u64);
        for output in outputs {
            file(output, feed);
        }
        feed.number(pipelines.len() as u64);
        for ops in pipelines {
            feed.number(ops.len() as u64);
            for one in ops {
                op(one, feed);
            }
        }
        feed.number(operands.len() as u64);
        for operand in operands {
            tensor(operand, feed);
        }
        feed.number(passes.len() as u64);
        for pass in passes {
            calculation::feed(pass, feed);
        }
        feed.bytes(memory);
    }
}

fn extents(extents: &Extents, feed: &mut impl Feed) {
    feed.number(extents.parts().len() as u64);
    for (_, range) in extents.parts() {
        feed.numbers([range.start(), range.len()]);
    }
}

fn file(output: &OutputFile, feed: &mut impl Feed) {
    // The format is what wrote the layout's header.
    let OutputFile { path, rank, format: _, layout, tensors } = output;
    feed.bytes(path.as_bytes());
    feed.number(rank.map_or(u64::MAX, u64::from));
    feed.number(layout.segments.len() as u64);
    for segment in &layout.segments {
        match segment {
            Segment::Literal(bytes) => {
                feed.number(0);
                feed.bytes(bytes);
            }
            Segment::Data { tensor, range } => feed.numbers([1, *tensor as u64, range.start(), range.len()]),
            Segment::Late(Checksum { kind, of, encoding }) => {
                feed.numbers([2, of.start(), of.len()]);
                feed.bytes(match kind {
                    ChecksumKind::Crc32 => b"crc32",
                });
                feed.bytes(match encoding {
                    Encoding::LittleEndian => b"little endian",
                    Encoding::BigEndian => b"big endian",
                });
            }
        }
    }
    feed.number(tensors.len() as u64);
    for one in tensors {
        tensor(one, feed);
    }
}

fn op(op: &Op, feed: &mut impl Feed) {
    match op {
        Op::Cast { from, to } => {
            feed.bytes(b"cast");
            feed.bytes(from.name().as_bytes());
            feed.bytes(to.name().as_bytes());
        }
        Op::Dequantise { from } => {
            feed.bytes(b"dequantise");
            feed.bytes(from.name().as_bytes());
        }
        Op::AddLowRank(LowRank { a, b, scale, width, from, to, steps }) => {
            feed.bytes(b"low rank");
            feed.numbers([a.index() as u64, b.index() as u64, u64::from(scale.to_bits()), *width]);
            feed.numbers([from.0, from.1, to.0, to.1, steps.len() as u64]);
            feed.numbers(steps.iter().flat_map(|&(in_target, in_weight)| [in_target, in_weight]));
        }
        Op::Quantise(Quantise { columns, group, width, arithmetic, scales, multiply, divide }) => {
            feed.bytes(b"quantise");
            feed.numbers([*columns, *group, scales.index() as u64]);
            feed.bytes(width.name().as_bytes());
            feed.bytes(arithmetic.name().as_bytes());
            feed.optional(multiply.map(|id| id.index() as u64));
            feed.optional(divide.map(|id| id.index() as u64));
        }
    }
}
