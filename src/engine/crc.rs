//! The CRC-32 sums that files state of themselves, taken of their bytes.

use std::sync::Arc;

use super::digest::{ChunkSum, Sums};
use super::feed::Feed;
use super::fill::{Inputs, Target};
use super::schedule::{cut, sort};
use super::sinks::measure::measure;
use super::sums::{as_it_is, source_tensor};
use super::{CancelToken, EngineConfig, EngineError, Event, Observer};
use crate::formats::Summed;
use crate::plan::{OutputTensor, Plan};
use crate::storage::LocalBlob;

/// What a sum is taken of.
#[derive(Clone, Debug)]
pub struct CrcOf {
    /// Index of the mapping.
    pub source: usize,
    /// Its bytes, which lie in the file.
    pub summed: Summed,
}

/// The CRC-32 of each. On all workers, within the memory of the configuration, and as the sources are to be read.
///
/// # Errors
/// A source that cannot be read; `cancel`; a machine that refuses a thread or a buffer.
///
/// # Panics
/// Where bytes are past the end of their source.
pub fn crc32s(
    mappings: &[Arc<LocalBlob>],
    of: &[CrcOf],
    config: &EngineConfig,
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<Vec<u32>, EngineError> {
    let tensors = of.iter().map(|one| source_tensor(one.source, &one.summed.place)).collect();
    let plan = Plan { tensors, ..Plan::default() };
    let whole: Vec<OutputTensor> =
        of.iter().enumerate().map(|(at, one)| as_it_is(at, one.summed.place.len())).collect();
    let targets: Vec<Target<'_>> =
        whole.chunks(1).zip(of).map(|(tensor, one)| Target::new(tensor, &one.summed.segments)).collect();
    observer.event(Event::Started { bytes: targets.iter().map(Target::len).sum() });
    for one in of {
        mappings[one.source].read_through();
    }
    let mut tasks = Vec::new();
    for (at, target) in targets.iter().enumerate() {
        cut(&plan, at, target, (0, target.len()), config.chunk(), &mut tasks);
    }
    sort(&mut tasks);
    let feed = Feed::new(Inputs { plan: &plan, mappings }, &targets, &tasks, config, observer, cancel);
    let chunks = measure(&feed, "crc", &tasks, |_, task, bytes| Ok(ChunkSum::covered(task.file, 0, task.at, bytes)))?;
    let mut sums = Sums::new(chunks);
    Ok((0..of.len()).map(|at| sums.covered(at, 0)).collect())
}
