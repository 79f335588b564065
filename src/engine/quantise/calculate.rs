//! What is computed from whole matrices before anything is written: the factors of smoothed columns, then the scale of each
//! row, and what it costs.
//!
//! Matrices are read in blocks of whole rows, each once for the columns where they are smoothed, and once for the rows.

use std::sync::{Arc, Mutex, PoisonError};

use super::block::{Extent, Row, extent, measure_row, raise_peaks};
use super::rows::{QuantError, Rows};
use super::{arithmetic, fold};
use crate::engine::feed::Feed;
use crate::engine::fill::{Inputs, Target};
use crate::engine::schedule::{Task, cut, sort};
use crate::engine::sinks::measure::measure;
use crate::engine::{CancelToken, EngineConfig, EngineError, Event, Observer};
use crate::formats::Segment;
use crate::plan::{Calculation, Plan};
use crate::source::{ByteRange, index};
use crate::storage::LocalBlob;

/// Bytes of a block of rows: what the second cache holds, or one row.
const BLOCK_BYTES: u64 = 256 << 10;

/// What the passes of a plan have computed.
#[derive(Debug, Default)]
pub struct Calculated {
    /// What is in the memory of the plan.
    pub bytes: Vec<u8>,
    /// One for each matrix.
    pub errors: Vec<QuantError>,
}

/// Carries out the passes of a plan. `mappings` are the source files'.
///
/// # Errors
/// Numbers that are not finite, or scales that fp16 cannot hold; a cancelled run.
pub fn calculate(
    plan: &Plan,
    mappings: &[Arc<LocalBlob>],
    config: &EngineConfig,
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<Calculated, EngineError> {
    for mapping in mappings {
        mapping.read_through();
    }
    let matrices: Vec<&Calculation> = plan.matrices().collect();
    let segments: Vec<Segment> = matrices.iter().map(|matrix| all_of(matrix)).collect();
    let targets: Vec<Target<'_>> = (matrices.iter().zip(segments.chunks(1)))
        .map(|(c, segment)| Target::new(std::slice::from_ref(&c.weight), segment))
        .collect();
    let run = Passes { matrices: &matrices, plan, mappings, targets: &targets, config, observer, cancel };
    let inputs = Inputs { plan, mappings };
    let passes = |c: &Calculation| if c.smooth.is_some() { 2 } else { 1 };
    let bytes = matrices.iter().map(|c| c.rows * c.columns * 2 * passes(c)).sum();
    observer.event(Event::Started { bytes });
    let mut bytes = plan.memory.clone();
    let peaks = run.column_peaks()?;
    fold::smooth(&matrices, &inputs, &peaks, &mut bytes)?;
    let rows = run.rows(&bytes)?;
    let mut errors = Vec::with_capacity(matrices.len());
    for (calculation, rows) in matrices.iter().zip(&rows) {
        fold::finish(calculation, &inputs, rows, &mut bytes)?;
        errors.push(rows.error(calculation));
    }
    for cache in plan.caches() {
        fold::cache(cache, &mut bytes)?;
    }
    Ok(Calculated { bytes, errors })
}

/// A matrix, as the only content of a file.
fn all_of(c: &Calculation) -> Segment {
    let bytes = ByteRange::new(0, c.rows * c.columns * 2).expect("a length begins at 0");
    Segment::Data { tensor: 0, range: bytes }
}

/// Some rows of a matrix.
#[derive(Clone, Copy, Debug)]
struct Block {
    calculation: usize,
    first: u64,
}

struct Passes<'a> {
    matrices: &'a [&'a Calculation],
    plan: &'a Plan,
    mappings: &'a [Arc<LocalBlob>],
    /// The matrices, each as if it were a file.
    targets: &'a [Target<'a>],
    config: &'a EngineConfig,
    observer: &'a dyn Observer,
    cancel: &'a CancelToken,
}

impl Passes<'_> {
    /// The blocks of the matrices that `wanted` names.
    fn tasks(&self, wanted: impl Fn(&Calculation) -> bool) -> Vec<Task> {
        let mut tasks = Vec::new();
        for (number, c) in self.matrices.iter().enumerate().filter(|(_, c)| wanted(c)) {
            let row = c.columns * 2;
            let rows = (BLOCK_BYTES / row.max(1)).max(1);
            cut(self.plan, number, &self.targets[number], (0, c.rows * row), rows * row, &mut tasks);
        }
        sort(&mut tasks);
        tasks
    }

    /// Does the tasks on all workers. Returns what was found of each, matrix by matrix and in the order of their rows.
    fn on_all_workers<T: Send>(
        &self,
        tasks: &[Task],
        work: impl Fn(&Block, &[u8]) -> Result<T, EngineError> + Sync,
    ) -> Result<Vec<(Block, T)>, EngineError> {
        let inputs = Inputs { plan: self.plan, mappings: self.mappings };
        let feed = Feed::new(inputs, self.targets, tasks, self.config, self.observer, self.cancel);
        let mut found = measure(&feed, "quantise", tasks, |_, task, bytes| {
            let row = self.matrices[task.file].columns * 2;
            let block = Block { calculation: task.file, first: task.at / row.max(1) };
            Ok((block, work(&block, bytes)?))
        })?;
        found.sort_by_key(|(block, _)| (block.calculation, block.first));
        Ok(found)
    }

    /// The greatest magnitude of each column of the matrices that are smoothed; empty for others.
    fn column_peaks(&self) -> Result<Vec<Vec<f32>>, EngineError> {
        let of = |c: &Calculation| if c.smooth.is_some() { vec![0f32; index(c.columns)] } else { Vec::new() };
        let peaks: Vec<Mutex<Vec<f32>>> = self.matrices.iter().map(|c| Mutex::new(of(c))).collect();
        self.on_all_workers(&self.tasks(|c| c.smooth.is_some()), |task, bytes| {
            let columns = index(self.matrices[task.calculation].columns);
            let mut here = vec![0f32; columns];
            bytes.chunks(columns * 2).for_each(|row| raise_peaks(row, &mut here));
            let mut all = peaks[task.calculation].lock().unwrap_or_else(PoisonError::into_inner);
            all.iter_mut().zip(here).for_each(|(all, here)| *all = all.max(here));
            Ok(())
        })?;
        Ok(peaks.into_iter().map(|p| p.into_inner().unwrap_or_else(PoisonError::into_inner)).collect())
    }

    /// Scales, sums and errors of all rows. `bytes`: the computed range with the factors in it.
    fn rows(&self, bytes: &[u8]) -> Result<Vec<Rows>, EngineError> {
        let tasks = self.tasks(|_| true);
        let factors = |c: &Calculation| {
            let smooth = c.smooth.as_ref().map(|s| fold::halves(bytes, s.factors, c.columns));
            (smooth, c.divide.map(|at| fold::halves(bytes, at, c.rows)))
        };
        let factors: Vec<_> = self.matrices.iter().map(|matrix| factors(matrix)).collect();
        let blocks = self.on_all_workers(&tasks, |block, bytes| {
            let (multiply, divide) = &factors[block.calculation];
            let c = &self.matrices[block.calculation];
            rows_of(c, block, bytes, multiply.as_deref(), divide.as_deref())
        })?;
        Ok(gathered(self.matrices.len(), blocks))
    }
}

/// Blocks of rows, in order, as matrices. Sums are taken in the order of the rows, so that they are the same in every run.
fn gathered(matrices: usize, blocks: Vec<(Block, Rows)>) -> Vec<Rows> {
    let mut all = vec![Rows::default(); matrices];
    for (Block { calculation, .. }, block) in blocks {
        let rows = &mut all[calculation];
        rows.scales.extend(block.scales);
        rows.sums.extend(block.sums);
        rows.total.greatest = rows.total.greatest.max(block.total.greatest);
        rows.total.squares += block.total.squares;
        rows.total.clipped += block.total.clipped;
        rows.squares += block.squares;
    }
    all
}

/// What is known of a block of rows.
///
/// golden-stick gives a matrix each of whose rows is of one value the scale 1, whatever the values; here its rows are like others.
fn rows_of(
    c: &Calculation,
    block: &Block,
    bytes: &[u8],
    multiply: Option<&[f32]>,
    divide: Option<&[f32]>,
) -> Result<Rows, EngineError> {
    let (columns, group) = (index(c.columns), index(c.group));
    let mut found = Rows::default();
    for (number, bytes) in (block.first..).zip(bytes.chunks(columns * 2)) {
        let divide = divide.map(|d| d[index(number)]);
        let bad = |why| EngineError::Unquantisable { name: c.name.to_string(), row: number, why };
        let mut sum = 0;
        for (at, bytes) in bytes.chunks(group * 2).enumerate() {
            let multiply = multiply.map(|m| &m[at * group..(at + 1) * group]);
            let mut row = Row { width: c.width, arithmetic: c.arithmetic, scale: 0.0, multiply, divide };
            let Extent { peak, squares } = extent(&row, bytes);
            if !peak.is_finite() {
                return Err(bad("holds a number that is not finite in fp16"));
            }
            row.scale = arithmetic::scale(peak, c.width, c.arithmetic);
            if !arithmetic::half(row.scale).is_finite() {
                return Err(bad("has a scale that fp16 cannot hold"));
            }
            let outcome = measure_row(&row, bytes);
            sum += outcome.sum;
            found.squares += squares;
            found.scales.push(row.scale);
            found.total.greatest = found.total.greatest.max(outcome.greatest);
            found.total.squares += outcome.squares;
            found.total.clipped += outcome.clipped;
        }
        if c.input.is_some() {
            found.sums.push(sum);
        }
    }
    Ok(found)
}
