//! One thread: takes tasks, fills buffers, keeps writes in flight.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::queue::SegQueue;

use super::digest::ChunkSum;
use super::fill::{Inputs, Span, index, overlapping};
use super::pool::BufferPool;
use super::schedule::{From, Task};
use super::share::Clones;
use super::sink::Sink;
use super::{CancelToken, EngineConfig, EngineError, Event, Observer};
use crate::formats::{FileLayout, Segment};
use crate::sys::{Completion, FileError, FileOp, IoBuf, IoOp, OutFile, ReadOp, WriteOp};

/// What all workers share.
pub(super) struct Shared<'a> {
    pub inputs: Inputs<'a>,
    pub spans: &'a [Vec<Span<'a>>],
    pub files: &'a [Arc<OutFile>],
    pub config: &'a EngineConfig,
    pub observer: &'a dyn Observer,
    pub cancel: &'a CancelToken,
    /// Set by a worker that failed, so that the others stop too.
    pub failed: AtomicBool,
    /// Whether writes go past the page cache.
    pub direct: bool,
    /// What is in place already, and only summed.
    pub clones: Clones,
}

/// What a worker found out.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub sums: Vec<ChunkSum>,
    /// (file, tensor, values that overflowed)
    pub overflowed: Vec<(usize, usize, u64)>,
}

/// Does tasks until the queue is empty, somebody cancels, or something fails.
pub(super) fn work(shared: &Shared<'_>, queue: &SegQueue<Task>) -> Result<Found, EngineError> {
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
        if shared.cancel.is_cancelled() || shared.failed.load(Ordering::Relaxed) {
            return Err(EngineError::Cancelled);
        }
        let mut submitted = false;
        if !worker.sink.is_full() {
            if worker.pieces.is_empty()
                && let Some(task) = queue.pop()
            {
                worker.take(task);
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
    /// From the mapping, or put together in a buffer.
    Ready(Task),
    /// Read to a buffer first. Two copies by the disk's own engine are cheaper than one page fault after the other.
    Cold { task: Task, source: usize, at: u64 },
}

impl Worker<'_> {
    /// Looks where the bytes of a task are, and cuts it if they must be read to buffers first.
    fn take(&mut self, task: Task) {
        let From::Mapped { source, at } = task.from else { return self.pieces.push_back(Step::Ready(task)) };
        let mapping = &self.shared.inputs.mappings[source];
        if !mapping.is_read(at, task.len, FileLayout::BLOCK) {
            return self.pieces.push_back(Step::Ready(task));
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
            Step::Ready(task) => match self.write_of(&task)? {
                Some(op) => IoOp::Write(op),
                None => return Ok(None),
            },
        };
        self.pieces.pop_front();
        Ok(Some(op))
    }

    /// Sums what is in place already and comes from the mapping; there is nothing to write.
    fn sum_shared(&mut self) {
        while let Some(&Step::Ready(task)) = self.pieces.front()
            && let From::Mapped { source, at } = task.from
            && self.shared.clones.hold(&task)
        {
            note_sums(self.shared, &task, self.shared.inputs.mapped(source, at, task.len), &mut self.found);
            self.shared.inputs.mappings[source].release(at, task.len);
            self.shared.observer.event(Event::Written { bytes: task.len });
            self.pieces.pop_front();
        }
    }

    /// The write of a task, or `None` when no buffer is free. Sums are taken on the way.
    fn write_of(&mut self, task: &Task) -> Result<Option<WriteOp>, EngineError> {
        let shared = self.shared;
        let (data, range) = match task.from {
            From::Mapped { source, at } => {
                note_sums(shared, task, shared.inputs.mapped(source, at, task.len), &mut self.found);
                let data = IoBuf::Mapped(Arc::clone(&shared.inputs.mappings[source]));
                (data, index(at)..index(at + task.len))
            }
            From::Built => {
                let Some(mut buf) = self.pool.take()? else { return Ok(None) };
                let len = index(task.len);
                let output = &shared.inputs.plan.outputs[task.file];
                let spans = &shared.spans[task.file];
                let overflowed = shared.inputs.fill_file(output, spans, task.at, &mut buf[..len]);
                let of_file = overflowed.into_iter().map(|(tensor, count)| (task.file, tensor, count));
                self.found.overflowed.extend(of_file);
                note_sums(shared, task, &buf[..len], &mut self.found);
                // The file's last block is written whole and cut off again when the file is finished.
                let padded = if shared.direct { len.next_multiple_of(index(FileLayout::BLOCK)) } else { len };
                buf[len..padded].fill(0);
                (IoBuf::Owned(buf), 0..padded)
            }
        };
        let file = Arc::clone(&shared.files[task.file]);
        Ok(Some(WriteOp { file, direct: shared.direct, data, range, at: task.at }))
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
        let file = Arc::clone(&self.shared.files[task.file]);
        let data = IoBuf::Owned(into);
        self.submit(IoOp::Write(WriteOp { file, direct: self.shared.direct, data, range: 0..len, at: task.at }))
    }

    /// Looks at an answer: goes on with a short write, gives the buffer back.
    fn written(&mut self, mut op: WriteOp, result: std::io::Result<usize>) -> Result<(), EngineError> {
        let observer = self.shared.observer;
        let failed = |source| FileError { op: FileOp::Write, path: op.file.path().to_owned(), source };
        let left = op.range.len();
        match result {
            Ok(0) => return Err(failed(std::io::ErrorKind::WriteZero.into()).into()),
            Ok(written) if written < left => {
                observer.event(Event::Written { bytes: written as u64 });
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
            Err(e) => return Err(failed(e).into()),
        }
        observer.event(Event::Written { bytes: left as u64 });
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

/// Sums of the parts of a chunk, tensor by tensor, and of the file where it carries a CRC.
fn note_sums(shared: &Shared<'_>, task: &Task, bytes: &[u8], found: &mut Found) {
    for span in overlapping(&shared.spans[task.file], task.at, task.len) {
        let Segment::Data { tensor, range } = span.segment else { continue };
        let (from, to) = (task.at.max(span.at), (task.at + task.len).min(span.at + span.segment.len()));
        let part = &bytes[index(from - task.at)..index(to - task.at)];
        found.sums.push(ChunkSum::of_tensor(task.file, *tensor, range.start() + (from - span.at), part));
    }
    let file = &shared.inputs.plan.outputs[task.file];
    if file.crc {
        let covered = file.layout.len() - crate::plan::CRC_TRAILER.min(file.layout.len());
        let len = covered.saturating_sub(task.at).min(task.len);
        found.sums.push(ChunkSum::of_file(task.file, task.at, &bytes[..index(len)]));
    }
}
