//! The plan as a value: sources, outputs, and what is computed before.

use std::path::PathBuf;

use super::calculation::Computed;
use super::route::{LowRank, OutputFile, OutputTensor, SourceTensor, Transform};

/// What is read, what is written, and which bytes go where.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Plan {
    /// The source files.
    pub sources: Vec<PlanSource>,
    /// The source tensors that routes read.
    pub tensors: Vec<SourceTensor>,
    /// The files to write.
    pub outputs: Vec<OutputFile>,
    /// What [`Transform::Update`] adds.
    pub updates: Vec<LowRank>,
    /// The factors of updates, each whole and in single precision.
    pub factors: Vec<OutputTensor>,
    /// What is computed before anything is written, and read like a source.
    pub computed: Option<Computed>,
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
    /// Bytes that one thread needs for the factors of an update, beside its buffers.
    pub fn factor_bytes(&self) -> u64 {
        let bytes = |t: &OutputTensor| t.shape.bytes(t.dtype);
        self.updates.iter().map(|u| bytes(&self.factors[u.a])).max().unwrap_or(0)
    }

    /// The source files; what is computed is none.
    pub fn files(&self) -> impl Iterator<Item = &PlanSource> {
        let computed = self.computed.as_ref().map(|c| c.source);
        self.sources.iter().enumerate().filter(move |(index, _)| Some(*index) != computed).map(|(_, source)| source)
    }

    /// Sums over the plan.
    pub fn totals(&self) -> PlanTotals {
        let mut totals = PlanTotals::default();
        for file in &self.outputs {
            totals.written += file.layout.len();
            for tensor in &file.tensors {
                totals.tensors += 1;
                if let Some(quantised) = &tensor.quantised {
                    totals.read +=
                        quantised.operand.iter().map(|r| r.transform.stored(0, r.moves.volume()).1).sum::<u64>();
                    totals.converted += tensor.shape.bytes(tensor.dtype);
                }
                for route in &tensor.routes {
                    let written = route.moves.volume() * route.transform.unit();
                    totals.read += route.transform.stored(0, route.moves.volume()).1;
                    match route.transform {
                        Transform::Cast { .. } | Transform::Update { .. } | Transform::Dequantise { .. } => {
                            totals.converted += written;
                        }
                        Transform::Copy if route.moves.dims.is_empty() => totals.contiguous += written,
                        Transform::Copy => totals.gathered += written,
                    }
                }
            }
        }
        totals.headers = totals.written - totals.contiguous - totals.gathered - totals.converted;
        totals
    }
}
