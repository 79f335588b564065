//! The plan as a value: sources, outputs, and what is computed before.

use std::path::PathBuf;

use super::calculation::{CacheScales, Calculation, Pass};
use super::ids::{OperandId, OpsId, SourceId};
use super::op::{Op, Unit};
use super::route::{OutputFile, OutputTensor, Route, SourceTensor};

/// What is read, what is written, and which bytes go where.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Plan {
    /// The source files.
    pub sources: Vec<PlanSource>,
    /// The source tensors that routes read.
    pub tensors: Vec<SourceTensor>,
    /// The files to write.
    pub outputs: Vec<OutputFile>,
    /// What routes do to elements, each the ops of one or more routes in order. The first is that of [`OpsId`] 1: 0 is none.
    pub pipelines: Vec<Box<[Op]>>,
    /// What ops take beside the elements. Put together in memory, never written.
    pub operands: Vec<OutputTensor>,
    /// What is computed before anything is written. Each pass reads sources, and what earlier ones have put into the memory.
    pub passes: Vec<Pass>,
    /// What passes compute, with what is known already: zeros, ones. Routes read it like a source.
    pub memory: Vec<u8>,
}

/// A source file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanSource {
    /// Where it lies.
    pub path: PathBuf,
    /// Its length in bytes.
    pub len: u64,
    /// Its rank.
    pub rank: u32,
}

/// Sums over a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PlanTotals {
    /// Tensors in the output files.
    pub tensors: u64,
    /// Bytes read from tensors of the source files (each route's bytes).
    pub read: u64,
    /// Bytes of the output files.
    pub written: u64,
    /// Output bytes that are one run in the source and unchanged.
    pub contiguous: u64,
    /// Output bytes gathered from strided runs.
    pub gathered: u64,
    /// Output bytes that are converted.
    pub converted: u64,
    /// Header and padding bytes.
    pub headers: u64,
}

impl Plan {
    /// The ops of a pipeline, in order; none for what is moved as it is.
    pub fn ops(&self, id: OpsId) -> &[Op] {
        id.index().checked_sub(1).map_or(&[], |index| &self.pipelines[index])
    }

    /// What one unit of a route's move is.
    pub fn unit(&self, route: &Route) -> Unit {
        self.unit_of(route.ops)
    }

    /// What one unit is of a move through a pipeline.
    pub fn unit_of(&self, ops: OpsId) -> Unit {
        Unit::of(self.ops(ops))
    }

    /// An operand of an op.
    pub fn operand(&self, id: OperandId) -> &OutputTensor {
        &self.operands[id.index()]
    }

    /// The source tensor of a route.
    pub fn stored(&self, route: &Route) -> &SourceTensor {
        &self.tensors[route.source.index()]
    }

    /// Bytes that one thread needs for operands that it holds whole, beside its buffers.
    pub fn operand_bytes(&self) -> u64 {
        let bytes = |op: &Op| match op {
            Op::AddLowRank(update) => {
                let factor = self.operand(update.a);
                factor.shape.bytes(factor.dtype)
            }
            Op::Cast { .. } | Op::Dequantise { .. } | Op::Quantise(_) => 0,
        };
        self.pipelines.iter().flatten().map(bytes).max().unwrap_or(0)
    }

    /// Whether a source is the memory of the plan. It comes after all files.
    pub fn is_memory(&self, source: SourceId) -> bool {
        source.index() == self.sources.len()
    }

    /// The lengths of all that is read: of the source files, then of the memory, where anything is computed.
    pub fn lengths(&self) -> impl Iterator<Item = u64> {
        let memory = (!self.passes.is_empty()).then_some(self.memory.len() as u64);
        self.sources.iter().map(|source| source.len).chain(memory)
    }

    /// The matrices that are quantised.
    pub fn matrices(&self) -> impl Iterator<Item = &Calculation> {
        self.passes.iter().filter_map(|pass| if let Pass::Matrix(matrix) = pass { Some(&**matrix) } else { None })
    }

    /// The caches of keys and values that are quantised.
    pub fn caches(&self) -> impl Iterator<Item = &CacheScales> {
        self.passes.iter().filter_map(|pass| if let Pass::Caches(caches) = pass { Some(caches) } else { None })
    }

    /// Sums over the plan.
    pub fn totals(&self) -> PlanTotals {
        let mut totals = PlanTotals::default();
        for file in &self.outputs {
            totals.written += file.layout.len();
            for tensor in &file.tensors {
                totals.tensors += 1;
                let mut converted_bits = 0;
                for route in &tensor.routes {
                    let (unit, volume) = (self.unit(route), route.moves.volume());
                    totals.read += unit.stored(0, volume).1;
                    match route.ops {
                        OpsId::COPY if route.moves.dims.is_empty() => totals.contiguous += volume,
                        OpsId::COPY => totals.gathered += volume,
                        _ => converted_bits += volume * unit.written,
                    }
                }
                totals.converted += converted_bits / 8;
            }
        }
        totals.headers = totals.written - totals.contiguous - totals.gathered - totals.converted;
        totals
    }
}
