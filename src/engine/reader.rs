//! The thread that goes ahead of the workers and reads what gathers will need past the page cache.
//!
//! Only where that is worth it: not what is in the page cache, and not windows of which little is needed (the first and last
//! blocks of tensors that are otherwise written from the mapping). What it leaves out is taken from the mapping.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::EngineError;
use super::feed::Feed;
use super::io::Io;
use super::schedule::{From, Task};
use super::windows::{Window, WindowId, Windows};
use crate::formats::FileLayout;
use crate::source::{ByteRange, index};
use crate::sys::{Completion, IoOp, ReadOp};

/// The most (task, window) pairs that are known ahead. Enough that all tasks that need a window are known when it is read,
/// for the columns of any model that fits the budget; otherwise it is read once more, or taken from the mapping.
const AHEAD: usize = 16 << 10;
/// A window is read where at least one in so many bytes of the part to be read is needed.
const SPARSE: u64 = 4;
/// Parts of at most this many bytes are always read: by their side the rest costs nothing.
const SMALL: u64 = 256 << 10;

/// What a task needs of a window.
#[derive(Clone, Copy, Debug)]
struct Need {
    id: WindowId,
    /// From its first to its last byte.
    from: u64,
    to: u64,
    bytes: u64,
}

/// What tasks that are known ahead, and not registered yet, need of a window.
#[derive(Debug, Default)]
struct Future {
    /// Task by task, in their order.
    needs: VecDeque<Need>,
    /// It was looked into, and is not to be read.
    left_out: bool,
}

/// Registers all tasks, in order, until all are or the run stops. Returns the bytes that were read.
pub(super) fn read_ahead(feed: &Feed<'_>, tasks: &[Task], windows: &Windows) -> Result<u64, EngineError> {
    let mut reader = Reader {
        feed,
        windows,
        io: Io::new(feed.config, true, feed.observer)?,
        known: VecDeque::new(),
        pairs: 0,
        futures: HashMap::new(),
        reading: HashMap::new(),
        reads: 0,
        refused: HashSet::new(),
        bytes: 0,
    };
    let mut built = tasks.iter().enumerate().filter(|(_, task)| task.from == From::Built);
    loop {
        while reader.pairs < AHEAD
            && let Some((number, task)) = built.next()
        {
            reader.look_at(number, task);
        }
        let Some((number, needs)) = reader.known.pop_front() else { break };
        if feed.is_over() || !reader.register(number, &needs)? {
            return Ok(reader.bytes);
        }
    }
    while reader.complete_one()? {}
    Ok(reader.bytes)
}

struct Reader<'a> {
    feed: &'a Feed<'a>,
    windows: &'a Windows,
    io: Io,
    /// Tasks that are not registered yet.
    known: VecDeque<(usize, Vec<Need>)>,
    /// What `known` holds, with one for each task.
    pairs: usize,
    futures: HashMap<WindowId, Future>,
    /// What is being read, by the number of the read, and how much of it is wanted.
    reading: HashMap<u64, (WindowId, ByteRange)>,
    reads: u64,
    /// Sources that cannot be read past the page cache.
    refused: HashSet<usize>,
    bytes: u64,
}

impl Reader<'_> {
    /// Finds out which windows a task needs.
    fn look_at(&mut self, number: usize, task: &Task) {
        let needs = needs_of(self.feed, task, self.windows.bytes());
        self.pairs += needs.len() + 1;
        for need in &needs {
            self.futures.entry(need.id).or_default().needs.push_back(*need);
        }
        self.known.push_back((number, needs));
    }

    /// Registers a task and starts the reads that it needs. `false`: the run stops.
    fn register(&mut self, number: usize, needs: &[Need]) -> Result<bool, EngineError> {
        let mut wanted: Vec<Need> = needs.iter().filter(|need| self.is_to_be_read(need.id)).copied().collect();
        if wanted.len() > self.windows.capacity() {
            // More than there can ever be space for.
            wanted.clear();
        }
        // Those that are held first, so that none of them is given up for another.
        let missing: Vec<Need> =
            wanted.iter().filter(|need| !self.windows.claim(need.id, range(need.from, need.to))).copied().collect();
        for need in missing {
            if !self.load(need.id)? {
                return Ok(false);
            }
        }
        self.windows.register(number, wanted.iter().map(|need| need.id).collect());
        self.pairs -= needs.len() + 1;
        for need in needs {
            let Some(future) = self.futures.get_mut(&need.id) else { continue };
            // Tasks are registered in the order in which they were looked at: the first need is this task's.
            future.needs.pop_front();
            if future.needs.is_empty() {
                self.futures.remove(&need.id);
            }
        }
        Ok(true)
    }

    /// Whether a window is held or worth to be read.
    fn is_to_be_read(&mut self, id: WindowId) -> bool {
        let Some(future) = self.futures.get_mut(&id) else { return false };
        if future.left_out || self.refused.contains(&id.0) {
            return false;
        }
        if self.windows.holds(id) {
            return true;
        }
        let Some(all) = future.all() else { return false };
        let len = all.to - all.from;
        let mapping = &self.feed.inputs.mappings[id.0];
        let worth = len <= SMALL || all.bytes >= len / SPARSE;
        // Past the page cache only whole blocks can be read.
        let from = all.from / FileLayout::BLOCK * FileLayout::BLOCK;
        let blocks = all.to.next_multiple_of(FileLayout::BLOCK) - from;
        future.left_out = !worth || !mapping.is_read(from, blocks, FileLayout::BLOCK);
        !future.left_out
    }

    /// Starts to read what is needed of a window, as soon as there is space. `false`: the run stops.
    fn load(&mut self, id: WindowId) -> Result<bool, EngineError> {
        let Some(total) = self.futures.get(&id).and_then(Future::all) else { return Ok(true) };
        // Direct I/O requires whole blocks. Windows consist of whole ones, so that this stays in the window.
        let from = total.from / FileLayout::BLOCK * FileLayout::BLOCK;
        let needed = range(from, total.to);
        while self.io.is_full() {
            self.complete_one()?;
        }
        let into = loop {
            if self.feed.is_over() {
                return Ok(false);
            }
            if let Some(buf) = self.windows.begin(id, needed, |id| self.futures.contains_key(&id))? {
                break buf;
            }
            // No task can let go of what is still being read.
            if !self.complete_one()? {
                self.windows.wait_for_room(|| self.feed.is_over());
            }
        };
        self.reads += 1;
        self.reading.insert(self.reads, (id, needed));
        let source = Arc::clone(&self.feed.inputs.mappings[id.0]);
        let len = index(needed.len().next_multiple_of(FileLayout::BLOCK));
        let read = ReadOp { source, into, len, at: from, tag: self.reads };
        self.io.submit(IoOp::Read(read)).map_err(EngineError::Uring)?;
        Ok(true)
    }

    /// Waits for a read. `false`: there is none.
    fn complete_one(&mut self) -> Result<bool, EngineError> {
        let Some(Completion { op, result }) = self.io.wait().map_err(EngineError::Uring)? else { return Ok(false) };
        let IoOp::Read(read) = op else { return Ok(true) };
        let Some((id, needed)) = self.reading.remove(&read.tag) else { return Ok(true) };
        // What was read beyond the end of the file, or is missing because the kernel stopped short, is not in the window.
        let len = result.as_ref().map_or(0, |read| *read).min(index(needed.len()));
        if result.is_err() {
            self.refused.insert(id.0);
        }
        self.bytes += len as u64;
        let window = Window { source: id.0, at: read.at, len, buf: read.into };
        self.windows.finish(id, if len > 0 { Ok(window) } else { Err(window.buf) });
        Ok(true)
    }
}

/// What a task needs of windows of so many bytes, sorted by window: the bytes that filling it reads.
fn needs_of(feed: &Feed<'_>, task: &Task, bytes: u64) -> Vec<Need> {
    let mut needs: Vec<Need> = Vec::new();
    feed.inputs.reads(&feed.targets[task.file], task.at, task.len, &mut |source, range| {
        for number in range.start() / bytes..range.end().div_ceil(bytes) {
            let (from, to) = (range.start().max(number * bytes), range.end().min((number + 1) * bytes));
            let need = Need { id: (source, number), from, to, bytes: to - from };
            match needs.last_mut() {
                // Most runs follow one another in the same window.
                Some(last) if last.id == need.id => last.add(&need),
                _ => needs.push(need),
            }
        }
    });
    needs.sort_by_key(|need| need.id);
    needs.dedup_by(|next, kept| {
        let same = next.id == kept.id;
        if same {
            kept.add(next);
        }
        same
    });
    needs
}

impl Future {
    /// Everything together.
    fn all(&self) -> Option<Need> {
        self.needs.iter().copied().reduce(|mut all, need| {
            all.add(&need);
            all
        })
    }
}

impl Need {
    fn add(&mut self, other: &Self) {
        self.from = self.from.min(other.from);
        self.to = self.to.max(other.to);
        self.bytes += other.bytes;
    }
}

fn range(from: u64, to: u64) -> ByteRange {
    ByteRange::new(from, to - from).expect("a range of a file ends inside 64 bits")
}
