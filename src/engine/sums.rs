//! Comparing the bytes of sources with sums that were recorded earlier.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::thread::{Started, join};
use super::{CancelToken, Crc64, EngineConfig, EngineError, Event, Observer};
use crate::source::Extents;
use crate::sys::{Mapping, spawn_scoped};

/// The bytes of one tensor of a source, and their sum.
#[derive(Clone, Debug)]
pub struct SumOf {
    /// Index of the mapping.
    pub source: usize,
    /// The bytes.
    pub place: Extents,
    /// What their sum should be.
    pub sum: Crc64,
}

/// Sums up what lies at each place. Returns the indices of those whose sum is another, in order. A place past the end of its
/// mapping has no sum.
pub fn differing_sums(
    mappings: &[Arc<Mapping>],
    stated: &[SumOf],
    config: &EngineConfig,
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<Vec<usize>, EngineError> {
    let bytes: u64 = stated.iter().map(|one| one.place.len()).sum();
    // Where little of them is summed up, the rest need not be read.
    if bytes > mappings.iter().map(|mapping| mapping.len() as u64).sum::<u64>() / 2 {
        for mapping in mappings {
            mapping.read_through();
        }
    }
    observer.event(Event::Started { bytes });
    let next = AtomicUsize::new(0);
    let one_worker = || -> Result<Vec<usize>, EngineError> {
        let mut found = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(one) = stated.get(index) else { return Ok(found) };
            if sum(&mappings[one.source], &one.place, config.chunk(), observer, cancel)? != Some(one.sum) {
                found.push(index);
            }
        }
    };
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        // Without all threads there is no result: those that have started stop.
        let start =
            |_| spawn_scoped(scope, "sums", one_worker).inspect_err(|_| next.store(stated.len(), Ordering::Relaxed));
        let threads: Vec<Started<'_, _>> = (0..config.workers.max(1)).map(start).collect();
        threads.into_iter().map(join).collect()
    });
    Mapping::check_all(mappings)?;
    let mut found = Vec::new();
    for outcome in outcomes {
        found.extend(outcome?);
    }
    found.sort_unstable();
    Ok(found)
}

/// The sum of some bytes, read chunk by chunk.
fn sum(
    mapping: &Mapping,
    place: &Extents,
    chunk: u64,
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<Option<Crc64>, EngineError> {
    let mut sum = Crc64::EMPTY;
    let mut done = 0;
    while done < place.len() {
        if cancel.is_cancelled() || mapping.has_failed() {
            return Err(EngineError::Cancelled);
        }
        let len = chunk.min(place.len() - done);
        for range in place.locate(done, len) {
            let Some(bytes) = range.of(mapping) else {
                // The rest is not looked at.
                observer.event(Event::Written { bytes: place.len() - done });
                return Ok(None);
            };
            sum = sum.followed_by(Crc64::of(bytes), range.len());
            mapping.release(range.start(), range.len());
        }
        observer.event(Event::Written { bytes: len });
        done += len;
    }
    Ok(Some(sum))
}
