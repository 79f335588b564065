//! Reads and writes in flight: through `io_uring`, or one after the other.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt;

use super::{EngineConfig, EngineError, Event, Observer, WriterKind};
use crate::sys::{Completion, IoOp, Ring};

/// Where a worker's writes go. Both ways take and give back the same values.
#[derive(Debug)]
pub(super) enum Io {
    Ring(Box<Ring>),
    /// Writes are done at once; their results wait here.
    Pwrite(VecDeque<Completion>),
}

impl Io {
    /// What the configuration and the kernel allow. Must be called on the worker's own thread.
    pub(super) fn new(config: &EngineConfig, direct: bool, observer: &dyn Observer) -> Result<Self, EngineError> {
        // Through the page cache a write is a copy by the processor: io_uring would only hand it to another thread.
        let by_hand = config.writer == WriterKind::Pwrite || (config.writer == WriterKind::Auto && !direct);
        if by_hand {
            return Ok(Self::Pwrite(VecDeque::new()));
        }
        let depth = u32::try_from(config.depth).unwrap_or(8);
        match Ring::new(depth) {
            Ok(ring) => Ok(Self::Ring(Box::new(ring))),
            Err(e) if config.writer == WriterKind::Uring => Err(EngineError::Uring(e)),
            Err(_) => {
                observer.event(Event::UringRefused);
                Ok(Self::Pwrite(VecDeque::new()))
            }
        }
    }

    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Ring(ring) => ring.is_full(),
            Self::Pwrite(done) => !done.is_empty(),
        }
    }

    /// Whether nothing is in flight.
    pub(super) fn is_idle(&self) -> bool {
        match self {
            Self::Ring(ring) => ring.in_flight() == 0,
            Self::Pwrite(done) => done.is_empty(),
        }
    }

    pub(super) fn submit(&mut self, op: IoOp) -> io::Result<()> {
        match self {
            Self::Ring(ring) => ring.submit(op),
            Self::Pwrite(done) => {
                let mut op = op;
                let result = match &mut op {
                    IoOp::Write(op) => {
                        let bytes = op.bytes();
                        // Through the page cache in small steps: the worker goes on with the rest, as after any short write.
                        let step = if op.direct { bytes.len() } else { bytes.len().min(EngineConfig::CACHED_STEP) };
                        op.descriptor().write_at(&bytes[..step], op.at)
                    }
                    IoOp::Read(op) => match op.source.descriptor() {
                        Some(file) => file.read_at(&mut op.into[..op.len], op.at),
                        None => Err(io::ErrorKind::Unsupported.into()),
                    },
                };
                done.push_back(Completion { op, result });
                Ok(())
            }
        }
    }

    /// The next result, or `None` when nothing is in flight.
    pub(super) fn wait(&mut self) -> io::Result<Option<Completion>> {
        match self {
            Self::Ring(ring) => ring.wait(),
            Self::Pwrite(done) => Ok(done.pop_front()),
        }
    }
}
