//! Comparing instead of writing: what a plan would write, against what is there.
//!
//! Chunks in the order of the source, as a run has them, put together from the mapping or from windows that one thread reads
//! ahead, as each source's reader says. What is there is read in the same way, a chunk at a time by the worker that compares it.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::feed::{Chunk as Bytes, Feed};
use crate::engine::fill::{Inputs, Target};
use crate::engine::schedule::{From, Task, key_of};
use crate::engine::sink::Sink;
use crate::engine::{CancelToken, EngineConfig, EngineError, Event, Observer, pool};
use crate::formats::{FileLayout, Segment};
use crate::plan::Plan;
use crate::source::{ByteRange, Extents, index};
use crate::storage::LocalBlob;
use crate::sys::AlignedBuf;

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
/// Returns at most one difference for each tensor, in file order.
///
/// # Errors
/// A cancelled run, or a machine without memory for the buffers.
pub fn compare(
    plan: &Plan,
    mappings: &[Arc<LocalBlob>],
    others: &[Arc<LocalBlob>],
    places: &[Vec<Extents>],
    config: &EngineConfig,
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<Vec<Difference>, EngineError> {
    for mapping in mappings.iter().chain(others) {
        mapping.read_through();
    }
    observer.event(Event::Started { bytes: places.iter().flatten().map(Extents::len).sum() });
    let segments: Vec<Vec<Segment>> = places.iter().map(|tensors| end_to_end(tensors)).collect();
    let targets: Vec<Target<'_>> =
        (plan.outputs.iter().zip(&segments)).map(|(output, segments)| Target::new(&output.tensors, segments)).collect();
    let chunks = chunks(plan, &targets, places, config.chunk());
    let tasks: Vec<Task> = chunks.iter().map(|chunk| chunk.task).collect();
    let feed = Feed::new(Inputs { plan, mappings }, &targets, &tasks, config, observer, cancel).also(others);
    let comparison = Comparison { feed: &feed, chunks: &chunks, others, first: first(places) };
    let outcome = pool::run(&feed, "compare", &tasks, || {
        Ok(CompareSink { of: &comparison, ours: Vec::new(), theirs: Theirs::new(config) })
    });
    LocalBlob::check_all(others)?;
    outcome?;
    let found = comparison.first.into_iter().filter_map(|((file, tensor), at)| {
        let at = at.into_inner();
        (at < u64::MAX).then_some(Difference { file, tensor, at })
    });
    Ok(found.collect())
}

/// A file that holds the tensors one after the other: what is compared has no other layout.
fn end_to_end(tensors: &[Extents]) -> Vec<Segment> {
    let data = |(tensor, place): (usize, &Extents)| Segment::Data { tensor, range: whole(place) };
    tensors.iter().enumerate().map(data).collect()
}

fn whole(place: &Extents) -> ByteRange {
    ByteRange::new(0, place.len()).expect("a length begins at 0")
}

/// A chunk of a tensor.
struct Chunk {
    /// Where the chunk is in the file that holds the tensors one after the other.
    task: Task,
    tensor: usize,
    /// Where it begins in the tensor.
    at: u64,
    /// Where its bytes are in the other file.
    there: ByteRange,
}

/// All chunks, in the order of the source.
fn chunks(plan: &Plan, targets: &[Target<'_>], places: &[Vec<Extents>], most: u64) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    for (file, tensors) in places.iter().enumerate() {
        for (tensor, place) in tensors.iter().enumerate() {
            let base = targets[file].spans[tensor].at;
            for &(start, range) in place.parts() {
                let mut done = 0;
                while done < range.len() {
                    let len = (range.len() - done).min(most);
                    let at = start + done;
                    let key = key_of(plan, &targets[file], base + at, len);
                    let task = Task { file, at: base + at, len, from: From::Built, key };
                    let there = ByteRange::new(range.start() + done, len).expect("inside a range");
                    chunks.push(Chunk { task, tensor, at, there });
                    done += len;
                }
            }
        }
    }
    chunks.sort_by_key(|chunk| chunk.task.key);
    chunks
}

/// For each tensor, the first byte that is known to differ.
type First = BTreeMap<(usize, usize), AtomicU64>;

fn first(places: &[Vec<Extents>]) -> First {
    let tensors = places.iter().enumerate().flat_map(|(file, t)| (0..t.len()).map(move |tensor| (file, tensor)));
    tensors.map(|tensor| (tensor, AtomicU64::new(u64::MAX))).collect()
}

/// What all workers share.
struct Comparison<'a> {
    feed: &'a Feed<'a>,
    chunks: &'a [Chunk],
    others: &'a [Arc<LocalBlob>],
    first: First,
}

/// One worker's buffers.
struct CompareSink<'a> {
    of: &'a Comparison<'a>,
    ours: Vec<u8>,
    theirs: Theirs,
}

impl Sink for CompareSink<'_> {
    type Found = ();

    fn chunk(&mut self, number: usize, task: &Task, bytes: &Bytes<'_>) -> Result<(), EngineError> {
        let Comparison { feed, chunks, others, first } = self.of;
        let chunk = &chunks[number];
        // What comes after a difference is not looked at.
        let first = first.get(&(task.file, chunk.tensor)).filter(|at| at.load(Ordering::Relaxed) > chunk.at);
        if let Some(first) = first {
            let ours = bytes.bytes(&mut self.ours);
            let there = self.theirs.read(&others[task.file], chunk.there)?;
            if ours != there {
                let equal = ours.iter().zip(there).take_while(|(a, b)| a == b).count() as u64;
                first.fetch_min(chunk.at + equal, Ordering::Relaxed);
            }
            feed.gathered.note(task.len);
        }
        feed.observer.event(Event::Written { bytes: task.len });
        Ok(())
    }

    fn finish(self) {}
}

/// A buffer for what is read to one.
struct Theirs {
    buf: Option<AlignedBuf>,
    bytes: usize,
}

impl Theirs {
    fn new(config: &EngineConfig) -> Self {
        Self { buf: None, bytes: index(config.chunk()) + 2 * index(FileLayout::BLOCK) }
    }

    /// These bytes of a file, read as its reader says. What cannot be read so is taken from the mapping.
    fn read<'a>(&'a mut self, file: &'a LocalBlob, range: ByteRange) -> Result<&'a [u8], EngineError> {
        let mapped = &file[index(range.start())..index(range.end())];
        let from = range.start() / FileLayout::BLOCK * FileLayout::BLOCK;
        let len = range.end().next_multiple_of(FileLayout::BLOCK) - from;
        let descriptor = if file.is_read(from, len, FileLayout::BLOCK) { file.descriptor() } else { None };
        let Some(descriptor) = descriptor else { return Ok(mapped) };
        if self.buf.is_none() {
            let made = AlignedBuf::new(self.bytes);
            self.buf = Some(made.map_err(|source| EngineError::Memory { bytes: self.bytes as u64, source })?);
        }
        let Some(buf) = &mut self.buf else { return Ok(mapped) };
        let (skip, wanted) = (index(range.start() - from), index(range.len()));
        match descriptor.read_at(&mut buf[..index(len)], from) {
            Ok(read) if read >= skip + wanted => Ok(&buf[skip..skip + wanted]),
            _ => Ok(mapped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Noop;
    use crate::layout::Move;
    use crate::plan::{OpsId, OutputFile, OutputTensor, PlanSource, Route, SourceId, SourceTensor, StoredId};
    use crate::sys::{Reader, StableInputs};
    use crate::tensor::{Dtype, Shape};

    const LEN: u64 = 5 << 20;

    /// A plan, its sources, the other files and where the tensors are in those.
    type Fixture = (Plan, Vec<Arc<LocalBlob>>, Vec<Arc<LocalBlob>>, Vec<Vec<Extents>>);

    /// Two files with the same tensor at odd places, and what compares them.
    fn fixture(dir: &std::path::Path, reader: Reader) -> Fixture {
        let bytes: Vec<u8> = (0..LEN).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect();
        let open = |name: &str, before: usize| {
            let path = dir.join(name);
            let file = std::fs::File::options().create(true).truncate(true).write(true).open(&path).unwrap();
            file.write_all_at(&bytes, before as u64).unwrap();
            file.sync_all().unwrap();
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
            let mapping = LocalBlob::open(&path, StableInputs::in_test()).unwrap();
            mapping.set_reader(reader);
            Arc::new(mapping)
        };
        let place = |before: u64| Extents::contiguous(ByteRange::new(before, LEN).unwrap());
        let shape = Shape::new([LEN]).unwrap();
        let moves = Move { src: 0, dst: 0, run: LEN, dims: Box::new([]) };
        let tensor = OutputTensor {
            name: "weight".into(),
            dtype: Dtype::U8,
            shape,
            first_holder: true,
            routes: vec![Route { source: StoredId::new(0), ops: OpsId::COPY, moves }],
        };
        let plan = Plan {
            sources: vec![PlanSource { path: dir.join("a"), len: LEN + 777, rank: 0 }],
            tensors: vec![SourceTensor {
                file: SourceId::new(0),
                name: "weight".into(),
                dtype: Dtype::U8,
                extents: place(777),
            }],
            outputs: vec![OutputFile {
                path: "b".to_owned(),
                rank: Some(0),
                format: None,
                layout: FileLayout { segments: Vec::new() },
                tensors: vec![tensor],
            }],
            pipelines: Vec::new(),
            operands: Vec::new(),
            passes: Vec::new(),
            memory: Vec::new(),
        };
        (plan, vec![open("a", 777)], vec![open("b", 4099)], vec![vec![place(4099)]])
    }

    #[test]
    fn what_is_read_past_the_page_cache_is_not_in_it_afterwards() {
        // Below the tests' own directory: /tmp may be in memory.
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let config = EngineConfig {
            workers: 2,
            memory: 64 << 20,
            largest_chunk: 1 << 20,
            depth: 4,
            writer: crate::engine::WriterKind::Auto,
            direct: false,
            read_ahead: true,
            reflink: false,
            durability: crate::engine::Durability::Cached,
        };
        for reader in [Reader::Mapped, Reader::Direct, Reader::Sequential] {
            let (plan, ours, others, places) = fixture(dir.path(), reader);
            let all = || ours.iter().chain(&others);
            let cold = all().all(|m| !m.is_resident(0, m.len() as u64) && m.descriptor().is_some());
            let cancel = CancelToken::default();
            let found = compare(&plan, &ours, &others, &places, &config, &Noop, &cancel).unwrap();
            assert_eq!(found, [], "{reader:?}");
            if cold && reader == Reader::Direct {
                assert!(all().all(|m| !m.is_resident(0, m.len() as u64)), "read through the page cache");
            }
        }
    }
}
