//! Chunks in a buffer that holds an output file, or wherever a caller puts them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::feed::{Chunk, Feed};
use crate::engine::fill::{Inputs, Target};
use crate::engine::late::Covered;
use crate::engine::pool;
use crate::engine::results::{Found, TensorResult};
use crate::engine::schedule::{Task, cut, sort};
use crate::engine::sink::Sink;
use crate::engine::{CancelToken, EngineConfig, EngineError, Event, Observer};
use crate::plan::Plan;
use crate::source::index;
use crate::storage::LocalBlob;
use crate::sys::FileError;

/// Where an output file goes.
pub enum Memory<'b> {
    /// A buffer of its length.
    Buffer(&'b mut [u8]),
    /// Whatever takes bytes and where they begin, from any thread.
    Put(&'b Put<'b>),
}

impl fmt::Debug for Memory<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Buffer(_) => "Buffer",
            Self::Put(_) => "Put",
        })
    }
}

/// Takes bytes, and where they begin.
type Put<'b> = dyn Fn(&[u8], u64) -> Result<(), FileError> + Sync + 'b;

/// Puts a whole output file, by its index in the plan, into memory, checksums of its own included. Returns what is known of each of
/// its tensors.
///
/// # Errors
/// As a run that writes files.
///
/// # Panics
/// Where a buffer is not as long as the file.
pub fn into_memory(
    plan: &Plan,
    mappings: &[Arc<LocalBlob>],
    file: usize,
    mut into: Memory<'_>,
    config: &EngineConfig,
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<Vec<TensorResult>, EngineError> {
    let output = &plan.outputs[file];
    let targets = [Target::of(output)];
    let len = targets[0].len();
    observer.event(Event::Started { bytes: len });
    for mapping in mappings {
        mapping.read_through();
    }
    let covered = Covered::new(&output.layout);
    let mut tasks = Vec::new();
    let step = config.chunk().min(EngineConfig::BUILT_CHUNK);
    cut(plan, 0, &targets[0], (0, len), step, &mut tasks);
    sort(&mut tasks);
    let feed = Feed::new(Inputs { plan, mappings }, &targets, &tasks, config, observer, cancel);
    let places = match &mut into {
        Memory::Buffer(buffer) => {
            assert_eq!(buffer.len() as u64, len, "the buffer is as long as the file");
            Places::Cut(places(&tasks, buffer))
        }
        Memory::Put(put) => Places::Put(*put),
    };
    let sink = || {
        let (buf, found) = (Vec::new(), Found::default());
        Ok(MemorySink { feed: &feed, places: &places, covered: &covered, buf, found })
    };
    let mut found = Found::default();
    pool::run(&feed, "memory", &tasks, sink)?.found.into_iter().for_each(|more| found.join(more));
    drop(places);
    let mut results = found.results(&feed.inputs, &targets);
    for (at, checksum) in output.layout.late() {
        let sum = covered.number(checksum.of).map_or(0, |range| results.sums.covered(0, range));
        let bytes = checksum.encode(sum);
        match &mut into {
            Memory::Buffer(buffer) => buffer[index(at)..index(at + checksum.len())].copy_from_slice(&bytes),
            Memory::Put(put) => put(&bytes, at)?,
        }
    }
    Ok(results.tensors.into_iter().next().unwrap_or_default())
}

/// Where each task's bytes go: `into`, cut up.
fn places<'b>(tasks: &[Task], into: &'b mut [u8]) -> Vec<Place<'b>> {
    let mut order: Vec<usize> = (0..tasks.len()).collect();
    order.sort_unstable_by_key(|&number| tasks[number].at);
    let mut places: Vec<Place<'b>> = tasks.iter().map(|_| Mutex::new(&mut [][..])).collect();
    let mut rest = into;
    for number in order {
        let (place, after) = rest.split_at_mut(index(tasks[number].len));
        places[number] = Mutex::new(place);
        rest = after;
    }
    places
}

/// Where a task's bytes go. Each is taken once.
type Place<'b> = Mutex<&'b mut [u8]>;

/// Where all tasks' bytes go.
enum Places<'b> {
    /// By the numbers of the tasks.
    Cut(Vec<Place<'b>>),
    Put(&'b Put<'b>),
}

struct MemorySink<'a, 'b> {
    feed: &'a Feed<'a>,
    places: &'a Places<'b>,
    covered: &'a Covered,
    /// Of what is put somewhere.
    buf: Vec<u8>,
    found: Found,
}

impl Sink for MemorySink<'_, '_> {
    type Found = Found;

    fn chunk(&mut self, number: usize, task: &Task, chunk: &Chunk<'_>) -> Result<(), EngineError> {
        let target = &self.feed.targets[task.file];
        match self.places {
            Places::Cut(places) => {
                let mut place = places[number].lock().unwrap_or_else(PoisonError::into_inner);
                self.found.filled(task.file, chunk.fill(&mut place));
                self.found.note(target, self.covered, task, &place);
            }
            Places::Put(put) => {
                self.buf.resize(index(task.len), 0);
                self.found.filled(task.file, chunk.fill(&mut self.buf));
                put(&self.buf, task.at)?;
                self.found.note(target, self.covered, task, &self.buf);
            }
        }
        self.feed.observer.event(Event::Written { bytes: task.len });
        Ok(())
    }

    fn finish(self) -> Found {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Durability, Noop, WriterKind};
    use crate::formats::{Checksum, ChecksumKind, Encoding, FileLayout, Segment};
    use crate::layout::{Dim, Move};
    use crate::plan::{OpsId, OutputFile, OutputTensor, PlanSource, Route, SourceId, SourceTensor, StoredId};
    use crate::source::{ByteRange, Extents};
    use crate::tensor::{Dtype, Shape};

    const ROWS: u64 = 40_000;

    /// A file that holds every second column of a matrix of 6, and a checksum of that ahead of it.
    fn plan() -> (Plan, Vec<u8>, Vec<u8>) {
        let source: Vec<u8> = (0..ROWS * 6).map(|i| (i * 31 % 241).to_le_bytes()[0]).collect();
        let columns: Vec<u8> = source.chunks(6).flat_map(|row| [row[1], row[3], row[5]]).collect();
        let range = ByteRange::new(0, ROWS * 3).unwrap();
        let dims = [Dim { count: ROWS, src_stride: 6, dst_stride: 3 }, Dim { count: 3, src_stride: 2, dst_stride: 1 }];
        let moves = Move { src: 1, dst: 0, run: 1, dims: Box::new(dims) };
        let tensor = OutputTensor {
            name: "weight".into(),
            dtype: Dtype::U8,
            shape: Shape::new([ROWS, 3]).unwrap(),
            first_holder: true,
            routes: vec![Route { source: StoredId::new(0), ops: OpsId::COPY, moves }],
        };
        let of = ByteRange::new(9, ROWS * 3).unwrap();
        let late = Checksum { kind: ChecksumKind::Crc32, of, encoding: Encoding::BigEndian };
        let segments =
            vec![Segment::Literal(b"seven".to_vec()), Segment::Late(late), Segment::Data { tensor: 0, range }];
        let place = Extents::contiguous(ByteRange::new(0, ROWS * 6).unwrap());
        let plan = Plan {
            sources: vec![PlanSource { path: "in memory".into(), len: ROWS * 6, rank: 0 }],
            tensors: vec![SourceTensor {
                file: SourceId::new(0),
                name: "weight".into(),
                dtype: Dtype::U8,
                extents: place,
            }],
            outputs: vec![OutputFile {
                path: "out".to_owned(),
                rank: Some(0),
                format: None,
                layout: FileLayout { segments },
                tensors: vec![tensor],
            }],
            ..Plan::default()
        };
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &columns);
        let expected = [b"seven", &u32::try_from(crc).unwrap().to_be_bytes()[..], &columns].concat();
        (plan, source, expected)
    }

    #[test]
    fn a_file_in_memory_is_the_file_and_so_is_any_range_that_is_read() {
        let (plan, source, expected) = plan();
        let mappings = [Arc::new(LocalBlob::in_memory(&source).unwrap())];
        let config = EngineConfig {
            workers: 3,
            memory: 8 << 20,
            largest_chunk: 64 << 10,
            depth: 4,
            writer: WriterKind::Auto,
            direct: false,
            read_ahead: true,
            reflink: false,
            durability: Durability::Cached,
        };
        let cancel = CancelToken::default();
        let mut found = vec![1; expected.len()];
        let results = into_memory(&plan, &mappings, 0, Memory::Buffer(&mut found), &config, &Noop, &cancel).unwrap();
        assert!(found == expected);
        assert_eq!(results[0].sum, crate::engine::Crc64::of(&expected[9..]));
        let elsewhere = Mutex::new(vec![1; expected.len()]);
        let put = |bytes: &[u8], at: u64| {
            elsewhere.lock().unwrap()[index(at)..][..bytes.len()].copy_from_slice(bytes);
            Ok(())
        };
        assert_eq!(into_memory(&plan, &mappings, 0, Memory::Put(&put), &config, &Noop, &cancel).unwrap(), results);
        assert!(elsewhere.into_inner().unwrap() == expected);
        cancel.cancel();
        let stopped = into_memory(&plan, &mappings, 0, Memory::Buffer(&mut found), &config, &Noop, &cancel);
        assert!(matches!(stopped, Err(EngineError::Cancelled)));
        let reader = crate::engine::OutputReader::new(plan, mappings.to_vec());
        for (at, len) in [(0, expected.len()), (3, 4), (7, 1), (8, 70_000), (expected.len() - 1, 1), (4, 0)] {
            let mut part = vec![1; len];
            reader.read(0, at as u64, &mut part);
            assert!(part == expected[at..at + len], "{at} {len}");
        }
    }
}
