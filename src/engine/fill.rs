//! Putting together any range of an output from the mapped sources.

use std::sync::Arc;

use super::cast;
use crate::formats::Segment;
use crate::layout::Dim;
use crate::plan::{OutputFile, OutputTensor, Plan, Route, SourceTensor, Transform};
use crate::source::Extents;
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
                    let count = self.fill_tensor(&file.tensors[*tensor], range.start() + skip, target);
                    if count > 0 {
                        overflowed.push((*tensor, count));
                    }
                }
            }
        }
        overflowed
    }

    /// Writes bytes `from ..` of an output tensor to `buf`. Answers how many values overflowed.
    pub(super) fn fill_tensor(&self, tensor: &OutputTensor, from: u64, buf: &mut [u8]) -> u64 {
        if let Some(how) = &tensor.quantised {
            self.quantise(how, from, buf);
            return 0;
        }
        self.fill_routes(&tensor.routes, from, buf)
    }

    /// Writes what routes bring to bytes `from ..` of their target to `buf`. Answers how many values overflowed.
    pub(super) fn fill_routes(&self, routes: &[Route], from: u64, buf: &mut [u8]) -> u64 {
        let to = from + buf.len() as u64;
        let mut overflowed = 0;
        for route in routes {
            let (_, unit) = route.transform.unit();
            if route.moves.dst * unit >= to {
                break; // Routes are sorted by where they begin.
            }
            if route.moves.dst_end() * unit > from {
                overflowed += self.follow(route, from, buf);
            }
        }
        overflowed
    }

    /// What one route brings to bytes `from ..` of its target.
    fn follow(&self, route: &Route, from: u64, buf: &mut [u8]) -> u64 {
        let source = Source::new(&self.plan.tensors[route.source], self.mappings);
        let (_, unit) = route.transform.unit();
        // In units of the move; a unit that lies only partly in the buffer counts.
        let window = (from / unit, (from + buf.len() as u64).div_ceil(unit));
        let mut overflowed = 0;
        let moves = &route.moves;
        walk(&moves.dims, moves.run, moves.src, moves.dst, window, &mut |src, dst, count| match route.transform {
            Transform::Copy => source.read(src, &mut buf[index(dst - from)..index(dst + count - from)]),
            Transform::Cast { from: dtype, to } => {
                overflowed += cast_run(&source, (dtype, to), src, dst, count, from, buf);
            }
        });
        overflowed
    }
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

/// A source tensor's bytes.
struct Source<'a> {
    file: &'a [u8],
    extents: &'a Extents,
    /// All of the tensor, where it lies in one piece.
    whole: Option<&'a [u8]>,
}

impl<'a> Source<'a> {
    fn new(tensor: &'a SourceTensor, mappings: &'a [Arc<Mapping>]) -> Self {
        let file: &[u8] = &mappings[tensor.file];
        let whole = tensor.extents.as_contiguous().and_then(|range| range.of(file));
        Self { file, extents: &tensor.extents, whole }
    }

    fn read(&self, at: u64, buf: &mut [u8]) {
        if let Some(whole) = self.whole {
            buf.copy_from_slice(&whole[index(at)..index(at) + buf.len()]);
            return;
        }
        let mut done = 0;
        for range in self.extents.locate(at, buf.len() as u64) {
            let start = index(range.start());
            let len = index(range.len());
            buf[done..done + len].copy_from_slice(&self.file[start..start + len]);
            done += len;
        }
        assert_eq!(done, buf.len(), "a proved plan reads only what is there");
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
    let mut scratch = [0u8; cast::BLOCK * 8];
    let mut done = 0;
    while done < count {
        let at = (dst + done) * width_out;
        let whole = if at >= from { (end - at) / width_out } else { 0 };
        let block = (count - done).min(cast::BLOCK as u64).min(whole.max(1));
        let bytes_in = index(block * width_in);
        let src_at = (src + done) * width_in;
        let input: &[u8] = if let Some(bytes) = source.whole {
            &bytes[index(src_at)..index(src_at) + bytes_in]
        } else {
            source.read(src_at, &mut scratch[..bytes_in]);
            &scratch[..bytes_in]
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

/// An offset inside something mapped or allocated, which by that fits the address space.
pub(super) fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("an offset inside mapped memory fits the address space")
}
