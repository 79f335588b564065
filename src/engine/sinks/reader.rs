//! Any range of any file that a plan writes, put together when it is requested.

use std::sync::{Arc, OnceLock};

use crc_fast::CrcAlgorithm::Crc32IsoHdlc;
use smallvec::SmallVec;

use crate::engine::feed::Gathered;
use crate::engine::fill::{Inputs, Span, Target};
use crate::engine::late::Covered;
use crate::engine::view::View;
use crate::formats::Segment;
use crate::plan::{OutputFile, Plan, Route, SourceId};
use crate::source::{ByteRange, ReadAhead, index};
use crate::storage::LocalBlob;

/// Bytes that are summed at once for a checksum that a file holds of its own bytes.
const STEP: usize = 1 << 20;
/// Ranges of a source that are no farther apart are read ahead as one.
const GAP: u64 = 64 << 10;

/// Any range of the files that a plan writes, put together when it is requested. Threads may share it.
#[derive(Debug)]
pub struct OutputReader {
    plan: Plan,
    mappings: Vec<Arc<LocalBlob>>,
    files: Vec<File>,
    /// Sources of the operands of ops, which are read beside those that a range names.
    beside: Vec<usize>,
    gathered: Gathered,
}

#[derive(Debug)]
struct File {
    /// Where each of its segments begins.
    starts: Box<[u64]>,
    covered: Covered,
    /// The sums of what is covered, computed when first requested.
    sums: Vec<OnceLock<u32>>,
}

/// Ranges of sources, by the index of the source.
pub type Reads = SmallVec<[(usize, ByteRange); 4]>;

impl OutputReader {
    /// A reader of the files of a plan that was [proved](crate::plan::prove), whose sources are mapped in its order.
    ///
    /// # Panics
    /// Where there is not one mapping of the right length for each source.
    pub fn new(plan: Plan, mappings: Vec<Arc<LocalBlob>>) -> Self {
        assert!(plan.lengths().eq(mappings.iter().map(|mapping| mapping.len() as u64)), "one mapping for each source");
        let file = |output: &OutputFile| {
            let covered = Covered::new(&output.layout);
            let sums = (0..covered.len()).map(|_| OnceLock::new()).collect();
            File { starts: Target::of(output).spans.iter().map(|span| span.at).collect(), covered, sums }
        };
        let files = plan.outputs.iter().map(file).collect();
        let beside = sources(&plan, plan.operands.iter().flat_map(|operand| &operand.routes));
        let gathered = Gathered::new(u64::MAX, &mappings);
        Self { plan, mappings, files, beside, gathered }
    }

    /// What is read.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The sources, in the plan's order.
    pub fn mappings(&self) -> &[Arc<LocalBlob>] {
        &self.mappings
    }

    /// What bytes `at .. at + len` of a file are made of: of each source one range or a few, which may hold more than is read, or
    /// less of what a checksum is the sum of.
    pub fn reads(&self, file: usize, at: u64, len: u64) -> Reads {
        let mut reads: Reads = SmallVec::new();
        let target = self.target(file, at, len);
        self.inputs().reads(&target, at, len, &mut |source, range| {
            let known = reads.iter_mut().rev().find(|(known, read)| *known == source && are_near(*read, range));
            match known {
                Some((_, read)) => *read = hull(*read, range),
                None => reads.push((source, range)),
            }
        });
        let nothing = |source: usize| Some((source, ByteRange::new(0, 0)?));
        reads.extend(self.beside.iter().copied().filter_map(nothing));
        if target.overlapping(at, len).iter().any(|span| matches!(span.segment, Segment::Late(_))) {
            let routes = target.tensors.iter().flat_map(|tensor| &tensor.routes);
            reads.extend(sources(&self.plan, routes).into_iter().filter_map(nothing));
        }
        reads
    }

    /// Advises the kernel of what is about to be read.
    pub fn will_read(&self, reads: &Reads) {
        for (source, range) in reads {
            self.mappings[*source].will_read(*range);
        }
    }

    /// Reads bytes `at ..` of output file `file`, by its index in the plan. A checksum of the file's own bytes costs reading all
    /// that it covers, once. Returns how many finite values became infinite; one that lies only partly in the range is counted
    /// where it begins.
    ///
    /// # Panics
    /// Where the range ends after the file.
    pub fn read(&self, file: usize, at: u64, buf: &mut [u8]) -> u64 {
        let end = at.checked_add(buf.len() as u64);
        assert!(
            end.is_some_and(|end| end <= self.plan.outputs[file].layout.len()),
            "the range ends past the end of the file"
        );
        let overflowed = self.fill(file, at, buf);
        self.put_sums(file, at, buf);
        overflowed
    }

    /// Everything but checksums.
    fn fill(&self, file: usize, at: u64, buf: &mut [u8]) -> u64 {
        let view = View::new(&[]);
        let overflowed = self.inputs().fill_target(&self.target(file, at, buf.len() as u64), at, buf, &view);
        self.gathered.note(view.from_mappings.get());
        overflowed.into_iter().map(|(_, count)| count).sum()
    }

    /// The checksums in a range.
    fn put_sums(&self, file: usize, at: u64, buf: &mut [u8]) {
        let of = &self.files[file];
        if of.sums.is_empty() {
            return;
        }
        for span in self.target(file, at, buf.len() as u64).overlapping(at, buf.len() as u64) {
            let Segment::Late(checksum) = span.segment else { continue };
            let Some(number) = of.covered.number(checksum.of) else { continue };
            let sum = *of.sums[number].get_or_init(|| self.sum(file, checksum.of));
            let (from, to) = (at.max(span.at), (at + buf.len() as u64).min(span.at + checksum.len()));
            let bytes = &checksum.encode(sum)[index(from - span.at)..index(to - span.at)];
            buf[index(from - at)..index(to - at)].copy_from_slice(bytes);
        }
    }

    /// The CRC-32 of a range, in which there is no checksum.
    fn sum(&self, file: usize, range: ByteRange) -> u32 {
        let mut digest = crc_fast::Digest::new(Crc32IsoHdlc);
        let mut buf = vec![0; STEP.min(index(range.len()))];
        let mut at = range.start();
        while at < range.end() {
            let part = &mut buf[..STEP.min(index(range.end() - at))];
            self.fill(file, at, part);
            digest.update(part);
            at += part.len() as u64;
        }
        u32::try_from(digest.finalize()).unwrap_or_default()
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs { plan: &self.plan, mappings: &self.mappings }
    }

    /// The part of a file that bytes `at .. at + len` lie in.
    fn target(&self, file: usize, at: u64, len: u64) -> Target<'_> {
        let (starts, output) = (&self.files[file].starts, &self.plan.outputs[file]);
        let first = starts.partition_point(|start| *start <= at).saturating_sub(1);
        let places = starts.iter().zip(&output.layout.segments).skip(first).take_while(|(start, _)| **start < at + len);
        Target { tensors: &output.tensors, spans: places.map(|(at, segment)| Span { at: *at, segment }).collect() }
    }
}

/// The files that routes read, each once.
fn sources<'p>(plan: &'p Plan, routes: impl Iterator<Item = &'p Route>) -> Vec<usize> {
    let files = routes.map(|route| plan.stored(route).file).filter(|file| !plan.is_memory(*file));
    let mut sources: Vec<usize> = files.map(SourceId::index).collect();
    sources.sort_unstable();
    sources.dedup();
    sources
}

fn are_near(a: ByteRange, b: ByteRange) -> bool {
    a.start() <= b.end() + GAP && b.start() <= a.end() + GAP
}

fn hull(a: ByteRange, b: ByteRange) -> ByteRange {
    let (start, end) = (a.start().min(b.start()), a.end().max(b.end()));
    ByteRange::new(start, end - start).unwrap_or(a)
}
