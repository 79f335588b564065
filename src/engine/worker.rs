//! One thread: takes tasks, fills buffers, keeps writes in flight.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam::queue::SegQueue;

use super::digest::{ChunkSum, TensorSum};
use super::fill::{Inputs, Span, overlapping};
use super::late::Covered;
use super::pool::BufferPool;
use super::schedule::{From, Task};
use super::share::Clones;
use super::sink::Sink;
use super::values::{Fragment, Values, of_chunk};
use super::view::View;
use super::windows::{Staged, Windows};
use super::{CancelToken, EngineConfig, EngineError, Event, Observer, Ways};
use crate::formats::{FileLayout, Segment};
use crate::source::index;
use crate::sys::{AlignedBuf, Completion, FileError, FileOp, IoBuf, IoOp, OutFile, ReadOp, WriteOp};

/// What all workers share.
pub(super) struct Shared<'a> {
    pub inputs: Inputs<'a>,
    pub spans: &'a [Vec<Span<'a>>],
    pub files: &'a [Arc<OutFile>],
    /// What the checksums of each file cover.
    pub covered: &'a [Covered],
    pub config: &'a EngineConfig,
    pub observer: &'a dyn Observer,
    pub cancel: &'a CancelToken,
    /// Set by a worker that failed, so that the others stop too.
    pub failed: AtomicBool,
    /// Whether writes go past the page cache.
    pub direct: bool,
    /// What is in place already, and only summed.
    pub clones: Clones,
    /// What is read ahead of gathers, if anything is.
    pub windows: Option<Windows>,
    /// Source bytes that gathers took from mappings.
    pub gathered: AtomicU64,
}

/// Pages that gathers read are let go whenever so many bytes were read, so that they do not make up the whole model. Letting
/// go of all mappings each time costs less than to follow which rows of which page everybody is done with.
const GATHERED_AT_MOST: u64 = 256 << 20;

impl Shared<'_> {
    /// Whether somebody cancelled or something failed, a read of a mapping included: whoever waits for the threads says of what.
    pub(super) fn is_over(&self) -> bool {
        self.cancel.is_cancelled()
            || self.failed.load(Ordering::Relaxed)
            || self.inputs.mappings.iter().any(|mapping| mapping.has_failed())
    }

    /// Makes everybody stop.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
        if let Some(windows) = &self.windows {
            windows.wake();
        }
    }

    /// Takes notice of source bytes that were read from mappings.
    fn gathered(&self, bytes: u64) {
        let before = self.gathered.fetch_add(bytes, Ordering::Relaxed);
        if before / GATHERED_AT_MOST == (before + bytes) / GATHERED_AT_MOST {
            return;
        }
        for mapping in self.inputs.mappings {
            // What is still needed is in the page cache.
            mapping.release(0, mapping.len() as u64);
        }
    }
}

/// What a worker found out.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub sums: Vec<ChunkSum>,
    /// (file, tensor, values that overflowed)
    pub overflowed: Vec<(usize, usize, u64)>,
    /// By file and tensor, what is remarkable about the values.
    pub values: HashMap<(usize, usize), Values>,
    /// What of that is of elements that chunks cut.
    pub fragments: Vec<Fragment>,
    pub ways: Ways,
}

/// Does the tasks whose numbers are in the queue until it is empty, somebody cancels, or something fails.
pub(super) fn work(shared: &Shared<'_>, tasks: &[Task], queue: &SegQueue<usize>) -> Result<Found, EngineError> {
    let config = shared.config;
    let mut worker = Worker {
        shared,
        sink: Sink::new(config, shared.direct, shared.observer)?,
        pool: BufferPool::new(config.buffers(), index(config.chunk())),
        found: Found::default(),
        pieces: VecDeque::new(),
        reading: HashMap::new(),
        reads: 0,
    };
    loop {
        if shared.is_over() {
            return Err(EngineError::Cancelled);
        }
        let mut submitted = false;
        if !worker.sink.is_full() {
            if worker.pieces.is_empty()
                && let Some(number) = queue.pop()
            {
                worker.take(number, tasks[number]);
            }
            if let Some(op) = worker.prepare()? {
                worker.submit(op)?;
                submitted = true;
            }
        }
        if submitted && !worker.sink.is_full() {
            continue;
        }
        match worker.sink.wait().map_err(EngineError::Uring)? {
            Some(Completion { op: IoOp::Write(op), result }) => worker.written(op, result)?,
            Some(Completion { op: IoOp::Read(op), result }) => worker.read(op, &result)?,
            None if worker.pieces.is_empty() && queue.is_empty() => return Ok(worker.found),
            None => {}
        }
    }
}

struct Worker<'a> {
    shared: &'a Shared<'a>,
    sink: Sink,
    pool: BufferPool,
    found: Found,
    /// What is to be done next: a task, or the pieces of one.
    pieces: VecDeque<Step>,
    /// What is being read, by the number of the read.
    reading: HashMap<u64, Task>,
    reads: u64,
}

/// A task, or a part of one, and how its bytes are had.
#[derive(Clone, Copy)]
enum Step {
    /// From the mapping.
    Mapped { task: Task, source: usize, at: u64 },
    /// Put together in a buffer, when the windows of the task with this number are there.
    Built { task: Task, number: usize },
    /// Read to a buffer first. Two copies by the disk's own engine are cheaper than one page fault after the other.
    Cold { task: Task, source: usize, at: u64 },
}

impl<'a> Worker<'a> {
    /// Looks where the bytes of a task are, and cuts it if they must be read to buffers first.
    fn take(&mut self, number: usize, task: Task) {
        let From::Mapped { source, at } = task.from else {
            return self.pieces.push_back(Step::Built { task, number });
        };
        let mapping = &self.shared.inputs.mappings[source];
        if !mapping.is_read(at, task.len, FileLayout::BLOCK) {
            return self.pieces.push_back(Step::Mapped { task, source, at });
        }
        let chunk = self.shared.config.chunk();
        let mut done = 0;
        while done < task.len {
            let len = chunk.min(task.len - done);
            let from = From::Mapped { source, at: at + done };
            let part = Task { at: task.at + done, len, from, ..task };
            self.pieces.push_back(Step::Cold { task: part, source, at: at + done });
            done += len;
        }
    }

    /// The next operation, or `None` when there is nothing to do or no buffer is free.
    fn prepare(&mut self) -> Result<Option<IoOp>, EngineError> {
        self.sum_shared();
        let Some(&piece) = self.pieces.front() else { return Ok(None) };
        let op = match piece {
            Step::Cold { task, source, at } => {
                let Some(into) = self.pool.take()? else { return Ok(None) };
                let source = Arc::clone(&self.shared.inputs.mappings[source]);
                self.reads += 1;
                self.reading.insert(self.reads, task);
                IoOp::Read(ReadOp { source, into, len: index(task.len), at, tag: self.reads })
            }
            Step::Mapped { task, source, at } => IoOp::Write(self.write_mapped(&task, source, at)),
            Step::Built { task, number } => {
                let Some(buf) = self.pool.take()? else { return Ok(None) };
                let Some(staged) = self.staged(number)? else {
                    self.pool.give_back(buf);
                    return Ok(None);
                };
                IoOp::Write(self.build(&task, &staged, buf))
            }
        };
        self.pieces.pop_front();
        Ok(Some(op))
    }

    /// Sums what is in place already and comes from the mapping; there is nothing to write.
    fn sum_shared(&mut self) {
        while let Some(&Step::Mapped { task, source, at }) = self.pieces.front()
            && self.shared.clones.hold(&task)
        {
            note_sums(self.shared, &task, self.shared.inputs.mapped(source, at, task.len), &mut self.found);
            self.shared.inputs.mappings[source].release(at, task.len);
            self.shared.observer.event(Event::Written { bytes: task.len });
            self.pieces.pop_front();
        }
    }

    /// The windows of a task that is to be put together. `None`: they are not there yet, but there are writes to wait for.
    fn staged(&self, number: usize) -> Result<Option<Staged<'a>>, EngineError> {
        let shared = self.shared;
        let Some(windows) = &shared.windows else { return Ok(Some(Staged::none())) };
        match windows.poll(number) {
            None if self.sink.is_idle() => {
                windows.wait(number, || shared.is_over()).map(Some).ok_or(EngineError::Cancelled)
            }
            staged => Ok(staged),
        }
    }

    /// The write of a task from a mapping. Sums are taken on the way.
    fn write_mapped(&mut self, task: &Task, source: usize, at: u64) -> WriteOp {
        let shared = self.shared;
        note_sums(shared, task, shared.inputs.mapped(source, at, task.len), &mut self.found);
        self.found.ways.mapped += task.len;
        let file = Arc::clone(&shared.files[task.file]);
        let base = file.base();
        let data = IoBuf::Mapped(Arc::clone(&shared.inputs.mappings[source]));
        WriteOp { file, direct: shared.direct, data, range: index(at)..index(at + task.len), at: base + task.at }
    }

    /// Puts a task together. Sums are taken on the way.
    fn build(&mut self, task: &Task, staged: &Staged<'_>, mut buf: AlignedBuf) -> WriteOp {
        let shared = self.shared;
        let len = index(task.len);
        let output = &shared.inputs.plan.outputs[task.file];
        let view = View::new(staged.windows());
        let overflowed = shared.inputs.fill_file(output, &shared.spans[task.file], task.at, &mut buf[..len], &view);
        shared.gathered(view.from_mappings.get());
        let converted = view.converted.get();
        self.found.ways += Ways {
            gathered: task.len - converted,
            converted,
            from_read_ahead: view.from_windows.get(),
            ..Ways::default()
        };
        let of_file = overflowed.into_iter().map(|(tensor, count)| (task.file, tensor, count));
        self.found.overflowed.extend(of_file);
        note_sums(shared, task, &buf[..len], &mut self.found);
        // The file's last block is written whole and cut off again when the file is finished.
        let padded = if shared.direct { len.next_multiple_of(index(FileLayout::BLOCK)) } else { len };
        buf[len..padded].fill(0);
        let file = Arc::clone(&shared.files[task.file]);
        let at = file.base() + task.at;
        WriteOp { file, direct: shared.direct, data: IoBuf::Owned(buf), range: 0..padded, at }
    }

    fn submit(&mut self, op: IoOp) -> Result<(), EngineError> {
        let (path, what) = match &op {
            IoOp::Write(op) => (op.file.path().to_owned(), FileOp::Write),
            IoOp::Read(op) => (op.source.path().to_owned(), FileOp::Read),
        };
        self.sink.submit(op).map_err(|source| FileError { op: what, path, source }.into())
    }

    /// A buffer was read: on it goes to the target. What the kernel did not read (it may refuse an alignment, or stop short) is
    /// taken from the mapping.
    fn read(&mut self, op: ReadOp, result: &std::io::Result<usize>) -> Result<(), EngineError> {
        let ReadOp { source, mut into, len, at, tag } = op;
        let task = self.reading.remove(&tag).ok_or(EngineError::WorkerPanicked)?;
        let done = result.as_ref().map_or(0, |read| *read).min(len);
        let rest = index(at) + done..index(at) + len;
        into[done..len].copy_from_slice(&source[rest]);
        note_sums(self.shared, &task, &into[..len], &mut self.found);
        if self.shared.clones.hold(&task) {
            self.shared.observer.event(Event::Written { bytes: task.len });
            self.pool.give_back(into);
            return Ok(());
        }
        self.found.ways += Ways { past_cache: done as u64, gathered: (len - done) as u64, ..Ways::default() };
        let file = Arc::clone(&self.shared.files[task.file]);
        let data = IoBuf::Owned(into);
        let at = file.base() + task.at;
        self.submit(IoOp::Write(WriteOp { file, direct: self.shared.direct, data, range: 0..len, at }))
    }

    /// Looks at an answer: goes on with a short write, gives the buffer back.
    fn written(&mut self, mut op: WriteOp, result: std::io::Result<usize>) -> Result<(), EngineError> {
        let observer = self.shared.observer;
        let failed = |source| FileError { op: FileOp::Write, path: op.file.path().to_owned(), source };
        let left = op.range.len();
        match result {
            Ok(0) => return Err(failed(std::io::ErrorKind::WriteZero.into()).into()),
            Ok(written) if written < left => {
                observer.event(Event::Written { bytes: op.file.own_bytes(op.at, written as u64) });
                op.range.start += written;
                op.at += written as u64;
                // A rest that is not aligned any more goes through the page cache.
                op.direct &= written.is_multiple_of(index(FileLayout::BLOCK));
                return self.submit(IoOp::Write(op));
            }
            Ok(_) => {}
            // The kernel refuses this alignment past the page cache.
            Err(e) if op.direct && e.raw_os_error() == Some(libc::EINVAL) => op.file.write_plain(op.bytes(), op.at)?,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::Interrupted | std::io::ErrorKind::WouldBlock) => {
                return self.submit(IoOp::Write(op));
            }
            // The kernel could not read what it was to write.
            Err(e) if e.raw_os_error() == Some(libc::EFAULT) && matches!(op.data, IoBuf::Mapped(_)) => {
                op.file.write_copied(op.bytes(), op.at)?;
            }
            Err(e) => return Err(failed(e).into()),
        }
        observer.event(Event::Written { bytes: op.file.own_bytes(op.at, left as u64) });
        match op.data {
            IoBuf::Owned(buf) => self.pool.give_back(buf),
            IoBuf::Mapped(mapping) => {
                // All of the task, also where it was written in steps: pages let go in small pieces cost more than the copy.
                let from = op.range.end.saturating_sub(index(self.shared.config.largest_chunk));
                mapping.release(from as u64, (op.range.end - from) as u64);
            }
        }
        Ok(())
    }
}

/// Sums of the parts of a chunk, tensor by tensor, and of what the file's own checksums cover.
fn note_sums(shared: &Shared<'_>, task: &Task, bytes: &[u8], found: &mut Found) {
    for span in overlapping(&shared.spans[task.file], task.at, task.len) {
        let Segment::Data { tensor, range } = span.segment else { continue };
        let (from, to) = (task.at.max(span.at), (task.at + task.len).min(span.at + span.segment.len()));
        let part = &bytes[index(from - task.at)..index(to - task.at)];
        let at = range.start() + (from - span.at);
        let key = (task.file, *tensor);
        let dtype = shared.inputs.plan.outputs[task.file].tensors[*tensor].dtype;
        let mut sum = TensorSum::new(task.file, *tensor, at);
        *found.values.entry(key).or_default() +=
            of_chunk(dtype, key, at, part, &mut found.fragments, |bytes| sum.add(bytes));
        found.sums.push(sum.finish());
    }
    for (range, from, to) in shared.covered[task.file].within(task.at, task.len) {
        let part = &bytes[index(from - task.at)..index(to - task.at)];
        found.sums.push(ChunkSum::covered(task.file, range, from, part));
    }
}
