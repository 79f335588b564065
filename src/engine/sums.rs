//! Comparing the bytes of sources with sums that were recorded earlier.

use std::sync::Arc;

use super::digest::{ChunkSum, Sums};
use super::feed::Feed;
use super::fill::{Inputs, Target};
use super::schedule::{cut, sort};
use super::sinks::measure::measure;
use super::{CancelToken, Crc64, EngineConfig, EngineError, Event, Observer};
use crate::formats::Segment;
use crate::layout::Move;
use crate::plan::{OpsId, OutputTensor, Plan, Route, SourceId, SourceTensor, StoredId};
use crate::source::{ByteRange, Extents};
use crate::storage::LocalBlob;
use crate::tensor::{Dtype, Shape};

/// The bytes of one tensor of a source, and their sum.
#[derive(Clone, Debug)]
pub struct SumOf {
    /// Index of the mapping.
    pub source: usize,
    /// The bytes.
    pub place: Extents,
    /// What their sum should be.
    pub sum: Crc64,
}

/// Sums up what lies at each place. Returns the indices of those whose sum is another, in order. A place past the end of its
/// mapping has no sum.
pub fn differing_sums(
    mappings: &[Arc<LocalBlob>],
    stated: &[SumOf],
    config: &EngineConfig,
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<Vec<usize>, EngineError> {
    let bytes: u64 = stated.iter().map(|one| one.place.len()).sum();
    // Where little of them is summed up, the rest need not be read.
    if bytes > mappings.iter().map(|mapping| mapping.len() as u64).sum::<u64>() / 2 {
        for mapping in mappings {
            mapping.read_through();
        }
    }
    observer.event(Event::Started { bytes });
    let is_there = |one: &SumOf| {
        let file = mappings[one.source].len() as u64;
        one.place.parts().iter().all(|(_, range)| range.end() <= file)
    };
    let plan =
        Plan { tensors: stated.iter().map(|one| source_tensor(one.source, &one.place)).collect(), ..Plan::default() };
    let tensors: Vec<OutputTensor> = stated.iter().enumerate().map(|(at, one)| as_it_is(at, one.place.len())).collect();
    let segments: Vec<Segment> = stated.iter().map(whole).collect();
    let targets: Vec<Target<'_>> =
        tensors.chunks(1).zip(segments.chunks(1)).map(|(tensor, segment)| Target::new(tensor, segment)).collect();
    let (mut tasks, mut found) = (Vec::new(), Vec::new());
    for (at, one) in stated.iter().enumerate() {
        if is_there(one) {
            cut(&plan, at, &targets[at], (0, one.place.len()), config.chunk(), &mut tasks);
        } else {
            // The rest is not looked at.
            observer.event(Event::Written { bytes: one.place.len() });
            found.push(at);
        }
    }
    sort(&mut tasks);
    let feed = Feed::new(Inputs { plan: &plan, mappings }, &targets, &tasks, config, observer, cancel);
    let chunks =
        measure(&feed, "sums", &tasks, |_, task, bytes| Ok(ChunkSum::of_tensor(task.file, 0, task.at, bytes)))?;
    let mut sums = Sums::new(chunks);
    found.extend((0..stated.len()).filter(|&at| is_there(&stated[at]) && sums.tensor(at, 0) != stated[at].sum));
    found.sort_unstable();
    Ok(found)
}

/// Bytes of a source as a tensor of it.
pub(super) fn source_tensor(source: usize, place: &Extents) -> SourceTensor {
    SourceTensor { file: SourceId::new(source), name: "".into(), dtype: Dtype::U8, extents: place.clone() }
}

/// All `len` bytes of the source tensor with this number.
pub(super) fn as_it_is(source: usize, len: u64) -> OutputTensor {
    let moves = Move { src: 0, dst: 0, run: len, dims: Box::new([]) };
    OutputTensor {
        name: "".into(),
        dtype: Dtype::U8,
        shape: Shape::new([len]).unwrap_or_default(),
        first_holder: true,
        routes: vec![Route { source: StoredId::new(source), ops: OpsId::COPY, moves }],
    }
}

fn whole(one: &SumOf) -> Segment {
    Segment::Data { tensor: 0, range: ByteRange::new(0, one.place.len()).expect("a length begins at 0") }
}
