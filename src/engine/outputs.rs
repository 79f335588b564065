//! The files of a plan without a file: any range of any of them, put together when it is asked for, by any thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use smallvec::SmallVec;

use super::fill::{Inputs, Span, Target};
use super::view::View;
use crate::formats::Segment;
use crate::plan::{Plan, SourceId};
use crate::source::{ByteRange, ReadAhead};
use crate::storage::LocalBlob;

/// Ranges of a source that are no farther apart are read ahead as one.
const GAP: u64 = 64 << 10;
/// After so many bytes the pages of the sources are let go, so that the process does not seem to hold all of them. They stay in the
/// page cache.
const HELD_AT_MOST: u64 = 256 << 20;

/// The files of a plan, with the sources that they are made of.
#[derive(Debug)]
pub struct Outputs {
    plan: Plan,
    mappings: Vec<Arc<LocalBlob>>,
    /// For each file, where each of its segments begins.
    starts: Vec<Box<[u64]>>,
    /// Sources that are read beside those that a range names: of the operands of ops.
    beside: Vec<usize>,
    /// Bytes that were put together, ever.
    gathered: AtomicU64,
}

/// Ranges of sources, by the index of the source.
pub type Reads = SmallVec<[(usize, ByteRange); 4]>;

impl Outputs {
    /// The files of a plan that was [proved](crate::plan::prove), whose sources are mapped in its order. What its passes have computed
    /// is the last of them.
    ///
    /// # Panics
    /// Where there is not one mapping of the right length for each source.
    pub fn new(plan: Plan, mappings: Vec<Arc<LocalBlob>>) -> Self {
        assert!(plan.lengths().eq(mappings.iter().map(|mapping| mapping.len() as u64)), "one mapping for each source");
        let begins = |at: &mut u64, len: u64| {
            let start = *at;
            *at += len;
            Some(start)
        };
        let starts =
            plan.outputs.iter().map(|file| file.layout.segments.iter().map(Segment::len).scan(0, begins).collect());
        let starts = starts.collect();
        let routes = plan.operands.iter().flat_map(|operand| &operand.routes);
        let files = routes.map(|route| plan.stored(route).file).filter(|file| !plan.is_memory(*file));
        let mut beside: Vec<usize> = files.map(SourceId::index).collect();
        beside.sort_unstable();
        beside.dedup();
        Self { plan, mappings, starts, beside, gathered: AtomicU64::new(0) }
    }

    /// The sources, in the plan's order.
    pub fn mappings(&self) -> &[Arc<LocalBlob>] {
        &self.mappings
    }

    /// What bytes `at .. at + len` of a file are made of: of each source one range or a few, which may hold more than is read.
    pub fn reads(&self, file: usize, at: u64, len: u64) -> Reads {
        let mut reads: Reads = SmallVec::new();
        self.inputs().reads(&self.target(file, at, len), at, len, &mut |source, range| {
            let known = reads.iter_mut().rev().find(|(known, read)| *known == source && are_near(*read, range));
            match known {
                Some((_, read)) => *read = hull(*read, range),
                None => reads.push((source, range)),
            }
        });
        reads.extend(self.beside.iter().filter_map(|source| Some((*source, ByteRange::new(0, 0)?))));
        reads
    }

    /// Tells the kernel what is about to be read.
    pub fn will_read(&self, reads: &Reads) {
        for (source, range) in reads {
            self.mappings[*source].will_read(*range);
        }
    }

    /// The length of a file.
    pub fn len(&self, file: usize) -> u64 {
        self.plan.outputs[file].layout.len()
    }

    /// How many tensors a file has.
    pub fn tensors(&self, file: usize) -> usize {
        self.plan.outputs[file].tensors.len()
    }

    /// Reads bytes `at ..` of a file. What is known only when all of it is written, a checksum of it, is read as zeros. Returns how
    /// many finite values became infinite, each counted where it begins.
    ///
    /// # Panics
    /// Where the range ends after the file.
    pub fn read(&self, file: usize, at: u64, buf: &mut [u8]) -> u64 {
        let output = &self.plan.outputs[file];
        let end = at.checked_add(buf.len() as u64);
        assert!(end.is_some_and(|end| end <= output.layout.len()), "the range ends after the file");
        let overflowed = self.inputs().fill_target(&self.target(file, at, buf.len() as u64), at, buf, &View::default());
        let len = buf.len() as u64;
        let before = self.gathered.fetch_add(len, Ordering::Relaxed);
        if before / HELD_AT_MOST != (before + len) / HELD_AT_MOST {
            for mapping in &self.mappings {
                mapping.release(0, mapping.len() as u64);
            }
        }
        overflowed.into_iter().map(|(_, count)| count).sum()
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs { plan: &self.plan, mappings: &self.mappings }
    }

    /// The part of a file that bytes `at .. at + len` lie in.
    fn target(&self, file: usize, at: u64, len: u64) -> Target<'_> {
        let (starts, segments) = (&self.starts[file], &self.plan.outputs[file].layout.segments);
        let first = starts.partition_point(|start| *start <= at).saturating_sub(1);
        let places = starts.iter().zip(segments).skip(first).take_while(|(start, _)| **start < at + len);
        let spans = places.map(|(at, segment)| Span { at: *at, segment }).collect();
        Target { tensors: &self.plan.outputs[file].tensors, spans }
    }
}

fn are_near(a: ByteRange, b: ByteRange) -> bool {
    a.start() <= b.end() + GAP && b.start() <= a.end() + GAP
}

fn hull(a: ByteRange, b: ByteRange) -> ByteRange {
    let (start, end) = (a.start().min(b.start()), a.end().max(b.end()));
    ByteRange::new(start, end - start).unwrap_or(a)
}
