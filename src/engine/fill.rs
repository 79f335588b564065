//! Putting together any range of an output from the sources.

use std::sync::Arc;

use super::cast;
use super::dequantise;
use super::low_rank::{Factors, Run};
use super::view::{Source, View, count};
use crate::formats::Segment;
use crate::layout::Dim;
use crate::plan::{OutputFile, OutputTensor, Plan, Route, Transform};
use crate::source::{ByteRange, index};
use crate::sys::Mapping;
use crate::tensor::Dtype;

/// A plan with its sources mapped.
#[derive(Debug)]
pub(super) struct Inputs<'a> {
    pub plan: &'a Plan,
    /// By the index of the plan's sources.
    pub mappings: &'a [Arc<Mapping>],
}

/// A piece of an output file and where it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span<'a> {
    pub at: u64,
    pub segment: &'a Segment,
}

/// The pieces of a file, in order, each with its offset.
pub(super) fn spans(file: &OutputFile) -> Vec<Span<'_>> {
    let mut at = 0;
    let place = |segment| {
        let span = Span { at, segment };
        at += segment.len();
        span
    };
    file.layout.segments.iter().map(place).collect()
}

/// The spans that overlap `at .. at + len`.
pub(super) fn overlapping<'s, 'a>(spans: &'s [Span<'a>], at: u64, len: u64) -> &'s [Span<'a>] {
    let from = spans.partition_point(|s| s.at + s.segment.len() <= at);
    let to = spans.partition_point(|s| s.at < at + len);
    &spans[from..to.max(from)]
}

impl Inputs<'_> {
    /// Writes bytes `at ..` of a file to `buf`. Answers how many values overflowed, tensor by tensor.
    pub(super) fn fill_file(
        &self,
        file: &OutputFile,
        spans: &[Span<'_>],
        at: u64,
        buf: &mut [u8],
        view: &View<'_>,
    ) -> Vec<(usize, u64)> {
        let mut overflowed = Vec::new();
        for span in overlapping(spans, at, buf.len() as u64) {
            let from = at.max(span.at);
            let to = (at + buf.len() as u64).min(span.at + span.segment.len());
            let target = &mut buf[index(from - at)..index(to - at)];
            let skip = from - span.at;
            match span.segment {
                Segment::Literal(bytes) => target.copy_from_slice(&bytes[index(skip)..index(skip) + target.len()]),
                Segment::Data { tensor, range } => {
                    let count = self.fill_tensor(&file.tensors[*tensor], range.start() + skip, target, view);
                    if count > 0 {
                        overflowed.push((*tensor, count));
                    }
                }
                // Written when the rest is.
                Segment::Late(_) => target.fill(0),
            }
        }
        overflowed
    }

    /// Writes bytes `from ..` of an output tensor to `buf`. Answers how many values overflowed.
    pub(super) fn fill_tensor(&self, tensor: &OutputTensor, from: u64, buf: &mut [u8], view: &View<'_>) -> u64 {
        if let Some(how) = &tensor.quantised {
            self.quantise(how, from, buf, view);
            return 0;
        }
        self.fill_routes(&tensor.routes, from, buf, view)
    }

    /// Writes what routes bring to bytes `from ..` of their target to `buf`. Answers how many values overflowed.
    pub(super) fn fill_routes(&self, routes: &[Route], from: u64, buf: &mut [u8], view: &View<'_>) -> u64 {
        let to = from + buf.len() as u64;
        routes_into(routes, from, to).map(|route| self.follow(route, from, buf, view)).sum()
    }

    /// What one route brings to bytes `from ..` of its target.
    fn follow(&self, route: &Route, from: u64, buf: &mut [u8], view: &View<'_>) -> u64 {
        let source = Source::new(&self.plan.tensors[route.source], self.mappings, view);
        let mut overflowed = 0;
        let to = from + buf.len() as u64;
        // Bytes of a run of units that lie in the buffer.
        let inside = |dst: u64, units: u64, width: u64| {
            index((dst + units) * width).min(index(to)) - index((dst * width).max(from))
        };
        if let Transform::Update { from: dtype, to: target, update } = route.transform {
            // Factors are small and read again and again: they come from the mapping, and do not count as gathered.
            let read = |factor: &OutputTensor, from: u64, buf: &mut [u8]| {
                self.fill_tensor(factor, from, buf, &View::default());
            };
            let mut factors = Factors::new(self.plan, &self.plan.updates[update], &read);
            runs_into(route, from, to, &mut |src, dst, units| {
                let run = Run { from: dtype, to: target, src, dst, count: units };
                overflowed += factors.update_run(&source, &run, from, buf);
                count(&view.converted, inside(dst, units, target.size()));
            });
            return overflowed;
        }
        runs_into(route, from, to, &mut |src, dst, units| match route.transform {
            Transform::Copy => source.read(src, &mut buf[index(dst - from)..index(dst + units - from)]),
            Transform::Cast { from: dtype, to } | Transform::Update { from: dtype, to, .. } => {
                overflowed += cast_run(&source, (dtype, to), src, dst, units, from, buf);
                count(&view.converted, inside(dst, units, to.size()));
            }
            Transform::Dequantise { from: kind, to } => {
                overflowed += dequantise::run(&source, (kind, to), (src, dst, units), from, buf);
                count(&view.converted, inside(dst, units, to.size()));
            }
        });
        overflowed
    }

    /// Calls `take(source file, range)` for everything that `fill_file` would read for bytes `at .. at + len` of a file.
    pub(super) fn reads(
        &self,
        file: &OutputFile,
        spans: &[Span<'_>],
        at: u64,
        len: u64,
        take: &mut impl FnMut(usize, ByteRange),
    ) {
        for span in overlapping(spans, at, len) {
            let Segment::Data { tensor, range } = span.segment else { continue };
            let from = range.start() + at.saturating_sub(span.at);
            let to = range.start() + (at + len - span.at).min(range.len());
            let tensor = &file.tensors[*tensor];
            // What an integer is made of is an fp16 element. Scales are read from memory.
            let widened = tensor.quantised.as_ref().map_or(1, |how| how.operand_bytes());
            let (from, to) = (from * widened, to * widened);
            for route in routes_into(tensor.operands(), from, to) {
                let source = &self.plan.tensors[route.source];
                runs_into(route, from, to, &mut |src, _, units| {
                    let (first, len) = route.transform.stored(src, units);
                    source.extents.locate(first, len).for_each(|range| take(source.file, range));
                });
            }
        }
    }
}

/// The routes that bring something to bytes `from .. to` of a tensor.
fn routes_into(routes: &[Route], from: u64, to: u64) -> impl Iterator<Item = &Route> {
    // Routes are sorted by where they begin.
    let begun = routes.iter().take_while(move |route| route.moves.dst * route.transform.unit() < to);
    begun.filter(move |route| route.moves.dst_end() * route.transform.unit() > from)
}

/// Calls `take(src, dst, units)` for every part of a route that falls into bytes `from .. to` of its target. In units of the
/// move; a unit that lies only partly in there counts.
fn runs_into(route: &Route, from: u64, to: u64, take: &mut impl FnMut(u64, u64, u64)) {
    let unit = route.transform.unit();
    let moves = &route.moves;
    walk(&moves.dims, moves.run, moves.src, moves.dst, (from / unit, to.div_ceil(unit)), take);
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
    // The first repetition that ends behind the window's start, and the first that begins behind its end.
    let first = (window.0 + 1).saturating_sub(dst + span).div_ceil(dim.dst_stride).min(dim.count);
    let last = window.1.saturating_sub(dst).div_ceil(dim.dst_stride).min(dim.count);
    for i in first..last {
        walk(inner, run, src + i * dim.src_stride, dst + i * dim.dst_stride, window, take);
    }
}

/// Converts `count` elements from `src` on to the target's elements from `dst` on, where they fall into the buffer, which
/// begins at byte `from` of the target. An element that lies only partly in the buffer is converted by itself, and counted
/// where it begins.
fn cast_run(
    source: &Source<'_>,
    (dtype, to): (Dtype, Dtype),
    src: u64,
    dst: u64,
    count: u64,
    from: u64,
    buf: &mut [u8],
) -> u64 {
    let (width_in, width_out) = (dtype.size(), to.size());
    let end = from + buf.len() as u64;
    let mut overflowed = 0;
    // Cleared only where it is used: clearing it for each run of a kilobyte or two would cost as much as converting that.
    let mut scratch = None;
    let mut done = 0;
    while done < count {
        let at = (dst + done) * width_out;
        let whole = if at >= from { (end - at) / width_out } else { 0 };
        let block = (count - done).min(cast::BLOCK as u64).min(whole.max(1));
        let bytes_in = index(block * width_in);
        let src_at = (src + done) * width_in;
        let input: &[u8] = if let Some(bytes) = source.piece(src_at, bytes_in) {
            bytes
        } else {
            let scratch = &mut scratch.get_or_insert([0u8; cast::BLOCK * 8])[..bytes_in];
            source.read(src_at, scratch);
            scratch
        };
        if whole > 0 {
            let target = index(at - from);
            overflowed += cast::convert(dtype, to, input, &mut buf[target..target + index(block * width_out)]);
        } else {
            let mut one = [0u8; 8];
            let count = cast::convert(dtype, to, input, &mut one[..index(width_out)]);
            let (first, last) = (at.max(from), (at + width_out).min(end));
            buf[index(first - from)..index(last - from)].copy_from_slice(&one[index(first - at)..index(last - at)]);
            overflowed += if at >= from { count } else { 0 };
        }
        done += block;
    }
    overflowed
}
