//! What is checked between the plan and the first byte: the source against what it says of itself, replicas against each other.

use super::crcs;
use super::observer::{Observer, Step};
use super::planned::Planned;
use crate::Error;
use crate::engine::{self, CancelToken, Crc64, EngineConfig, SumOf};
use crate::input::ListedSum;

/// The source must be what its trailers say, and the manifest of the conversion that made it: one fused matrix of each file, or
/// on request all tensors. Replicas must be what they are replicas of.
pub(super) fn check(
    planned: &Planned,
    engine: &EngineConfig,
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<(), Error> {
    crcs(planned, engine, observer, cancel)?;
    sums(planned, engine, observer, cancel)?;
    replicas(planned, engine, observer, cancel)
}

fn crcs(planned: &Planned, engine: &EngineConfig, observer: &dyn Observer, cancel: &CancelToken) -> Result<(), Error> {
    if planned.job.checks.no_crc {
        return Ok(());
    }
    let step = Step::begin(observer, "checking the CRCs");
    crcs::check(planned.opened.input(), engine, &step, cancel)?;
    step.finish();
    Ok(())
}

fn sums(planned: &Planned, engine: &EngineConfig, observer: &dyn Observer, cancel: &CancelToken) -> Result<(), Error> {
    let (all, input) = (planned.job.checks.source, planned.opened.input());
    let made = match &planned.beside.made {
        // One manifest of several says nothing about the files of the others.
        Some(made) if all && !made.is_joined() || !all && planned.beside.source_is_fused() => made,
        _ if all => return Err(Error::NoManifest(planned.job.source.path.clone())),
        _ => return Ok(()),
    };
    let mut listed = made.sums(&input.files)?;
    if !all {
        // That the order of fused rows is the manifest's is worth one tensor of each file.
        listed = smallest_fused(listed, input.files.len());
    }
    let stated: Vec<SumOf> =
        listed.iter().map(|l| SumOf { source: l.file, place: l.place.clone(), sum: Crc64(l.sum) }).collect();
    let step = Step::begin(observer, "checking the source");
    let differ = engine::differing_sums(&input.mappings(), &stated, engine, &step, cancel)?;
    step.finish();
    if !differ.is_empty() {
        let tensors = differ.iter().map(|&at| listed[at].name.clone()).collect();
        return Err(Error::SumsDiffer { manifest: made.manifest.clone(), tensors });
    }
    if all {
        observer.note(&format!("{} tensors of the source have the sums of {}", listed.len(), made.manifest.display()));
    }
    Ok(())
}

/// The smallest fused matrix of each file.
fn smallest_fused(listed: Vec<ListedSum>, files: usize) -> Vec<ListedSum> {
    let mut smallest: Vec<Option<ListedSum>> = vec![None; files];
    for sum in listed.into_iter().filter(|sum| sum.fused) {
        let known = &mut smallest[sum.file];
        if known.as_ref().is_none_or(|known| sum.place.len() < known.place.len()) {
            *known = Some(sum);
        }
    }
    smallest.into_iter().flatten().collect()
}

/// Small replicas are always compared, large ones on request.
fn replicas(
    planned: &Planned,
    engine: &EngineConfig,
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<(), Error> {
    let (plan, places) = &planned.conversion.replicas;
    let mappings = planned.opened.input().mappings();
    let step = Step::begin(observer, "comparing the replicas");
    let found = engine::compare(plan, &mappings, &mappings, places, engine, &step, cancel)?;
    step.finish();
    let name = |d: &engine::Difference| {
        let file = &plan.outputs[d.file];
        format!("{} in {}", file.tensors[d.tensor].name, file.path)
    };
    if found.is_empty() { Ok(()) } else { Err(Error::ReplicasDiffer(found.iter().map(name).collect())) }
}
