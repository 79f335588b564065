//! Comparing a quantised checkpoint, dequantised, with the unquantised one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use half::f16;

use crate::engine::fill::Inputs;
use crate::engine::thread::{Started, join};
use crate::engine::view::View;
use crate::engine::{CancelToken, EngineConfig, EngineError, Event, Observer};
use crate::plan::{Compare, Tolerance, Width};
use crate::source::index;
use crate::sys::{Mapping, spawn_scoped};

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

/// Compares all pairs; answers one distance for each.
///
/// # Errors
/// A cancelled run.
pub fn distances(
    pairs: &Tolerance,
    plain: &[Arc<Mapping>],
    other: &[Arc<Mapping>],
    config: &EngineConfig,
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<Vec<Distance>, EngineError> {
    for mapping in plain.iter().chain(other) {
        mapping.read_through();
    }
    let plain = Inputs { plan: &pairs.plain, mappings: plain };
    let other = Inputs { plan: &pairs.other, mappings: other };
    observer.event(Event::Started { bytes: pairs.pairs.iter().map(|p| p.plain.shape.bytes(p.plain.dtype)).sum() });
    let next = AtomicUsize::new(0);
    let one_worker = || -> Result<Vec<(usize, Distance)>, EngineError> {
        let mut found = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(pair) = pairs.pairs.get(at) else { return Ok(found) };
            found.push((at, distance(pair, &plain, &other, observer, cancel)?));
        }
    };
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        // Without all threads there is no result: those that have started stop.
        let none_left = |_: &_| next.store(pairs.pairs.len(), Ordering::Relaxed);
        let start = |_| spawn_scoped(scope, "tolerance", one_worker).inspect_err(none_left);
        let threads: Vec<Started<'_, _>> = (0..config.workers.max(1)).map(start).collect();
        threads.into_iter().map(join).collect()
    });
    Mapping::check_all(plain.mappings)?;
    Mapping::check_all(other.mappings)?;
    let mut found = Vec::with_capacity(pairs.pairs.len());
    for outcome in outcomes {
        found.extend(outcome?);
    }
    found.sort_unstable_by_key(|(at, _)| *at);
    Ok(found.into_iter().map(|(_, distance)| distance).collect())
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

fn distance(
    pair: &Compare,
    plain: &Inputs<'_>,
    other: &Inputs<'_>,
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<Distance, EngineError> {
    let mut worst = Distance { name: pair.name.clone(), steps: 0.0, element: 0 };
    let elements = pair.plain.shape.elements();
    let size = pair.plain.dtype.size();
    // Bytes of so many of the other's elements. Blocks are of an even number of them.
    let there = |elements: u64| elements * pair.other.dtype.size() / pair.width.in_a_byte();
    let scales = pair.scales.as_ref().map(|scales| {
        let mut bytes = vec![0; index(scales.shape.elements() * 2)];
        other.fill_tensor(scales, 0, &mut bytes, &View::default());
        bytes.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect::<Vec<f32>>()
    });
    let step = (BLOCK_BYTES / size).max(1);
    let mut at = 0;
    while at < elements {
        if cancel.is_cancelled() || plain.mappings.iter().chain(other.mappings).any(|mapping| mapping.has_failed()) {
            return Err(EngineError::Cancelled);
        }
        let count = step.min(elements - at);
        let (mut mine, mut theirs) = (vec![0; index(count * size)], vec![0; index(there(count))]);
        plain.fill_tensor(&pair.plain, at * size, &mut mine, &View::default());
        other.fill_tensor(&pair.other, there(at), &mut theirs, &View::default());
        observer.event(Event::Written { bytes: count * size });
        match &scales {
            None => {
                if let Some(byte) = mine.iter().zip(&theirs).position(|(a, b)| a != b) {
                    // The rest is not looked at.
                    observer.event(Event::Written { bytes: (elements - at - count) * size });
                    return Ok(Distance { steps: f64::INFINITY, element: at + byte as u64 / size, ..worst });
                }
            }
            Some(scales) => {
                for (element, (a, b)) in (at..).zip(mine.as_chunks::<2>().0.iter().zip(integers(pair.width, &theirs))) {
                    let scale = scales[index(element / pair.group.max(1))];
                    let difference = f16::from_le_bytes(*a).to_f32() - f32::from(b) * scale;
                    let steps = f64::from(difference.abs() / scale);
                    // A row of zeros has the scale 0.
                    let steps = if difference == 0.0 { 0.0 } else { steps };
                    if steps > worst.steps || steps.is_nan() {
                        worst.element = element;
                        worst.steps = if steps.is_nan() { f64::INFINITY } else { steps };
                    }
                }
            }
        }
        at += count;
    }
    Ok(worst)
}
