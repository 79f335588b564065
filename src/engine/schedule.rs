//! Cutting output files into tasks, and the order in which they are done.

use super::EngineConfig;
use super::fill::Target;
use crate::formats::{FileLayout, Segment};
use crate::plan::{OpsId, Plan};
use crate::source::ByteRange;

/// One write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Task {
    /// Index of the output file.
    pub file: usize,
    /// Where in it.
    pub at: u64,
    /// How many bytes.
    pub len: u64,
    /// Where the bytes come from.
    pub from: From,
    /// The first source byte, by which tasks are ordered: sources are read once, from front to back.
    pub key: (usize, u64),
}

/// Where the bytes of a task come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// One run of one source, unchanged: written from its mapping.
    Mapped {
        /// Index of the source.
        source: usize,
        /// Where in it.
        at: u64,
    },
    /// Put together in a buffer.
    Built,
}

/// Runs shorter than this are copied to a buffer with their neighbours.
const MAPPED_FROM: u64 = 64 << 10;

/// Cuts the files into tasks, in the order in which they should be done.
/// `direct`: writes go past the page cache, so mapped ranges must lie at the same place of a block in source and target.
pub(super) fn tasks(plan: &Plan, targets: &[Target<'_>], direct: bool, config: &EngineConfig) -> Vec<Task> {
    let mut tasks = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        cut_file(plan, index, target, direct, config, &mut tasks);
    }
    sort(&mut tasks);
    tasks
}

/// The order in which tasks should be done: a stable order of source bytes, so that all ranks' pieces of one block of rows follow
/// one another.
pub(super) fn sort(tasks: &mut [Task]) {
    tasks.sort_by_key(|task| task.key);
}

/// Cuts `len` bytes of a target from `at` on into chunks of at most `most` that are all put together.
pub(super) fn cut(
    plan: &Plan,
    file: usize,
    target: &Target<'_>,
    (at, len): (u64, u64),
    most: u64,
    tasks: &mut Vec<Task>,
) {
    let (end, mut from) = (at + len, at);
    while from < end {
        let to = end.min((from / most + 1) * most);
        let key = key_of(plan, target, from, to - from);
        tasks.push(Task { file, at: from, len: to - from, from: From::Built, key });
        from = to;
    }
}

fn cut_file(
    plan: &Plan,
    file_index: usize,
    target: &Target<'_>,
    direct: bool,
    config: &EngineConfig,
    tasks: &mut Vec<Task>,
) {
    let len = target.len();
    let built_chunk =
        config.chunk().min(if direct { EngineConfig::BUILT_CHUNK } else { EngineConfig::CACHED_STEP as u64 });
    let mut at = 0;
    let build = |from: u64, to: u64, tasks: &mut Vec<Task>| {
        let mut from = from;
        while from < to {
            // Later chunks begin at multiples of the chunk, so that all of a file's chunks but the first are alike.
            let end = to.min((from / built_chunk + 1) * built_chunk);
            let key = key_of(plan, target, from, end - from);
            tasks.push(Task { file: file_index, at: from, len: end - from, from: From::Built, key });
            from = end;
        }
    };
    for run in mapped_runs(plan, target) {
        // Whole blocks can be shared, or read and written past the page cache; other runs only through it.
        let alike = run.source_at % FileLayout::BLOCK == run.at % FileLayout::BLOCK;
        if direct && !alike {
            continue;
        }
        let block = if alike { FileLayout::BLOCK } else { 1 };
        let (from, to) = (run.at.next_multiple_of(block).max(at), (run.at + run.len) / block * block);
        if to < from + MAPPED_FROM {
            continue;
        }
        build(at, from, tasks);
        let mut next = from;
        while next < to {
            let end = to.min(next + config.largest_chunk);
            let source_at = run.source_at + (next - run.at);
            tasks.push(Task {
                file: file_index,
                at: next,
                len: end - next,
                from: From::Mapped { source: run.source, at: source_at },
                key: (run.source, source_at),
            });
            next = end;
        }
        at = to;
    }
    build(at, len, tasks);
}

/// A range of an output file that is one unchanged run of a source file.
struct MappedRun {
    at: u64,
    len: u64,
    source: usize,
    source_at: u64,
}

/// The runs of a file, in file order.
fn mapped_runs<'a>(plan: &'a Plan, target: &'a Target<'a>) -> impl Iterator<Item = MappedRun> + 'a {
    target.spans.iter().flat_map(move |span| {
        let Segment::Data { tensor, range } = span.segment else { return Vec::new() };
        let mut runs = Vec::new();
        for route in &target.tensors[*tensor].routes {
            if route.ops != OpsId::COPY || !route.moves.dims.is_empty() {
                continue;
            }
            let (from, to) = (route.moves.dst.max(range.start()), (route.moves.dst + route.moves.run).min(range.end()));
            if from + MAPPED_FROM > to {
                continue;
            }
            let source = plan.stored(route);
            let mut at = span.at + (from - range.start());
            for found in source.extents.locate(route.moves.src + (from - route.moves.dst), to - from) {
                runs.push(MappedRun { at, len: found.len(), source: source.file.index(), source_at: found.start() });
                at += found.len();
            }
        }
        runs
    })
}

/// The first source byte that goes into a range of a file.
pub(super) fn key_of(plan: &Plan, target: &Target<'_>, at: u64, len: u64) -> (usize, u64) {
    for span in target.overlapping(at, len) {
        let Segment::Data { tensor, range } = span.segment else { continue };
        let tensor = &target.tensors[*tensor];
        let from = range.start() + at.saturating_sub(span.at);
        for route in &tensor.routes {
            let (unit, moves) = (plan.unit(route), &route.moves);
            let (from, _) = unit.within(from, from);
            if moves.dst_end() <= from {
                continue;
            }
            // Which repetition of the outermost step the range begins in; the inner ones do not matter for an order.
            let step = moves.dims.first().map_or(0, |d| {
                let skipped = from.saturating_sub(moves.dst) / d.dst_stride;
                skipped.min(d.count - 1) * d.src_stride
            });
            let run = if moves.dims.is_empty() { from.saturating_sub(moves.dst) } else { 0 };
            let source = plan.stored(route);
            let (first, _) = unit.stored(moves.src + step + run, 1);
            let first = source.extents.locate(first, 1).next();
            return (source.file.index(), first.map_or(0, ByteRange::start));
        }
    }
    (0, 0)
}
