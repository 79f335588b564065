//! Comparing a quantised checkpoint, dequantised, with the unquantised one.

use std::sync::Arc;

use half::f16;

use crate::engine::feed::Feed;
use crate::engine::fill::{Inputs, Target};
use crate::engine::schedule::{From, Task, key_of, sort};
use crate::engine::sinks::measure::measure;
use crate::engine::view::View;
use crate::engine::{CancelToken, EngineConfig, EngineError, Event, Observer};
use crate::formats::Segment;
use crate::plan::{Compare, OpsId, OutputTensor, Plan, SourceId, SourceTensor, StoredId, Tolerance, Width};
use crate::source::{ByteRange, index};
use crate::storage::LocalBlob;

/// Bytes of unquantised elements that are compared at once.
const BLOCK_BYTES: u64 = 256 << 10;

/// How far one tensor of a quantised checkpoint is from the unquantised one.
#[derive(Clone, Debug, PartialEq)]
pub struct Distance {
    /// The tensor.
    pub name: String,
    /// The greatest difference, in steps (scales of the row or group). Infinite where something that is not quantised differs at all.
    pub steps: f64,
    /// The element in which it is.
    pub element: u64,
}

/// Compares all pairs; returns one distance for each.
///
/// # Errors
/// A cancelled run.
pub fn distances(
    pairs: &Tolerance,
    plain: &[Arc<LocalBlob>],
    other: &[Arc<LocalBlob>],
    config: &EngineConfig,
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<Vec<Distance>, EngineError> {
    let mappings = [plain, other].concat();
    for mapping in &mappings {
        mapping.read_through();
    }
    let (plan, pairs) = as_one(pairs);
    let segments: Vec<Vec<Segment>> = pairs.iter().map(Pair::segments).collect();
    let targets: Vec<Target<'_>> =
        pairs.iter().zip(&segments).map(|(pair, segments)| Target::new(&pair.tensors, segments)).collect();
    let mut tasks = Vec::new();
    for ((file, pair), target) in pairs.iter().enumerate().zip(&targets) {
        let (mut at, mut elements) = (0, 0);
        while elements < pair.elements() {
            let count = pair.step().min(pair.elements() - elements);
            let len = pair.here(count) + pair.there(count);
            let key = key_of(&plan, target, at, len);
            tasks.push(Task { file, at, len, from: From::Built, key });
            (at, elements) = (at + len, elements + count);
        }
    }
    sort(&mut tasks);
    observer.event(Event::Started { bytes: targets.iter().map(Target::len).sum() });
    let feed = Feed::new(Inputs { plan: &plan, mappings: &mappings }, &targets, &tasks, config, observer, cancel);
    let mut blocks = measure(&feed, "tolerance", &tasks, |_, task, bytes| {
        let pair = &pairs[task.file];
        let first = task.at / (pair.here(pair.step()) + pair.there(pair.step())) * pair.step();
        Ok((task.file, pair.distance(first, bytes, &feed.inputs)))
    })?;
    let mut worst: Vec<Worst> = vec![Worst::default(); pairs.len()];
    blocks.sort_by_key(|(pair, block)| (*pair, block.element));
    for (pair, block) in blocks {
        worst[pair].see(block.steps, block.element);
    }
    let distance = |(pair, worst): (&Pair<'_>, Worst)| {
        let steps = if worst.steps.is_nan() { f64::INFINITY } else { worst.steps };
        Distance { name: pair.compare.name.clone(), steps, element: worst.element }
    };
    Ok(pairs.iter().zip(worst).map(distance).collect())
}

/// The greatest difference so far, and in which element. What is no number is greater than all others.
#[derive(Clone, Copy, Debug, Default)]
struct Worst {
    steps: f64,
    element: u64,
}

impl Worst {
    fn see(&mut self, steps: f64, element: u64) {
        if steps > self.steps || steps.is_nan() {
            *self = Self { steps, element };
        }
    }
}

/// The routes of two checkpoints as those of one plan, so that they are read by the same windows: the sources of the other follow
/// those of the first.
fn as_one(pairs: &Tolerance) -> (Plan, Vec<Pair<'_>>) {
    let Tolerance { plain, other, pairs } = pairs;
    let mut plan = Plan {
        sources: plain.sources.iter().chain(&other.sources).cloned().collect(),
        tensors: plain.tensors.clone(),
        pipelines: plain.pipelines.iter().chain(&other.pipelines).cloned().collect(),
        operands: plain.operands.clone(),
        ..Plan::default()
    };
    assert!(other.operands.is_empty(), "what is quantised is read as it is stored");
    let (files, tensors, pipelines) = (plain.sources.len(), plain.tensors.len(), plain.pipelines.len());
    let moved_to = |file: SourceId| SourceId::new(file.index() + files);
    let moved = other.tensors.iter().map(|tensor| SourceTensor { file: moved_to(tensor.file), ..tensor.clone() });
    plan.tensors.extend(moved);
    let of_other = |tensor: &OutputTensor| {
        let mut tensor = tensor.clone();
        for route in &mut tensor.routes {
            route.source = StoredId::new(route.source.index() + tensors);
            if route.ops != OpsId::COPY {
                route.ops = OpsId::new(route.ops.index() + pipelines);
            }
        }
        tensor
    };
    let mut all = Vec::with_capacity(pairs.len());
    for compare in pairs {
        let tensors = [compare.plain.clone(), of_other(&compare.other)];
        all.push(Pair { compare, tensors, scales: compare.scales.as_ref().map(of_other) });
    }
    (plan, all)
}

/// A tensor of both checkpoints: a file in which a block of the one and the same elements of the other take turns.
struct Pair<'a> {
    compare: &'a Compare,
    tensors: [OutputTensor; 2],
    scales: Option<OutputTensor>,
}

impl Pair<'_> {
    fn elements(&self) -> u64 {
        self.compare.plain.shape.elements()
    }

    /// Elements of a block: an even number.
    fn step(&self) -> u64 {
        BLOCK_BYTES / self.here(1)
    }

    /// Bytes of so many elements of the unquantised one.
    fn here(&self, elements: u64) -> u64 {
        elements * self.compare.plain.dtype.size()
    }

    /// Bytes of so many elements of the other.
    fn there(&self, elements: u64) -> u64 {
        elements * self.compare.other.dtype.size() / self.compare.width.in_a_byte()
    }

    fn segments(&self) -> Vec<Segment> {
        let range = |from, to| ByteRange::new(from, to - from).expect("a tensor has fewer than 2^64 bytes");
        let mut segments = Vec::new();
        let mut at = 0;
        while at < self.elements() {
            let end = self.elements().min(at + self.step());
            segments.push(Segment::Data { tensor: 0, range: range(self.here(at), self.here(end)) });
            segments.push(Segment::Data { tensor: 1, range: range(self.there(at), self.there(end)) });
            at = end;
        }
        segments
    }

    /// The greatest difference of a block that begins at an element, where there is none the block's first element. `bytes`: the
    /// one, then the other.
    fn distance(&self, first: u64, bytes: &[u8], inputs: &Inputs<'_>) -> Worst {
        let (here, there) = (self.here(1), self.there(2));
        // As many elements of each: 2 at a time, for two may be in one byte.
        let elements = bytes.len() as u64 * 2 / (here * 2 + there);
        let (mine, theirs) = bytes.split_at(index(self.here(elements)));
        let mut worst = Worst { steps: 0.0, element: first };
        let Some(scales) = &self.scales else {
            if let Some(byte) = mine.iter().zip(theirs).position(|(a, b)| a != b) {
                worst.see(f64::INFINITY, first + byte as u64 / here);
            }
            return worst;
        };
        let group = self.compare.group.max(1);
        let (from, to) = (first / group, (first + elements).div_ceil(group));
        let mut halves = vec![0; index((to - from) * 2)];
        inputs.fill_tensor(scales, from * 2, &mut halves, &View::default());
        let scales: Vec<f32> = halves.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect();
        for (element, (a, b)) in (first..).zip(mine.as_chunks::<2>().0.iter().zip(integers(self.compare.width, theirs)))
        {
            let scale = scales[index(element / group - from)];
            let difference = f16::from_le_bytes(*a).to_f32() - f32::from(b) * scale;
            let steps = f64::from(difference.abs() / scale);
            // A row of zeros has the scale 0.
            worst.see(if difference == 0.0 { 0.0 } else { steps }, element);
        }
        worst
    }
}

/// The integers of a quantised weight.
fn integers(width: Width, bytes: &[u8]) -> impl Iterator<Item = i8> + '_ {
    // Shifting a signed number to the right keeps its sign.
    let low_first = |byte: u8| [(byte << 4).cast_signed() >> 4, byte.cast_signed() >> 4];
    bytes.iter().flat_map(move |&byte| {
        let (pair, count) = match width {
            Width::Int8 => ([byte.cast_signed(), 0], 1),
            Width::Int4 => (low_first(byte), 2),
        };
        pair.into_iter().take(count)
    })
}
