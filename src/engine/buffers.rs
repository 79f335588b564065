//! Buffers of one size: a fixed number, used again and again.

use super::EngineError;
use crate::sys::AlignedBuf;

/// The buffers of one worker, or of all windows.
#[derive(Debug)]
pub(super) struct BufferPool {
    free: Vec<AlignedBuf>,
    /// How many may still be made. They are made when first needed, so that a copy without gathers needs none.
    unmade: usize,
    bytes: usize,
}

impl BufferPool {
    pub(super) fn new(count: usize, bytes: usize) -> Self {
        Self { free: Vec::with_capacity(count), unmade: count, bytes }
    }

    /// A buffer, or `None` when all are in flight.
    pub(super) fn take(&mut self) -> Result<Option<AlignedBuf>, EngineError> {
        if let Some(buf) = self.free.pop() {
            return Ok(Some(buf));
        }
        if self.unmade == 0 {
            return Ok(None);
        }
        let made =
            AlignedBuf::new(self.bytes).map_err(|source| EngineError::Memory { bytes: self.bytes as u64, source })?;
        self.unmade -= 1;
        Ok(Some(made))
    }

    /// Whether `take` has something to give.
    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty() || self.unmade > 0
    }

    /// Gives a buffer back.
    pub(super) fn give_back(&mut self, buf: AlignedBuf) {
        self.free.push(buf);
    }
}
