//! The whole run: files made, tasks done by all workers, files finished.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::Scope;

use crossbeam::queue::SegQueue;

use super::digest::{Crc64, Sums};
use super::fill::{Inputs, spans};
use super::late::Covered;
use super::reader::read_ahead;
use super::schedule::{From, Task, tasks};
use super::share::Clones;
use super::thread::{Started, join};
use super::values::{Values, of_fragments};
use super::windows::Windows;
use super::worker::{Found, Shared, work};
use super::{CancelToken, Durability, EngineConfig, EngineError, Event, Observer, QuantError, Ways};
use crate::plan::Plan;
use crate::sys::{Dir, FilePart, HeldFile, Mapping, OutFile, spawn_scoped};

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
    /// What quantising did to each matrix; whoever computed it before the run adds it.
    pub quantised: Vec<QuantError>,
}

/// What is known of a written tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorResult {
    /// The checksum of its bytes.
    pub sum: Crc64,
    /// Finite values that became infinite.
    pub overflowed: u64,
    /// What is remarkable about its values.
    pub values: Values,
}

/// Writes the plan's files below `dir`, which must not hold them yet. They are finished (flushed, closed) but not published.
///
/// # Errors
/// The first thing that failed, on whichever thread. The files may then be there in part.
pub fn run(
    plan: &Plan,
    mappings: &[Arc<Mapping>],
    dir: &Dir,
    config: &EngineConfig,
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<RunSummary, EngineError> {
    run_parts(plan, &[], mappings, dir, config, observer, cancel)
}

/// As [`run`], where the plan's outputs may be parts of files that other processes write the rest of. `parts`: for each output
/// whether it is one, and which; empty: none is. A part begins at a whole block and its file may be there already; no file that
/// is written in parts holds a checksum of its own bytes.
///
/// # Errors
/// As [`run`].
pub fn run_parts(
    plan: &Plan,
    parts: &[Option<FilePart>],
    mappings: &[Arc<Mapping>],
    dir: &Dir,
    config: &EngineConfig,
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<RunSummary, EngineError> {
    observer.event(Event::Started { bytes: plan.outputs.iter().map(|file| file.layout.len()).sum() });
    for mapping in mappings {
        mapping.read_through();
    }
    let durable = config.durability == Durability::Synced;
    let files = create(plan, parts, dir, config.direct)?;
    // One file system holds them all, so they all allow it or none does.
    let direct = config.direct && !files.is_empty() && files.iter().all(|f| f.direct().is_some());
    let spans: Vec<_> = plan.outputs.iter().map(spans).collect();
    let covered: Vec<_> = plan.outputs.iter().map(|file| Covered::new(&file.layout)).collect();
    let tasks = tasks(plan, &spans, direct, config);
    let clones = if config.reflink { Clones::make(&tasks, &files, mappings, cancel) } else { Clones::default() };
    let shared_bytes = clones.bytes();
    let shared = Shared {
        inputs: Inputs { plan, mappings },
        spans: &spans,
        files: &files,
        covered: &covered,
        config,
        observer,
        cancel,
        failed: AtomicBool::new(false),
        direct,
        clones,
        windows: windows(plan, mappings, &tasks, config),
        gathered: AtomicU64::new(0),
    };
    let found = on_all_threads(&shared, &tasks);
    Mapping::check_all(mappings)?;
    let found = found?;
    observer.event(Event::Flushing);
    let mut sums = Sums::new(found.sums);
    let mut finished = Vec::with_capacity(files.len());
    for (index, (file, output)) in files.into_iter().zip(&plan.outputs).enumerate() {
        let len = output.layout.len();
        for (at, checksum) in output.layout.late() {
            let sum = covered[index].number(checksum.of).map_or(0, |range| sums.covered(index, range));
            file.write_plain(&checksum.encode(sum), at)?;
        }
        // The workers are gone, and with them their clones.
        let file = Arc::try_unwrap(file).map_err(|_| EngineError::WorkerPanicked)?;
        finished.push(file.finish(dir, len, durable)?);
        if cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
    }
    let mut overflowed: HashMap<(usize, usize), u64> = HashMap::new();
    for (file, tensor, count) in found.overflowed {
        *overflowed.entry((file, tensor)).or_default() += count;
    }
    let mut values = found.values;
    for (tensor, more) in of_fragments(&Inputs { plan, mappings }, found.fragments) {
        *values.entry(tensor).or_default() += more;
    }
    let mut result = |file, tensor| TensorResult {
        sum: sums.tensor(file, tensor),
        overflowed: overflowed.get(&(file, tensor)).copied().unwrap_or(0),
        values: values.get(&(file, tensor)).copied().unwrap_or_default(),
    };
    let tensors = plan.outputs.iter().enumerate();
    let tensors = tensors.map(|(file, output)| (0..output.tensors.len()).map(|t| result(file, t)).collect()).collect();
    Ok(RunSummary { files: finished, tensors, direct, shared: shared_bytes, ways: found.ways, quantised: Vec::new() })
}

/// Makes all files and reserves their room, so that a disk that is too small is found before anything is written.
fn create(plan: &Plan, parts: &[Option<FilePart>], dir: &Dir, direct: bool) -> Result<Vec<Arc<OutFile>>, EngineError> {
    let mut files = Vec::with_capacity(plan.outputs.len());
    for (index, output) in plan.outputs.iter().enumerate() {
        let path = output.path.as_str();
        dir.make_above(Path::new(path))?;
        let file = match parts.get(index).copied().flatten() {
            Some(part) => OutFile::open_part(dir, path, part, direct)?,
            None => OutFile::create(dir, path, output.layout.len(), direct)?,
        };
        files.push(Arc::new(file));
    }
    Ok(files)
}

/// The windows to read ahead, where sources are to be read and something is put together at all.
pub(super) fn windows(
    plan: &Plan,
    mappings: &[Arc<Mapping>],
    tasks: &[Task],
    config: &EngineConfig,
) -> Option<Windows> {
    // The thread that reads ahead costs something, though it finds nothing to read.
    if !config.read_ahead
        || mappings.iter().all(|m| m.is_at_hand())
        || !tasks.iter().any(|task| task.from == From::Built)
    {
        return None;
    }
    // How many files one tensor is put together from, at most.
    let sources = plan.outputs.iter().flat_map(|file| &file.tensors).map(|tensor| {
        let mut files: Vec<usize> = tensor.routes.iter().map(|route| plan.stored(route).file.index()).collect();
        files.sort_unstable();
        files.dedup();
        files.len()
    });
    let bytes = config.window(sources.max().unwrap_or(0));
    let capacity = usize::try_from(config.window_budget() / bytes).unwrap_or(0);
    Some(Windows::new(capacity, bytes))
}

/// Makes everybody stop when its thread panics: they may be waiting for it.
struct Alarm<'a, 'b>(&'a Shared<'b>);

impl Drop for Alarm<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail();
        }
    }
}

/// Starts a thread. When it cannot be started, fails or panics, all others stop.
pub(super) fn start<'scope, 'a: 'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    shared: &'scope Shared<'a>,
    name: &'static str,
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'scope,
) -> Started<'scope, T> {
    let watched = move || {
        let _alarm = Alarm(shared);
        work().inspect_err(|_| shared.fail())
    };
    spawn_scoped(scope, name, watched).inspect_err(|_| shared.fail())
}

/// Runs the tasks. Past the page cache any worker takes the next task; through it each file belongs to one worker, because
/// the kernel lets only one write to a file at a time.
fn on_all_threads(shared: &Shared<'_>, tasks: &[Task]) -> Result<Found, EngineError> {
    let workers = shared.config.workers.max(1);
    let queue_of = |task: &Task| if shared.direct { 0 } else { task.file % workers };
    let queues = if shared.direct { 1 } else { workers };
    // The tasks are all known, and small: no feeder is needed, and what is in flight is bounded by the workers' buffers.
    let queues: Vec<SegQueue<usize>> = (0..queues).map(|_| SegQueue::new()).collect();
    for (number, task) in tasks.iter().enumerate() {
        queues[queue_of(task)].push(number);
    }
    let outcomes: Vec<Result<Found, EngineError>> = std::thread::scope(|scope| {
        let reader = shared.windows.as_ref().map(|windows| {
            start(scope, shared, "reader", move || {
                let read = read_ahead(shared, tasks, windows)?;
                Ok(Found { ways: Ways { read_ahead: read, ..Ways::default() }, ..Found::default() })
            })
        });
        let workers = (0..workers).map(|worker| {
            let queue = &queues[worker % queues.len()];
            start(scope, shared, "worker", move || work(shared, tasks, queue))
        });
        let threads: Vec<_> = reader.into_iter().chain(workers).collect();
        threads.into_iter().map(join).collect()
    });
    let mut all = Found::default();
    let mut failure = None;
    for outcome in outcomes {
        match outcome {
            Ok(found) => {
                all.sums.extend(found.sums);
                all.overflowed.extend(found.overflowed);
                for (tensor, values) in found.values {
                    *all.values.entry(tensor).or_default() += values;
                }
                all.fragments.extend(found.fragments);
                all.ways += found.ways;
            }
            // The others stop because one failed: its reason counts.
            Err(e) if failure.is_none() || matches!(failure, Some(EngineError::Cancelled)) => failure = Some(e),
            Err(_) => {}
        }
    }
    failure.map_or(Ok(all), Err)
}

#[cfg(test)]
mod tests;
