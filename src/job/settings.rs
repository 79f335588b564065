//! From a job's settings to those of the engine, on this machine; the one place that promises inputs stay unchanged.

use std::path::Path;
use std::sync::Arc;

use super::choices::{Reader, Reflink, Writer, Writes};
use super::spec::{Job, Reading};
use crate::engine::{self, Chosen, Durability, EngineConfig, Facts, Publish, Requested, WriterKind, choose};
use crate::formats::Budget;
use crate::input::Opening;
use crate::plan::{Plan, Precision};
use crate::storage::{Local, LocalBlob};
use crate::sys::{self, Place, StableInputs};
use crate::tensor::Dtype;

/// The promise that the inputs stay unchanged.
fn stable_inputs() -> StableInputs {
    // SAFETY: `assume` requires that no process modifies or truncates the mapped files. The library cannot make sure of that; it is
    // what the documentation of the crate, `--help` and the README ask of the user, as `cp` gives no sensible result either while
    // its source is written to.
    // The obligation is the user's: this reasoning should be treated as suspect. What follows where it is broken: other bytes
    // than the plan saw, or zeros and a mapping that reports them; in neither case is anything published, as staged files get their
    // names only at the end.
    #[expect(unsafe_code, reason = "the promise that only the user can keep")]
    unsafe {
        StableInputs::assume()
    }
}

/// What may be taken for what headers list, beside what the process holds already: what `--memory` allows, or what the machine has.
pub(super) fn budget(memory: Option<u64>) -> Budget {
    let allowed = memory.or_else(sys::available_memory).unwrap_or(u64::MAX);
    // What the machine has is without what is held.
    let held = memory.and_then(|_| sys::anonymous_memory()).unwrap_or(0);
    Budget::new(allowed, held, memory.is_some())
}

/// What reading a checkpoint takes.
pub(super) fn opening(budget: &Budget) -> Opening<'_> {
    Opening { store: Local::new(stable_inputs()), budget }
}

impl Reading {
    /// What is requested of the engine where nothing is written.
    pub(super) fn requested(&self) -> Requested {
        Requested {
            workers: self.workers,
            memory: self.memory,
            chunk: self.chunk,
            depth: self.depth,
            reader: match self.reader {
                Reader::Auto => None,
                Reader::Mapped => Some(sys::Reader::Mapped),
                Reader::Direct => Some(sys::Reader::Direct),
                Reader::Sequential => Some(sys::Reader::Sequential),
            },
            durability: Durability::Cached,
            ..Requested::default()
        }
    }
}

impl Job {
    /// What is requested of the engine.
    pub(super) fn requested(&self) -> Requested {
        Requested {
            writes: match self.run.writes {
                Writes::Auto => engine::Writes::Auto,
                Writes::Direct => engine::Writes::Direct,
                Writes::Buffered => engine::Writes::Buffered,
            },
            writer: match self.run.writer {
                Writer::Auto => WriterKind::Auto,
                Writer::Uring => WriterKind::Uring,
                Writer::Pwrite => WriterKind::Pwrite,
            },
            reflink: match self.run.reflink {
                Reflink::Auto => engine::Reflink::Auto,
                Reflink::Never => engine::Reflink::Never,
            },
            durability: self.durability(),
            ..self.run.reading.requested()
        }
    }

    /// Whether the target is flushed before it is published.
    pub(super) fn durability(&self) -> Durability {
        if self.run.no_sync { Durability::Cached } else { Durability::Synced }
    }

    /// What is done with a target that is there.
    pub(super) fn publish(&self) -> Publish {
        if self.target.overwrite { Publish::Replace } else { Publish::New }
    }

    /// What becomes of the floating-point weights. A network of quantised weights computes in fp16; what is resharded keeps
    /// what it has.
    pub(super) fn weights(&self) -> Precision {
        if self.is_quantising() { Precision::To(Dtype::F16) } else { self.precision.of_weights() }
    }

    /// What becomes of the norms.
    pub(super) fn norms(&self) -> Precision {
        self.edits.norms.map_or(self.weights(), super::choices::Precision::of_weights)
    }
}

/// How many threads something that only reads uses.
pub(super) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// How the engine reads sources where nothing is requested.
pub(super) fn of_readers(sources: &[Arc<LocalBlob>]) -> EngineConfig {
    settle(&Requested { durability: Durability::Cached, ..Requested::default() }, sources, None).config
}

/// Looks at the machine and chooses. Sets how the sources will be read. `target`: where, and how many bytes.
pub(super) fn settle(requested: &Requested, sources: &[Arc<LocalBlob>], target: Option<(&Path, u64)>) -> Chosen {
    let facts = Facts {
        sources: sources.iter().map(|source| Place::of_file(source.path())).collect(),
        target: target.map(|(path, _)| Place::of_directory(path)),
        output: target.map_or(0, |(_, bytes)| bytes),
        processors: processors(),
        memory: sys::available_memory(),
        uring_refused: sys::uring().err().map(|e| e.to_string()),
    };
    let chosen = choose(&facts, requested);
    for (source, reader) in sources.iter().zip(&chosen.readers) {
        source.set_reader(*reader);
    }
    chosen
}

/// Bytes of memory that running a plan takes, with what the process holds already.
pub(super) fn memory(plan: &Plan, engine: &EngineConfig) -> u64 {
    let factors = plan.operand_bytes() * engine.workers as u64;
    // The memory of the plan is held as the plan has it, as it is computed, and as it is read.
    // Scales are gathered in blocks before they go into it, in single precision.
    let scales = plan.matrices().map(|c| c.rows * (c.columns / c.group.max(1)) * 8).sum::<u64>();
    let computed = 2 * plan.memory.len() as u64 + scales;
    engine.buffer_bytes() + factors + computed + sys::anonymous_memory().unwrap_or(0)
}
