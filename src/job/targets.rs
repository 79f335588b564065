//! Whether both targets may be made, and what earlier runs have left of them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::observer::Observer;
use super::planned::Planned;
use super::spec::Job;
use super::target::{self, Strategies};
use crate::Error;
use crate::engine::{self, EngineError, Leftovers, Publish, Published, Ready};
use crate::input::{ManifestHead, companions, strategy_paths};
use crate::report::bytes;

/// Whether both targets may be made. Returns the bytes that are free where the checkpoint is to be.
pub(super) fn check(planned: &Planned) -> Result<u64, Error> {
    keep_apart(planned)?;
    let publish = planned.job.publish();
    if let Some(strategies) = &planned.conversion.strategies {
        strategies.check(publish)?;
    }
    target::check(&planned.conversion.target, publish)
}

/// Whether what would be replaced is still only what a conversion made: another program may have put a file there meanwhile.
pub(super) fn check_again(planned: &Planned) -> Result<(), Error> {
    if planned.job.publish() == Publish::New {
        return Ok(());
    }
    if let Some(strategies) = &planned.conversion.strategies {
        strategies.check(Publish::Replace)?;
    }
    target::replaceable(&planned.conversion.target)
}

/// No target may be where an input or the other target is, nor cost an input when it is replaced.
pub(super) fn keep_apart(planned: &Planned) -> Result<(), Error> {
    let (job, conversion) = (&planned.job, &planned.conversion);
    let mut targets = vec![conversion.target.as_path()];
    targets.extend(conversion.strategies.as_ref().map(Strategies::dir));
    let mut inputs = vec![job.source.path.as_path()];
    inputs.extend(job.strategies());
    target::keep_apart(&targets, &inputs)?;
    target::keep_inputs(&targets, &read_files(planned)?)
}

impl Job {
    /// The strategies that it reads.
    fn strategies(&self) -> impl Iterator<Item = &Path> {
        let strategies = [&self.source.strategy, &self.target.strategy, &self.source.train_strategy];
        strategies.into_iter().flatten().map(PathBuf::as_path)
    }
}

/// Every file that the conversion reads.
fn read_files(planned: &Planned) -> Result<Vec<PathBuf>, Error> {
    let (job, mappings) = (&planned.job, planned.opened.input().mappings());
    let mut files: Vec<PathBuf> = mappings.iter().map(|mapping| mapping.path().to_owned()).collect();
    for strategy in job.strategies() {
        files.extend(strategy_paths(strategy)?);
    }
    let dirs = [Some(&job.source.path), job.target.hf_config.as_ref()].into_iter().flatten();
    for dir in dirs.filter(|dir| dir.is_dir()) {
        files.extend(companions(dir)?);
    }
    let single = [&job.quantise.stats, &job.calibrate.dataset_path, &job.calibrate.tokenizer];
    files.extend(single.into_iter().flatten().cloned());
    let typed = [job.model.yaml.as_deref(), job.cluster.rank_table.as_deref()];
    files.extend(typed.into_iter().flatten().map(PathBuf::from));
    Ok(files)
}

/// Removes what an interrupted run has left of the target, which may be the space that this one needs. Returns what is free then.
pub(super) fn reclaim(target: &Path, free: u64, observer: &dyn Observer) -> Result<u64, Error> {
    let left = engine::clear_leftovers(target)?;
    if left.paths.is_empty() {
        return Ok(free);
    }
    say_removed(&left, observer);
    target::free(target)
}

/// Says what an interrupted run had left.
pub(super) fn say_removed(left: &Leftovers, observer: &dyn Observer) {
    if !left.paths.is_empty() {
        let paths: Vec<String> = left.paths.iter().map(|path| path.display().to_string()).collect();
        observer.note(&format!(
            "removed what an interrupted run had left: {} ({})",
            paths.join(", "),
            bytes(left.bytes)
        ));
    }
}

/// The strategies that are all that is missing: the checkpoint of this very plan is there and whole, because a run was
/// interrupted after it had published it.
pub(super) fn missing_strategies(planned: &Planned) -> Option<&Strategies> {
    let conversion = &planned.conversion;
    let strategies = conversion.strategies.as_ref()?;
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    if planned.job.publish() != Publish::New || !is_there(&conversion.target) || is_there(strategies.dir()) {
        return None;
    }
    let head = ManifestHead::of(&conversion.target)?;
    let same = head.value("strategies") == Some(strategies.sum().as_str());
    (same && is_whole(planned, &head)).then_some(strategies)
}

/// Whether the target is of this very plan, and all of its files have their lengths.
fn is_whole(planned: &Planned, head: &ManifestHead) -> bool {
    let conversion = &planned.conversion;
    head.is_of(&planned.id(), None)
        && conversion.plan.outputs.iter().all(|output| {
            let there = conversion.target.join(&output.path).metadata();
            there.is_ok_and(|meta| meta.len() == output.layout.len())
        })
}

/// Says so where a target may not be made because it is there already, made by this very conversion: a command that was typed twice.
pub(super) fn say_whole(planned: &Planned, error: &Error, observer: &dyn Observer) {
    let target = &planned.conversion.target;
    let is_there = matches!(error, Error::Engine(EngineError::TargetExists(path)) if path == target);
    if is_there && ManifestHead::of(target).is_some_and(|head| is_whole(planned, &head)) {
        observer.note(&format!(
            "{} is there already and whole: its manifest.json is of this very conversion, and every file has its length",
            target.display()
        ));
    }
}

/// Makes sure of the strategies of a checkpoint that another host has published: that host publishes them right after it, or this
/// one does. `wait`: how long a host that is about to is waited for.
pub(super) fn settle_strategies(job: &Job, strategies: &Strategies, wait: Duration) -> Result<(), Error> {
    let begun = Instant::now();
    if job.publish() == Publish::Replace {
        strategies.check(Publish::Replace)?;
    }
    loop {
        let error = |source| Error::StrategiesMissing { strategies: strategies.dir().to_owned(), source };
        match strategies.stage(job.publish(), job.durability()) {
            // There already; or others have been put there since.
            Ok(None) | Err(EngineError::TargetExists(_)) => return Ok(()),
            Ok(Some(staged)) => {
                let published = staged.ready(Vec::new()).and_then(Ready::publish).map_err(error)?;
                published.keep();
                return Ok(());
            }
            Err(EngineError::TargetBusy(_) | EngineError::LockUnclear { .. }) if begun.elapsed() < wait => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(e) => return Err(error(e)),
        }
    }
}

/// Publishes the strategies of a checkpoint that is there.
pub(super) fn complete(planned: &Planned, strategies: &Strategies, observer: &dyn Observer) -> Result<(), Error> {
    let target = &planned.conversion.target;
    say_removed(&engine::clear_leftovers(target)?, observer);
    if let Some(staged) = strategies.stage(planned.job.publish(), planned.job.durability())? {
        staged.ready(Vec::new())?.publish().map(Published::keep)?;
    }
    observer.note(&format!(
        "{} already exists and is complete; its strategies, which an interrupted run had not published, are now in {}",
        target.display(),
        strategies.dir().display()
    ));
    Ok(())
}
