//! Whole runs over sources that are not in the page cache, against naive slicing.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

use super::*;
use crate::engine::{Noop, WriterKind};
use crate::formats::{FileLayout, Segment};
use crate::layout::{Dim, Move};
use crate::plan::{Op, OpsId, OutputFile, OutputTensor, PlanSource, Route, SourceId, SourceTensor, StoredId};
use crate::source::{ByteRange, Extents, index};
use crate::sys::{self, StableInputs};
use crate::tensor::{Dtype, Shape};

/// Columns of a tensor in several files, and what comes of them: the whole tensor, as it is and as fp32, and the first file's
/// tensor once more. Elements are bf16.
struct Merge {
    dir: TempDir,
    paths: Vec<PathBuf>,
    plan: Plan,
    mappings: Vec<Arc<LocalBlob>>,
    expected: Vec<u8>,
}

const ROWS: u64 = 1999;
/// In the target's file, ahead of the data.
const HEADER: &[u8] = b"seventeen bytes..";

impl Merge {
    /// `split`: the first file's tensor lies in two pieces.
    fn new(files: u64, columns: u64, split: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (mut paths, mut plan, mut parts) = (Vec::new(), Plan::default(), Vec::new());
        let row = columns * 2;
        for file in 0..files {
            // No length and no place is a multiple of a block.
            let skip = 100 + file * 7;
            let words = (0..=ROWS * row / 8).map(|i| (i * 4 + file).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut data: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
            data.truncate(index(ROWS * row));
            let cut = if split && file == 0 { (data.len() / 3) | 1 } else { data.len() };
            let gap = if cut < data.len() { 5000 } else { 0 };
            let (head, tail) = data.split_at(cut);
            let bytes = [&vec![1; index(skip)], head, &vec![2; gap], tail, &[3; 11][..]].concat();
            let mut extents = Extents::default();
            extents.push(ByteRange::new(skip, head.len() as u64).unwrap());
            extents.push(ByteRange::new(skip + (cut + gap) as u64, tail.len() as u64).unwrap());
            let path = dir.path().join(format!("source {file}"));
            std::fs::write(&path, &bytes).unwrap();
            plan.sources.push(PlanSource { path: path.clone(), len: bytes.len() as u64, rank: 0 });
            let name = "weight".into();
            plan.tensors.push(SourceTensor { file: SourceId::new(parts.len()), name, dtype: Dtype::BF16, extents });
            paths.push(path);
            parts.push(data);
        }
        let rows = (0..index(ROWS)).flat_map(|at| parts.iter().map(move |p| &p[at * index(row)..][..index(row)]));
        let whole: Vec<u8> = rows.flatten().copied().collect();
        // A bf16 is the upper half of an fp32.
        let wide = whole.as_chunks::<2>().0.iter().flat_map(|&[a, b]| [0, 0, a, b]);
        let expected: Vec<u8> =
            HEADER.iter().copied().chain(whole.iter().copied()).chain(wide).chain(parts[0].clone()).collect();

        let columns_of = |file, width: u64, ops| {
            let dim = Dim { count: ROWS, src_stride: width, dst_stride: width * files };
            let moves = Move { src: 0, dst: file * width, run: width, dims: Box::new([dim]) };
            Route { source: StoredId::new(index(file)), ops, moves }
        };
        plan.pipelines.push([Op::Cast { from: Dtype::BF16, to: Dtype::F32 }].into());
        let cast = OpsId::new(1);
        let once = Move { src: 0, dst: 0, run: ROWS * row, dims: Box::new([]) };
        let tensors = [
            (Dtype::BF16, columns * files, (0..files).map(|f| columns_of(f, row, OpsId::COPY)).collect()),
            (Dtype::F32, columns * files, (0..files).map(|f| columns_of(f, columns, cast)).collect()),
            (Dtype::BF16, columns, vec![Route { source: StoredId::new(0), ops: OpsId::COPY, moves: once }]),
        ];
        let mut output = OutputFile {
            path: "out".to_owned(),
            rank: Some(0),
            format: None,
            layout: FileLayout { segments: vec![Segment::Literal(HEADER.to_vec())] },
            tensors: Vec::new(),
        };
        for (tensor, (dtype, width, routes)) in tensors.into_iter().enumerate() {
            let range = ByteRange::new(0, ROWS * width * dtype.size()).unwrap();
            output.layout.segments.push(Segment::Data { tensor, range });
            let shape = Shape::new([ROWS, width]).unwrap();
            let name = format!("tensor {tensor}").as_str().into();
            output.tensors.push(OutputTensor { name, dtype, shape, first_holder: true, routes });
        }
        plan.outputs.push(output);
        let mut merge = Self { dir, paths, plan, mappings: Vec::new(), expected };
        merge.map();
        merge
    }

    /// Maps the files anew and drops them from the page cache. Whether that was done, and they can be read past it.
    fn open(&mut self) -> bool {
        self.map();
        self.mappings.iter().all(|m| m.descriptor().is_some() && !m.is_resident(0, m.len() as u64))
    }

    fn map(&mut self) {
        self.mappings.clear();
        for path in &self.paths {
            let file = File::options().read(true).write(true).open(path).unwrap();
            file.sync_all().unwrap();
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
            let mapping = LocalBlob::open(path, StableInputs::in_test()).unwrap();
            mapping.set_reader(sys::Reader::Auto);
            self.mappings.push(Arc::new(mapping));
        }
    }

    fn run(
        &self,
        config: &EngineConfig,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> Result<RunSummary, EngineError> {
        let target = tempfile::tempdir_in(self.dir.path()).unwrap();
        let summary = run(&self.plan, &self.mappings, &Dir::open(target.path())?, config, observer, cancel)?;
        assert!(std::fs::read(target.path().join("out")).unwrap() == self.expected, "other bytes: {config:?}");
        Ok(summary)
    }
}

fn config(workers: usize, memory: u64, writer: WriterKind) -> EngineConfig {
    EngineConfig {
        workers,
        memory,
        largest_chunk: EngineConfig::LARGEST_CHUNK,
        depth: 8,
        writer,
        direct: true,
        read_ahead: true,
        reflink: false,
        durability: Durability::Synced,
    }
}

const WRITERS: [WriterKind; 2] = [WriterKind::Auto, WriterKind::Pwrite];

#[test]
fn what_is_read_ahead_is_what_the_mapping_has() {
    let sources = [Merge::new(3, 1101, false), Merge::new(1, 2500, true)];
    for mut merge in sources {
        // Half of 32 and 64 MiB and of 1 GiB, as the program has it; windows of a quarter of a MiB to four.
        for (memory, workers) in [(16 << 20, 1), (32 << 20, 2), (512 << 20, 3)] {
            for writer in WRITERS {
                let cold = merge.open();
                let config = config(workers, memory, writer);
                let ways = merge.run(&config, &Noop, &CancelToken::default()).unwrap().ways;
                let written = ways.mapped + ways.past_cache + ways.gathered + ways.converted;
                assert_eq!(written, merge.expected.len() as u64);
                assert!(ways.converted.abs_diff(merge.expected.len() as u64 / 2) < merge.expected.len() as u64 / 4);
                if cold {
                    // All three tensors, or the first two where the third is written from the mapping.
                    let needed: u64 = merge.mappings.iter().map(|m| m.len() as u64 - 6000).sum();
                    assert!(ways.from_read_ahead >= needed, "{ways:?}");
                    assert!(ways.read_ahead >= needed, "{ways:?}");
                }
                // Now they may be in the page cache; if they are, nothing is read ahead.
                for mapping in &merge.mappings {
                    let _ = std::fs::read(mapping.path()).unwrap();
                }
                let ways = merge.run(&config, &Noop, &CancelToken::default()).unwrap().ways;
                if merge.mappings.iter().all(|m| m.is_resident(0, m.len() as u64)) {
                    assert_eq!((ways.read_ahead, ways.from_read_ahead), (0, 0));
                }
            }
        }
    }
}

#[test]
fn unasked_nothing_is_read_ahead() {
    let mut merge = Merge::new(2, 601, false);
    merge.open();
    let config = EngineConfig { read_ahead: false, ..config(2, 16 << 20, WriterKind::Auto) };
    let ways = merge.run(&config, &Noop, &CancelToken::default()).unwrap().ways;
    assert_eq!((ways.read_ahead, ways.from_read_ahead), (0, 0));
    assert_eq!(config.window_budget(), 0);
}

#[test]
fn what_does_not_fit_the_budget_comes_from_the_mapping() {
    // Space for four windows of 64 KiB, and five files for each row.
    let mut merge = Merge::new(5, 500, false);
    merge.open();
    let tight = config(1, 512 << 10, WriterKind::Auto);
    assert_eq!((tight.window_budget(), tight.window(5)), (256 << 10, 64 << 10));
    let ways = merge.run(&tight, &Noop, &CancelToken::default()).unwrap().ways;
    // Only the third tensor's source could be.
    assert!(ways.from_read_ahead <= 2 * ROWS * 500 * 2, "{ways:?}");
    // One window more than a row needs: every task waits until the one before lets go.
    let mut merge = Merge::new(3, 601, false);
    let cold = merge.open();
    for workers in 1..=3 {
        let ways =
            merge.run(&config(workers, 512 << 10, WriterKind::Auto), &Noop, &CancelToken::default()).unwrap().ways;
        assert!(!cold || ways.from_read_ahead > 0 || workers > 1, "{ways:?}");
    }
}

#[test]
fn the_budget_is_part_of_the_memory() {
    for memory in [16 << 20, 32 << 20, 512 << 20, 4u64 << 30] {
        for workers in [1, 2, 3, 16] {
            let with = config(workers, memory, WriterKind::Auto);
            assert!(with.buffer_bytes() <= memory, "{with:?}: {}", with.buffer_bytes());
            assert!(with.window_budget() >= (memory / 2).min(128 << 20));
            for sources in [0, 1, 8, 1024] {
                assert!(with.window(sources) <= with.window_budget());
            }
        }
    }
}

#[test]
fn a_source_under_another_name_now_comes_from_the_mapping() {
    let mut merge = Merge::new(2, 601, false);
    for (at, path) in merge.paths.iter().enumerate() {
        // The mapping is kept, the name leads elsewhere: to other bytes, or to what cannot be read past the page cache.
        sys::rename_new(path, &path.with_extension("old")).unwrap();
        if at == 0 {
            std::fs::write(path, vec![9; merge.mappings[at].len()]).unwrap();
        }
    }
    let ways = merge.run(&config(2, 32 << 20, WriterKind::Auto), &Noop, &CancelToken::default()).unwrap().ways;
    assert_eq!((ways.read_ahead, ways.from_read_ahead), (0, 0));
    merge.mappings.clear();
}

/// Does something once so many writes are done.
struct After<F>(AtomicU64, F);

impl<F: Fn() + Sync> Observer for After<F> {
    fn event(&self, event: Event) {
        if matches!(event, Event::Written { .. }) && self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.1();
        }
    }
}

#[test]
fn whatever_ends_a_run_ends_all_of_it() {
    let mut merge = Merge::new(3, 601, false);
    for (writes, workers) in [(1, 1), (3, 2), (5, 3)] {
        for writer in WRITERS {
            // So little space that the reader waits for it.
            let config = config(workers, 512 << 10, writer);
            merge.map();
            let cancel = CancelToken::default();
            let outcome = merge.run(&config, &After(writes.into(), || cancel.cancel()), &cancel);
            assert!(matches!(outcome, Err(EngineError::Cancelled)), "{outcome:?}");
            merge.map();
            let panics = After(writes.into(), || std::panic::resume_unwind(Box::new("a fault of the test")));
            let outcome = merge.run(&config, &panics, &CancelToken::default());
            assert!(matches!(outcome, Err(EngineError::WorkerPanicked)), "{outcome:?}");
        }
    }
}

/// What was to be written, and what is said to be.
#[derive(Default)]
struct Counted {
    announced: AtomicU64,
    written: AtomicU64,
}

impl Observer for Counted {
    fn event(&self, event: Event) {
        match event {
            Event::Started { bytes } => self.announced.fetch_add(bytes, Ordering::Relaxed),
            Event::Written { bytes } => self.written.fetch_add(bytes, Ordering::Relaxed),
            _ => 0,
        };
    }
}

impl Counted {
    #[track_caller]
    fn reached(&self, bytes: usize) {
        let (announced, written) = (self.announced.load(Ordering::Relaxed), self.written.load(Ordering::Relaxed));
        assert_eq!((announced, written), (bytes as u64, bytes as u64), "announced and written");
    }
}

#[test]
fn what_is_written_adds_up_to_what_was_announced() {
    let mut merge = Merge::new(2, 601, true);
    assert!(!merge.expected.len().is_multiple_of(index(FileLayout::BLOCK)));
    for writer in WRITERS {
        for (direct, read_ahead, reflink) in
            [(true, true, false), (false, true, false), (true, false, false), (false, false, true), (true, false, true)]
        {
            merge.open();
            let config = EngineConfig { direct, read_ahead, reflink, ..config(2, 16 << 20, writer) };
            let counted = Counted::default();
            merge.run(&config, &counted, &CancelToken::default()).unwrap();
            counted.reached(merge.expected.len());
        }
    }
}

#[test]
fn what_is_compared_or_summed_adds_up_too() {
    let merge = Merge::new(2, 601, false);
    let config = config(2, 16 << 20, WriterKind::Auto);
    let target = tempfile::tempdir_in(merge.dir.path()).unwrap();
    let dir = Dir::open(target.path()).unwrap();
    run(&merge.plan, &merge.mappings, &dir, &config, &Noop, &CancelToken::default()).unwrap();
    let other = vec![Arc::new(LocalBlob::open(&target.path().join("out"), StableInputs::in_test()).unwrap())];
    let mut at = HEADER.len() as u64;
    let place = |tensor: &OutputTensor| {
        let range = ByteRange::new(at, tensor.shape.bytes(tensor.dtype)).unwrap();
        at += range.len();
        let mut extents = Extents::default();
        extents.push(range);
        extents
    };
    let places: Vec<Extents> = merge.plan.outputs[0].tensors.iter().map(place).collect();
    let counted = Counted::default();
    let cancel = CancelToken::default();
    let of = [places.clone()];
    let found = crate::engine::compare(&merge.plan, &merge.mappings, &other, &of, &config, &counted, &cancel).unwrap();
    assert_eq!(found, []);
    counted.reached(merge.expected.len() - HEADER.len());

    // A place past the end of the file has no sum, but is counted.
    let mut past = Extents::default();
    past.push(ByteRange::new(merge.expected.len() as u64 - 5, 1 << 20).unwrap());
    let sum =
        |place: &Extents| crate::engine::SumOf { source: 0, place: place.clone(), sum: crate::engine::Crc64::EMPTY };
    let stated: Vec<_> = places.iter().chain([&past]).map(sum).collect();
    let counted = Counted::default();
    let found = crate::engine::differing_sums(&other, &stated, &config, &counted, &cancel).unwrap();
    assert_eq!(found, [0, 1, 2, 3]);
    counted.reached(merge.expected.len() - HEADER.len() + (1 << 20));
}
