//! One thread: takes tasks, fills buffers, keeps writes in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::queue::SegQueue;

use super::digest::ChunkSum;
use super::fill::{Inputs, Span, index, overlapping};
use super::pool::BufferPool;
use super::schedule::{From, Task};
use super::sink::Sink;
use super::{CancelToken, EngineConfig, EngineError, Event, Observer};
use crate::formats::{FileLayout, Segment};
use crate::sys::{Completion, FileError, FileOp, IoBuf, OutFile, WriteOp};

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
    let mut sink = Sink::new(config, shared.direct, shared.observer)?;
    let mut pool = BufferPool::new(config.buffers(), index(config.chunk()));
    let mut found = Found::default();
    let mut next: Option<Task> = None;
    loop {
        if shared.cancel.is_cancelled() || shared.failed.load(Ordering::Relaxed) {
            return Err(EngineError::Cancelled);
        }
        next = next.or_else(|| queue.pop());
        let mut submitted = false;
        if let Some(task) = next
            && !sink.is_full()
            && let Some(op) = prepare(shared, &mut pool, &task, &mut found)?
        {
            let path = op.file.path().to_owned();
            sink.submit(op).map_err(|source| FileError { op: FileOp::Write, path, source })?;
            next = None;
            submitted = true;
        }
        if submitted && !sink.is_full() {
            continue;
        }
        match sink.wait().map_err(EngineError::Uring)? {
            Some(completion) => complete(shared, &mut pool, &mut sink, completion)?,
            None if next.is_none() => return Ok(found),
            None => {}
        }
    }
}

/// The write of a task, or `None` when no buffer is free. Sums are taken on the way.
fn prepare(
    shared: &Shared<'_>,
    pool: &mut BufferPool,
    task: &Task,
    found: &mut Found,
) -> Result<Option<WriteOp>, EngineError> {
    let file = Arc::clone(&shared.files[task.file]);
    let plan = shared.inputs.plan;
    let (data, range) = match task.from {
        From::Mapped { source, at } => {
            note_sums(shared, task, shared.inputs.mapped(source, at, task.len), found);
            let data = IoBuf::Mapped(Arc::clone(&shared.inputs.mappings[source]));
            (data, index(at)..index(at + task.len))
        }
        From::Built => {
            let Some(mut buf) = pool.take()? else { return Ok(None) };
            let len = index(task.len);
            let spans = &shared.spans[task.file];
            let overflowed = shared.inputs.fill_file(&plan.outputs[task.file], spans, task.at, &mut buf[..len]);
            found.overflowed.extend(overflowed.into_iter().map(|(tensor, count)| (task.file, tensor, count)));
            note_sums(shared, task, &buf[..len], found);
            // The file's last block is written whole and cut off again when the file is finished.
            let padded = if shared.direct { len.next_multiple_of(index(FileLayout::BLOCK)) } else { len };
            buf[len..padded].fill(0);
            (IoBuf::Owned(buf), 0..padded)
        }
    };
    Ok(Some(WriteOp { file, direct: shared.direct, data, range, at: task.at }))
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

/// Looks at an answer: goes on with a short write, gives the buffer back.
fn complete(
    shared: &Shared<'_>,
    pool: &mut BufferPool,
    sink: &mut Sink,
    completion: Completion,
) -> Result<(), EngineError> {
    let Completion { mut op, result } = completion;
    let failed = |source| FileError { op: FileOp::Write, path: op.file.path().to_owned(), source };
    let left = op.range.len();
    match result {
        Ok(0) => return Err(failed(std::io::ErrorKind::WriteZero.into()).into()),
        Ok(written) if written < left => {
            shared.observer.event(Event::Written { bytes: written as u64 });
            op.range.start += written;
            op.at += written as u64;
            // A rest that is not aligned any more goes through the page cache.
            op.direct &= written.is_multiple_of(index(FileLayout::BLOCK));
            let path = op.file.path().to_owned();
            return sink.submit(op).map_err(|source| FileError { op: FileOp::Write, path, source }.into());
        }
        Ok(_) => {}
        // The kernel refuses this alignment past the page cache.
        Err(e) if op.direct && e.raw_os_error() == Some(libc::EINVAL) => op.file.write_plain(op.bytes(), op.at)?,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::Interrupted | std::io::ErrorKind::WouldBlock) => {
            let path = op.file.path().to_owned();
            return sink.submit(op).map_err(|source| FileError { op: FileOp::Write, path, source }.into());
        }
        Err(e) => return Err(failed(e).into()),
    }
    shared.observer.event(Event::Written { bytes: left as u64 });
    match op.data {
        IoBuf::Owned(buf) => pool.give_back(buf),
        IoBuf::Mapped(mapping) => mapping.release(op.range.start as u64, left as u64),
    }
    Ok(())
}
