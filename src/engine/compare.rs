//! Comparing instead of writing: what a plan would write, against what is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::fill::{Inputs, index};
use super::view::View;
use super::{CancelToken, EngineConfig, EngineError, Event, Observer};
use crate::plan::Plan;
use crate::source::Extents;
use crate::sys::Mapping;

/// The first byte of a tensor in which two checkpoints differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Index of the output file.
    pub file: usize,
    /// Index of the tensor in it.
    pub tensor: usize,
    /// The first byte of the tensor that differs.
    pub at: u64,
}

/// Compares what the plan would write with the bytes at `places` (by file and tensor) of the mapped `others`.
/// Answers at most one difference for each tensor, in file order.
pub fn compare(
    plan: &Plan,
    mappings: &[Arc<Mapping>],
    others: &[Arc<Mapping>],
    places: &[Vec<Extents>],
    config: &EngineConfig,
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<Vec<Difference>, EngineError> {
    for mapping in mappings.iter().chain(others) {
        mapping.read_through();
    }
    let inputs = Inputs { plan, mappings };
    let mut all: Vec<(usize, usize)> = Vec::new();
    for (file, tensors) in places.iter().enumerate() {
        all.extend((0..tensors.len()).map(|tensor| (file, tensor)));
    }
    // In the order of the source, which is read from front to back.
    all.sort_by_key(|&(file, tensor)| plan.outputs[file].tensors[tensor].routes.first().map(|r| r.source));
    let bytes = places.iter().flatten().map(Extents::len).sum();
    observer.event(Event::Started { bytes });
    let next = AtomicUsize::new(0);
    let one_worker = || -> Result<Vec<Difference>, EngineError> {
        let mut buf = vec![0; index(config.chunk())];
        let mut found = Vec::new();
        while let Some(&(file, tensor)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            let there: &[u8] = &others[file];
            found.extend(first_difference(
                &inputs,
                (file, tensor),
                there,
                &places[file][tensor],
                &mut buf,
                observer,
                cancel,
            )?);
        }
        Ok(found)
    };
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..config.workers.max(1)).map(|_| scope.spawn(one_worker)).collect();
        threads.into_iter().map(|t| t.join().unwrap_or(Err(EngineError::WorkerPanicked))).collect()
    });
    let mut found = Vec::new();
    for outcome in outcomes {
        found.extend(outcome?);
    }
    found.sort_by_key(|d| (d.file, d.tensor));
    Ok(found)
}

fn first_difference(
    inputs: &Inputs<'_>,
    (file, tensor): (usize, usize),
    there: &[u8],
    place: &Extents,
    buf: &mut [u8],
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<Option<Difference>, EngineError> {
    let wanted = &inputs.plan.outputs[file].tensors[tensor];
    for &(start, range) in place.parts() {
        let mut done = 0;
        while done < range.len() {
            if cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            let len = (range.len() - done).min(buf.len() as u64);
            let ours = &mut buf[..index(len)];
            inputs.fill_tensor(wanted, start + done, ours, &View::default());
            let theirs = &there[index(range.start() + done)..index(range.start() + done + len)];
            if ours != theirs {
                let at = ours.iter().zip(theirs).position(|(a, b)| a != b).unwrap_or(0) as u64;
                return Ok(Some(Difference { file, tensor, at: start + done + at }));
            }
            observer.event(Event::Written { bytes: len });
            done += len;
        }
    }
    Ok(None)
}
