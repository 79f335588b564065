//! The whole run: files made, tasks done by all workers, files finished.

use std::path::Path;
use std::sync::Arc;

use crossbeam::queue::SegQueue;

use super::feed::Feed;
use super::fill::{Inputs, Target};
use super::late::Covered;
use super::part::Part;
use super::pool;
use super::results::{Found, Results, TensorResult};
use super::schedule::{Task, tasks};
use super::share::Clones;
use super::sinks::files::{FileSink, Files};
use super::{CancelToken, Durability, EngineConfig, EngineError, Event, Observer, QuantError, Ways};
use crate::plan::Plan;
use crate::storage::LocalBlob;
use crate::sys::{Dir, HeldFile, OutFile};

/// What a run did.
#[derive(Debug, Default)]
pub struct RunSummary {
    /// The files that were written, in the plan's order.
    pub files: Vec<HeldFile>,
    /// For each output file, what is known of each tensor.
    pub tensors: Vec<Vec<TensorResult>>,
    /// Whether writes went past the page cache.
    pub direct: bool,
    /// Bytes that source and target share on the disk, so that they were read for their sums but not written.
    pub shared: u64,
    /// Which way the bytes went.
    pub ways: Ways,
    /// What quantising did to each matrix; the code that computed it before the run adds it.
    pub quantised: Vec<QuantError>,
}

/// Writes the plan's files below `dir`, which must not hold them yet. They are finished (flushed, closed) but not published.
///
/// # Errors
/// The first thing that failed, on whichever thread. The files may then be there in part.
pub fn run(
    plan: &Plan,
    mappings: &[Arc<LocalBlob>],
    dir: &Dir,
    config: &EngineConfig,
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<RunSummary, EngineError> {
    run_part(&Part::whole(plan), mappings, dir, config, observer, cancel)
}

/// As [`run`], of a part of a plan that other processes write the rest of. A file of which it has a range may be there already.
///
/// # Errors
/// As [`run`].
pub fn run_part(
    part: &Part<'_>,
    mappings: &[Arc<LocalBlob>],
    dir: &Dir,
    config: &EngineConfig,
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<RunSummary, EngineError> {
    let plan = part.plan;
    observer.event(Event::Started { bytes: part.files.iter().map(|file| file.layout().len()).sum() });
    for mapping in mappings {
        mapping.read_through();
    }
    let durable = config.durability == Durability::Synced;
    let files = create(part, dir, config.direct)?;
    // One file system holds them all, so they all allow it or none does.
    let direct = config.direct && !files.is_empty() && files.iter().all(|f| f.direct().is_some());
    let targets: Vec<_> = part.files.iter().map(|file| Target::new(file.tensors(), &file.layout().segments)).collect();
    let covered: Vec<_> = part.files.iter().map(|file| Covered::new(file.layout())).collect();
    let tasks = tasks(plan, &targets, direct, config);
    let clones = if config.reflink { Clones::make(&tasks, &files, mappings, cancel) } else { Clones::default() };
    let shared_bytes = clones.bytes();
    let feed = Feed::new(Inputs { plan, mappings }, &targets, &tasks, config, observer, cancel);
    let sink = Files { out: &files, covered: &covered, direct, clones };
    let outcome =
        pool::run_queues(&feed, "worker", &tasks, &queues(&tasks, direct, config), || FileSink::new(&feed, &sink))?;
    let mut found = Found::default();
    found.ways.read_ahead = outcome.read_ahead;
    outcome.found.into_iter().for_each(|more| found.join(more));
    observer.event(Event::Flushing);
    let mut results = found.results(&feed.inputs, &targets);
    let mut finished = Vec::with_capacity(files.len());
    for (index, (file, output)) in files.into_iter().zip(&part.files).enumerate() {
        for (at, checksum) in output.layout().late() {
            let sum = covered[index].number(checksum.of).map_or(0, |range| results.sums.covered(index, range));
            file.write_plain(&checksum.encode(sum), at)?;
        }
        // The workers are gone, and with them their clones.
        let file = Arc::try_unwrap(file).map_err(|_| EngineError::WorkerPanicked)?;
        finished.push(file.finish(dir, output.layout().len(), durable)?);
        if cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
    }
    let Results { tensors, ways, .. } = results;
    Ok(RunSummary { files: finished, tensors, direct, shared: shared_bytes, ways, quantised: Vec::new() })
}

/// Past the page cache any worker takes the next task; through it each file belongs to one worker, because the kernel lets only
/// one write to a file at a time. The tasks are all known, and small: no feeder is needed, and what is in flight is bounded by the
/// workers' buffers.
fn queues(tasks: &[Task], direct: bool, config: &EngineConfig) -> Vec<SegQueue<usize>> {
    let count = if direct { 1 } else { config.workers.max(1) };
    let queues: Vec<SegQueue<usize>> = (0..count).map(|_| SegQueue::new()).collect();
    for (number, task) in tasks.iter().enumerate() {
        queues[task.file % count].push(number);
    }
    queues
}

/// Makes all files and reserves their space, so that a disk that is too small is found before anything is written.
fn create(part: &Part<'_>, dir: &Dir, direct: bool) -> Result<Vec<Arc<OutFile>>, EngineError> {
    let mut files = Vec::with_capacity(part.files.len());
    for output in &part.files {
        let path = output.path();
        dir.make_above(Path::new(path))?;
        let file = match output.place() {
            Some(part) => OutFile::open_part(dir, path, part, direct)?,
            None => OutFile::create(dir, path, output.layout().len(), direct)?,
        };
        files.push(Arc::new(file));
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
