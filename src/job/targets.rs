//! Whether both targets may be made, and what earlier runs have left of them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::request::Request;
use super::run::Planned;
use crate::Error;
use crate::cli::commands::note;
use crate::cluster::plan_id;
use crate::engine::{self, EngineError, Leftovers, Publish, Published, Ready};
use crate::input::{Input, ManifestHead, companions, strategy_paths};
use crate::job::target::{self, Strategies};
use crate::report::bytes;

/// Whether both targets may be made. Returns the bytes that are free where the checkpoint is to be.
pub(super) fn check(request: &Request, planned: &Planned, input: &Input) -> Result<u64, Error> {
    keep_apart(request, planned, input)?;
    if let Some(strategies) = &planned.strategies {
        strategies.check(request.publish())?;
    }
    target::check(&planned.target, request.publish())
}

/// Whether what would be replaced is still only what a conversion made: somebody may have put a file there meanwhile.
pub(super) fn check_again(request: &Request, planned: &Planned) -> Result<(), Error> {
    if request.publish() == Publish::New {
        return Ok(());
    }
    if let Some(strategies) = &planned.strategies {
        strategies.check(Publish::Replace)?;
    }
    target::replaceable(&planned.target)
}

/// No target may be where an input or the other target is, nor cost an input when it is replaced.
pub(super) fn keep_apart(request: &Request, planned: &Planned, input: &Input) -> Result<(), Error> {
    let args = &request.args;
    let mut targets = vec![planned.target.as_path()];
    targets.extend(planned.strategies.as_ref().map(Strategies::dir));
    let mut inputs = vec![request.source.as_path()];
    inputs.extend(
        [&args.place.src_strategy, &args.place.dst_strategy, &args.train.train_strategy_file]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path),
    );
    target::keep_apart(&targets, &inputs)?;
    target::keep_inputs(&targets, &read_files(request, input)?)
}

/// Every file that the conversion reads.
fn read_files(request: &Request, input: &Input) -> Result<Vec<PathBuf>, Error> {
    let args = &request.args;
    let mut files: Vec<PathBuf> = input.mappings().iter().map(|mapping| mapping.path().to_owned()).collect();
    for strategy in
        [&args.place.src_strategy, &args.place.dst_strategy, &args.train.train_strategy_file].into_iter().flatten()
    {
        files.extend(strategy_paths(strategy)?);
    }
    for dir in [Some(&request.source), args.files.hf_config.as_ref()].into_iter().flatten().filter(|dir| dir.is_dir()) {
        files.extend(companions(dir)?);
    }
    let single = [&args.quant.stats, &args.calibrate.dataset_path, &args.calibrate.tokenizer];
    files.extend(single.into_iter().flatten().cloned());
    let typed = [args.layout.yaml_path.as_deref(), args.cluster.rank_table.as_deref()];
    files.extend(typed.into_iter().flatten().map(PathBuf::from));
    Ok(files)
}

/// Removes what an interrupted run has left of the target, which may be the space that this one needs. Returns what is free then.
pub(super) fn reclaim(target: &Path, free: u64) -> Result<u64, Error> {
    let left = engine::clear_leftovers(target)?;
    if left.paths.is_empty() {
        return Ok(free);
    }
    say_removed(&left);
    target::free(target)
}

/// Says what an interrupted run had left.
pub(super) fn say_removed(left: &Leftovers) {
    if !left.paths.is_empty() {
        let paths: Vec<String> = left.paths.iter().map(|path| path.display().to_string()).collect();
        note(&format!("removed what an interrupted run had left: {} ({})", paths.join(", "), bytes(left.bytes)));
    }
}

/// The strategies that are all that is missing: the checkpoint of this very plan is there and whole, because a run was
/// interrupted after it had published it.
pub(super) fn missing_strategies<'a>(request: &Request, planned: &'a Planned, input: &Input) -> Option<&'a Strategies> {
    let strategies = planned.strategies.as_ref()?;
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    if request.publish() != Publish::New || !is_there(&planned.target) || is_there(strategies.dir()) {
        return None;
    }
    let head = ManifestHead::of(&planned.target)?;
    let mappings = input.mappings();
    let same = head.value("strategies") == Some(strategies.sum().as_str())
        && head.is_of(&plan_id(&planned.plan, &super::shared::sources(&mappings)), None);
    let whole = planned.plan.outputs.iter().all(|output| {
        let there = planned.target.join(&output.path).metadata();
        there.is_ok_and(|meta| meta.len() == output.layout.len())
    });
    (same && whole).then_some(strategies)
}

/// Makes sure of the strategies of a checkpoint that another host has published: that host publishes them right after it, or this
/// one does. `wait`: how long a host that is about to is waited for.
pub(super) fn settle_strategies(request: &Request, strategies: &Strategies, wait: Duration) -> Result<(), Error> {
    let begun = Instant::now();
    if request.publish() == Publish::Replace {
        strategies.check(Publish::Replace)?;
    }
    loop {
        let error = |source| Error::StrategiesMissing { strategies: strategies.dir().to_owned(), source };
        match strategies.stage(request.publish(), request.durability) {
            // There already; or somebody has put others there since.
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
pub(super) fn complete(request: &Request, planned: &Planned, strategies: &Strategies) -> Result<(), Error> {
    say_removed(&engine::clear_leftovers(&planned.target)?);
    if let Some(staged) = strategies.stage(request.publish(), request.durability)? {
        staged.ready(Vec::new())?.publish().map(Published::keep)?;
    }
    note(&format!(
        "{} is there and complete; its strategies, which an interrupted run had not published, are now in {}",
        planned.target.display(),
        strategies.dir().display()
    ));
    Ok(())
}
