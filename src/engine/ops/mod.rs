//! What is done to elements on their way: the ops of a route's pipeline, block by block.
//!
//! A stage takes a block of neighbouring elements of the tensor that they go into and makes as many of it. Which file each comes
//! from, and how much of the tensor is requested, it need not know.

mod dequantise;
mod int4;
mod low_rank;
mod operands;
mod quantise;

use self::dequantise::Decoder;
pub(super) use self::dequantise::decode as dequantise;
use self::low_rank::Update;
pub(super) use self::operands::Operands;
use self::quantise::Quantiser;
use super::cast;
use super::view::Source;
use crate::plan::{Op, OpsId, Unit};
use crate::source::index;
use crate::tensor::Dtype;

/// Elements of a block.
const BLOCK: usize = 4096;
/// The most bytes of an element, on whichever stage.
const WIDEST: usize = 8;

/// One op, with what it needs beside the elements.
enum Stage<'a> {
    Cast { from: Dtype, to: Dtype },
    Dequantise(Decoder),
    AddLowRank(Update<'a>),
    Quantise(Quantiser<'a>),
}

impl Stage<'_> {
    /// Makes of elements those of the next stage; the first is element `at` of the tensor that they go into. Returns how many
    /// finite values became infinite.
    fn apply(&mut self, at: u64, elements: &[u8], made: &mut [u8]) -> u64 {
        match self {
            Self::Cast { from, to } => return cast::convert(*from, *to, elements, made),
            Self::Dequantise(decoder) => decoder.apply(elements, made),
            Self::AddLowRank(update) => update.apply(at, elements, made),
            Self::Quantise(quantiser) => quantiser.apply(at, elements, made),
        }
        0
    }

    /// Bytes of an element that it makes. Integers of less than a byte take one until they are packed.
    fn makes(&self) -> usize {
        match self {
            Self::Cast { to, .. } => to.size_in_memory(),
            Self::Dequantise(_) | Self::AddLowRank(_) => size_of::<f32>(),
            Self::Quantise(_) => 1,
        }
    }
}

/// A pipeline at work.
pub(super) struct Pipeline<'a> {
    id: OpsId,
    unit: Unit,
    stages: Vec<Stage<'a>>,
    /// Elements between two stages. Empty where none are.
    between: [Vec<u8>; 2],
    /// Elements of the source that are in no one piece there.
    apart: Vec<u8>,
    /// Integers that are still to be packed.
    integers: Vec<u8>,
}

impl<'a> Pipeline<'a> {
    /// The pipeline of these ops, of which one unit is that.
    pub(super) fn new(id: OpsId, ops: &'a [Op], unit: Unit, operands: &'a dyn Operands) -> Self {
        let stage = |op: &'a Op| match op {
            Op::Cast { from, to } => Stage::Cast { from: *from, to: *to },
            Op::Dequantise { from } => Stage::Dequantise(Decoder::new(*from)),
            Op::AddLowRank(update) => Stage::AddLowRank(Update::new(operands, update)),
            Op::Quantise(how) => Stage::Quantise(Quantiser::new(operands, how)),
        };
        let stages: Vec<Stage<'a>> = ops.iter().map(stage).collect();
        let room = |wanted: bool| if wanted { vec![0; BLOCK * WIDEST] } else { Vec::new() };
        let between = [room(stages.len() > 2), room(stages.len() > 1)];
        Self { id, unit, stages, between, apart: Vec::new(), integers: Vec::new() }
    }

    /// Whether it does these ops.
    pub(super) fn is(&self, id: OpsId) -> bool {
        self.id == id
    }

    /// Brings `count` elements from `src` on to the target's elements from `dst` on, where they fall into the buffer, which begins
    /// at byte `from` of the target. An element that lies only partly in the buffer is made by itself, and counted where it
    /// begins. Returns how many finite values became infinite.
    pub(super) fn run(
        &mut self,
        source: &Source<'_>,
        (src, dst, count): (u64, u64, u64),
        from: u64,
        buf: &mut [u8],
    ) -> u64 {
        let end = from + buf.len() as u64;
        let width = self.unit.written / 8;
        let (mut overflowed, mut done) = (0, 0);
        while done < count {
            let (src, at) = (src + done, dst + done);
            let begin = self.unit.byte(at);
            let whole = if begin >= from { (end - begin).checked_div(width).unwrap_or(u64::MAX) } else { 0 };
            let block = (count - done).min(BLOCK as u64).min(whole.max(1));
            overflowed += if width == 0 {
                // Bytes that hold several elements are never cut.
                let mut integers = std::mem::take(&mut self.integers);
                integers.resize(index(block), 0);
                let counted = self.block(source, src, at, &mut integers);
                int4::pack(&integers, at, from, buf);
                self.integers = integers;
                counted
            } else if whole > 0 {
                let target = index(begin - from);
                self.block(source, src, at, &mut buf[target..target + index(block * width)])
            } else {
                let mut one = [0u8; WIDEST];
                let counted = self.block(source, src, at, &mut one[..index(width)]);
                let (first, last) = (begin.max(from), (begin + width).min(end));
                let part = &one[index(first - begin)..index(last - begin)];
                buf[index(first - from)..index(last - from)].copy_from_slice(part);
                if begin >= from { counted } else { 0 }
            };
            done += block;
        }
        overflowed
    }

    /// Makes a block: elements from `src` on of the source become those from `at` on of the target.
    fn block(&mut self, source: &Source<'_>, src: u64, at: u64, made: &mut [u8]) -> u64 {
        let count = made.len() / self.stages.last().map_or(1, Stage::makes);
        let (from, bytes) = self.unit.stored(src, count as u64);
        let bytes = index(bytes);
        if let Some(Stage::Dequantise(decoder)) = self.stages.first_mut() {
            decoder.begin(src);
        }
        let elements = source.piece(from, bytes).unwrap_or_else(|| {
            self.apart.resize(BLOCK * WIDEST, 0);
            source.read(from, &mut self.apart[..bytes]);
            &self.apart[..bytes]
        });
        let Some((last, before)) = self.stages.split_last_mut() else { return 0 };
        let [filled, free] = &mut self.between;
        let (mut filled, mut free) = (filled, free);
        let (mut overflowed, mut between) = (0, None);
        for stage in before {
            let len = count * stage.makes();
            let elements = between.map_or(elements, |len| &filled[..len]);
            overflowed += stage.apply(at, elements, &mut free[..len]);
            std::mem::swap(&mut filled, &mut free);
            between = Some(len);
        }
        overflowed + last.apply(at, between.map_or(elements, |len| &filled[..len]), made)
    }
}
