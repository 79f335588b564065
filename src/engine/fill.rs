//! Putting together any range of an output from the sources.

use std::sync::Arc;

use super::ops::{Operands, Pipeline};
use super::view::{Source, View, count};
use crate::formats::Segment;
use crate::layout::Dim;
use crate::plan::{OperandId, OpsId, OutputFile, OutputTensor, Plan, Route, Unit};
use crate::source::{ByteRange, index};
use crate::storage::LocalBlob;

/// A plan with its sources mapped.
#[derive(Debug)]
pub(super) struct Inputs<'a> {
    pub plan: &'a Plan,
    /// By the index of the plan's sources.
    pub mappings: &'a [Arc<LocalBlob>],
}

/// A piece of an output file and where it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span<'a> {
    pub at: u64,
    pub segment: &'a Segment,
}

/// Something that is put together: tensors, and the pieces of the file, written or not, that they are in.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub tensors: &'a [OutputTensor],
    /// In order.
    pub spans: Vec<Span<'a>>,
}

impl<'a> Target<'a> {
    pub(super) fn new(tensors: &'a [OutputTensor], segments: &'a [Segment]) -> Self {
        let mut at = 0;
        let place = |segment: &'a Segment| {
            let span = Span { at, segment };
            at += segment.len();
            span
        };
        Self { tensors, spans: segments.iter().map(place).collect() }
    }

    /// A file that a plan writes.
    pub(super) fn of(file: &'a OutputFile) -> Self {
        Self::new(&file.tensors, &file.layout.segments)
    }

    /// Its bytes.
    pub(super) fn len(&self) -> u64 {
        self.spans.last().map_or(0, |span| span.at + span.segment.len())
    }

    /// The spans that overlap `at .. at + len`.
    pub(super) fn overlapping(&self, at: u64, len: u64) -> &[Span<'a>] {
        let from = self.spans.partition_point(|s| s.at + s.segment.len() <= at);
        let to = self.spans.partition_point(|s| s.at < at + len);
        &self.spans[from..to.max(from)]
    }
}

impl Inputs<'_> {
    /// Writes bytes `at ..` of a target to `buf`. Returns how many values overflowed, tensor by tensor.
    pub(super) fn fill_target(
        &self,
        target: &Target<'_>,
        at: u64,
        buf: &mut [u8],
        view: &View<'_>,
    ) -> Vec<(usize, u64)> {
        let mut overflowed = Vec::new();
        for span in target.overlapping(at, buf.len() as u64) {
            let from = at.max(span.at);
            let to = (at + buf.len() as u64).min(span.at + span.segment.len());
            let part = &mut buf[index(from - at)..index(to - at)];
            let skip = from - span.at;
            match span.segment {
                Segment::Literal(bytes) => part.copy_from_slice(&bytes[index(skip)..index(skip) + part.len()]),
                Segment::Data { tensor, range } => {
                    let count = self.fill_tensor(&target.tensors[*tensor], range.start() + skip, part, view);
                    if count > 0 {
                        overflowed.push((*tensor, count));
                    }
                }
                // Written when the rest is.
                Segment::Late(_) => part.fill(0),
            }
        }
        overflowed
    }

    /// Bytes `at .. at + len` of a target, where they lie in one piece of a source as they are.
    pub(super) fn piece<'v>(&'v self, target: &Target<'_>, at: u64, len: u64, view: &'v View<'v>) -> Option<&'v [u8]> {
        let [Span { at: begin, segment: Segment::Data { tensor, range } }] = target.overlapping(at, len) else {
            return None;
        };
        let tensor = &target.tensors[*tensor];
        let from = range.start() + (at - begin);
        let mut routes = self.routes_into(&tensor.routes, from, from + len);
        let (Some((route, _)), None) = (routes.next(), routes.next()) else { return None };
        let moves = &route.moves;
        let whole = moves.dims.is_empty() && moves.dst <= from && from + len <= moves.dst + moves.run;
        if route.ops != OpsId::COPY || !whole {
            return None;
        }
        let source = Source::new(self.plan.stored(route), self.mappings, view);
        source.piece(moves.src + (from - moves.dst), index(len))
    }

    /// Writes bytes `from ..` of an output tensor to `buf`. Returns how many values overflowed.
    pub(super) fn fill_tensor(&self, tensor: &OutputTensor, from: u64, buf: &mut [u8], view: &View<'_>) -> u64 {
        self.fill_routes(&tensor.routes, from, buf, view)
    }

    /// Writes what routes bring to bytes `from ..` of their target to `buf`. Returns how many values overflowed.
    fn fill_routes(&self, routes: &[Route], from: u64, buf: &mut [u8], view: &View<'_>) -> u64 {
        let to = from + buf.len() as u64;
        let mut overflowed = 0;
        // Routes of one tensor follow one another with the same ops as a rule.
        let mut pipeline: Option<Pipeline<'_>> = None;
        for (route, unit) in self.routes_into(routes, from, to) {
            let source = Source::new(self.plan.stored(route), self.mappings, view);
            if route.ops == OpsId::COPY {
                runs_into(route, unit, from, to, &mut |src, dst, bytes| {
                    source.read(src, &mut buf[index(dst - from)..index(dst + bytes - from)]);
                });
                continue;
            }
            if !pipeline.as_ref().is_some_and(|known| known.is(route.ops)) {
                // What the last one holds is let go before more is read.
                drop(pipeline.take());
                pipeline = Some(Pipeline::new(route.ops, self.plan.ops(route.ops), unit, self));
            }
            let Some(pipeline) = &mut pipeline else { continue };
            runs_into(route, unit, from, to, &mut |src, dst, units| {
                overflowed += pipeline.run(&source, (src, dst, units), from, buf);
                // Of a run, the bytes that lie in the buffer.
                let (first, last) = (unit.byte(dst).max(from), unit.byte(dst + units).min(to));
                count(&view.converted, index(last - first));
            });
        }
        overflowed
    }

    /// Calls `take(source file, range)` for everything that `fill_target` would read for bytes `at .. at + len` of a target.
    pub(super) fn reads(&self, target: &Target<'_>, at: u64, len: u64, take: &mut impl FnMut(usize, ByteRange)) {
        for span in target.overlapping(at, len) {
            let Segment::Data { tensor, range } = span.segment else { continue };
            let from = range.start() + at.saturating_sub(span.at);
            let to = range.start() + (at + len - span.at).min(range.len());
            let tensor = &target.tensors[*tensor];
            for (route, unit) in self.routes_into(&tensor.routes, from, to) {
                let source = self.plan.stored(route);
                runs_into(route, unit, from, to, &mut |src, _, units| {
                    let (first, len) = unit.stored(src, units);
                    source.extents.locate(first, len).for_each(|range| take(source.file.index(), range));
                });
            }
        }
    }

    /// The routes that bring something to bytes `from .. to` of a tensor, with the units of their moves.
    fn routes_into<'a>(&'a self, routes: &'a [Route], from: u64, to: u64) -> impl Iterator<Item = (&'a Route, Unit)> {
        // Routes are sorted by where they begin.
        let begun = routes.iter().map(|route| (route, self.plan.unit(route)));
        let begun = begun.take_while(move |(route, unit)| unit.byte(route.moves.dst) < to);
        begun.filter(move |(route, unit)| (route.moves.dst_end() * unit.written).div_ceil(8) > from)
    }
}

impl Operands for Inputs<'_> {
    fn operand(&self, id: OperandId) -> &OutputTensor {
        self.plan.operand(id)
    }

    fn read(&self, id: OperandId, from: u64, buf: &mut [u8]) {
        // Operands are small, and read again and again: they come from the mapping, and do not count as gathered.
        self.fill_tensor(self.plan.operand(id), from, buf, &View::default());
    }
}

/// Calls `take(src, dst, units)` for every part of a route that falls into bytes `from .. to` of its target. In units of the
/// move; a unit that lies only partly in there counts.
fn runs_into(route: &Route, unit: Unit, from: u64, to: u64, take: &mut impl FnMut(u64, u64, u64)) {
    let moves = &route.moves;
    walk(&moves.dims, moves.run, moves.src, moves.dst, unit.within(from, to), take);
}

/// Calls `run(src, dst, units)` for every part of a move that falls into the window of the target.
fn walk(dims: &[Dim], run: u64, src: u64, dst: u64, window: (u64, u64), take: &mut impl FnMut(u64, u64, u64)) {
    let Some((dim, inner)) = dims.split_first() else {
        let (from, to) = (dst.max(window.0), (dst + run).min(window.1));
        if from < to {
            take(src + (from - dst), from, to - from);
        }
        return;
    };
    let span = run + inner.iter().map(|d| (d.count - 1) * d.dst_stride).sum::<u64>();
    // The first repetition that ends after the window's start, and the first that begins after its end.
    let first = (window.0 + 1).saturating_sub(dst + span).div_ceil(dim.dst_stride).min(dim.count);
    let last = window.1.saturating_sub(dst).div_ceil(dim.dst_stride).min(dim.count);
    for i in first..last {
        walk(inner, run, src + i * dim.src_stride, dst + i * dim.dst_stride, window, take);
    }
}
