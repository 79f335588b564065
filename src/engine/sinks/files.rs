//! Chunks written to files: direct, through the page cache, by `io_uring`, or not at all where blocks are shared.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::engine::buffers::BufferPool;
use crate::engine::feed::{Chunk, Feed};
use crate::engine::io::Io;
use crate::engine::late::Covered;
use crate::engine::results::Found;
use crate::engine::schedule::{From, Task};
use crate::engine::share::Clones;
use crate::engine::sink::Sink;
use crate::engine::{EngineError, Event, Ways};
use crate::formats::FileLayout;
use crate::source::index;
use crate::sys::{Completion, FileError, FileOp, IoBuf, IoOp, OutFile, ReadOp, WriteOp};

/// The files of a run.
pub(in crate::engine) struct Files<'a> {
    pub out: &'a [Arc<OutFile>],
    /// What the checksums of each file cover.
    pub covered: &'a [Covered],
    /// Whether writes go past the page cache.
    pub direct: bool,
    /// What is in place already, and only summed.
    pub clones: Clones,
}

/// One worker's reads and writes.
pub(in crate::engine) struct FileSink<'a> {
    feed: &'a Feed<'a>,
    files: &'a Files<'a>,
    io: Io,
    pool: BufferPool,
    found: Found,
    /// Runs that are to be written, or the pieces of one.
    pieces: VecDeque<Step>,
    /// What is being read, by the number of the read.
    reading: HashMap<u64, Task>,
    reads: u64,
}

/// A run, or a part of one, and how its bytes are had.
#[derive(Clone, Copy)]
struct Step {
    task: Task,
    source: usize,
    at: u64,
    /// Read to a buffer first. Two copies by the disk's own engine are cheaper than one page fault after the other.
    cold: bool,
}

impl<'a> FileSink<'a> {
    /// Must be called on the worker's own thread.
    pub(in crate::engine) fn new(feed: &'a Feed<'a>, files: &'a Files<'a>) -> Result<Self, EngineError> {
        Ok(Self {
            feed,
            files,
            io: Io::new(feed.config, files.direct, feed.observer)?,
            pool: BufferPool::new(feed.config.buffers(), index(feed.config.chunk())),
            found: Found::default(),
            pieces: VecDeque::new(),
            reading: HashMap::new(),
            reads: 0,
        })
    }

    /// The bytes of a run, mapped.
    fn mapped(&self, source: usize, at: u64, len: u64) -> &'a [u8] {
        let feed: &'a Feed<'a> = self.feed;
        &feed.inputs.mappings[source][index(at)..index(at + len)]
    }

    fn note(&mut self, task: &Task, bytes: &[u8]) {
        self.found.note(&self.feed.targets[task.file], &self.files.covered[task.file], task, bytes);
    }

    /// Sums what is in place already and comes from the mapping; there is nothing to write.
    fn sum_shared(&mut self) {
        while let Some(&Step { task, source, at, cold: false }) = self.pieces.front()
            && self.files.clones.hold(&task)
        {
            self.note(&task, self.mapped(source, at, task.len));
            self.feed.inputs.mappings[source].release(at, task.len);
            self.feed.observer.event(Event::Written { bytes: task.len });
            self.pieces.pop_front();
        }
    }

    /// The write of a task from a mapping. Sums are taken on the way.
    fn write_mapped(&mut self, task: &Task, source: usize, at: u64) -> WriteOp {
        self.note(task, self.mapped(source, at, task.len));
        self.found.ways.mapped += task.len;
        let file = Arc::clone(&self.files.out[task.file]);
        let base = file.base();
        let data = IoBuf::Mapped(Arc::clone(&self.feed.inputs.mappings[source]));
        WriteOp { file, direct: self.files.direct, data, range: index(at)..index(at + task.len), at: base + task.at }
    }

    fn submit(&mut self, op: IoOp) -> Result<(), EngineError> {
        let (path, what) = match &op {
            IoOp::Write(op) => (op.file.path().to_owned(), FileOp::Write),
            IoOp::Read(op) => (op.source.path().to_owned(), FileOp::Read),
        };
        self.io.submit(op).map_err(|source| FileError { op: what, path, source }.into())
    }

    /// A buffer was read: on it goes to the target. What the kernel did not read (it may refuse an alignment, or stop short) is
    /// taken from the mapping.
    fn read(&mut self, op: ReadOp, result: &std::io::Result<usize>) -> Result<(), EngineError> {
        let ReadOp { source, mut into, len, at, tag } = op;
        let task = self.reading.remove(&tag).ok_or(EngineError::WorkerPanicked)?;
        let done = result.as_ref().map_or(0, |read| *read).min(len);
        let rest = index(at) + done..index(at) + len;
        into[done..len].copy_from_slice(&source[rest]);
        self.note(&task, &into[..len]);
        if self.files.clones.hold(&task) {
            self.feed.observer.event(Event::Written { bytes: task.len });
            self.pool.give_back(into);
            return Ok(());
        }
        self.found.ways += Ways { past_cache: done as u64, gathered: (len - done) as u64, ..Ways::default() };
        let file = Arc::clone(&self.files.out[task.file]);
        let data = IoBuf::Owned(into);
        let at = file.base() + task.at;
        self.submit(IoOp::Write(WriteOp { file, direct: self.files.direct, data, range: 0..len, at }))
    }

    /// Handles a completion: goes on with a short write, gives the buffer back.
    fn written(&mut self, mut op: WriteOp, result: std::io::Result<usize>) -> Result<(), EngineError> {
        let observer = self.feed.observer;
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
                let from = op.range.end.saturating_sub(index(self.feed.config.largest_chunk));
                mapping.release(from as u64, (op.range.end - from) as u64);
            }
        }
        Ok(())
    }
}

impl Sink for FileSink<'_> {
    type Found = Found;

    /// Looks where the bytes of a run are, and cuts it if they must be read to buffers first.
    fn run(&mut self, task: &Task, source: usize, at: u64) -> bool {
        let mapping = &self.feed.inputs.mappings[source];
        if !mapping.is_read(at, task.len, FileLayout::BLOCK) {
            self.pieces.push_back(Step { task: *task, source, at, cold: false });
            return true;
        }
        let chunk = self.feed.config.chunk();
        let mut done = 0;
        while done < task.len {
            let len = chunk.min(task.len - done);
            let from = From::Mapped { source, at: at + done };
            let part = Task { at: task.at + done, len, from, ..*task };
            self.pieces.push_back(Step { task: part, source, at: at + done, cold: true });
            done += len;
        }
        true
    }

    fn go_on(&mut self) -> Result<bool, EngineError> {
        self.sum_shared();
        let Some(&Step { task, source, at, cold }) = self.pieces.front() else { return Ok(false) };
        let op = if cold {
            let Some(into) = self.pool.take()? else { return Ok(false) };
            let source = Arc::clone(&self.feed.inputs.mappings[source]);
            self.reads += 1;
            self.reading.insert(self.reads, task);
            IoOp::Read(ReadOp { source, into, len: index(task.len), at, tag: self.reads })
        } else {
            IoOp::Write(self.write_mapped(&task, source, at))
        };
        self.pieces.pop_front();
        self.submit(op)?;
        Ok(true)
    }

    fn is_ready(&self) -> bool {
        self.pieces.is_empty()
    }

    fn has_room(&self) -> bool {
        self.pool.has_room()
    }

    fn is_full(&self) -> bool {
        self.io.is_full()
    }

    fn is_idle(&self) -> bool {
        self.io.is_idle()
    }

    /// Sums are taken on the way.
    fn chunk(&mut self, _: usize, task: &Task, chunk: &Chunk<'_>) -> Result<(), EngineError> {
        // There was space.
        let Some(mut buf) = self.pool.take()? else { return Err(EngineError::WorkerPanicked) };
        let len = index(task.len);
        let filled = chunk.fill(&mut buf[..len]);
        self.found.filled(task.file, filled);
        self.note(task, &buf[..len]);
        // The file's last block is written whole and cut off again when the file is finished.
        let padded = if self.files.direct { len.next_multiple_of(index(FileLayout::BLOCK)) } else { len };
        buf[len..padded].fill(0);
        let file = Arc::clone(&self.files.out[task.file]);
        let at = file.base() + task.at;
        let data = IoBuf::Owned(buf);
        self.submit(IoOp::Write(WriteOp { file, direct: self.files.direct, data, range: 0..padded, at }))
    }

    fn wait(&mut self) -> Result<bool, EngineError> {
        match self.io.wait().map_err(EngineError::Uring)? {
            Some(Completion { op: IoOp::Write(op), result }) => self.written(op, result)?,
            Some(Completion { op: IoOp::Read(op), result }) => self.read(op, &result)?,
            None => return Ok(false),
        }
        Ok(true)
    }

    fn finish(self) -> Found {
        self.found
    }
}
