//! The checkpoints of a training run: rank directories in which several steps lie side by side.
//!
//! Source of the names: `ModelCheckpoint` of MindSpore saves `<prefix>-<epoch>_<step>.ckpt`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::discover::{RankDir, rank_dirs};
use super::{CheckpointFiles, InputError, RankGaps, discover};

/// The step in a file name `<prefix>-<epoch>_<step>.<extension>`.
pub fn step_of(name: &str) -> Option<u64> {
    let (stem, _) = name.rsplit_once('.')?;
    let (_, numbers) = stem.rsplit_once('-')?;
    let (epoch, step) = numbers.split_once('_')?;
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    number(epoch).and(number(step))
}

/// Steps of which every rank directory holds a checkpoint.
pub(super) fn common_steps(dirs: &[RankDir]) -> Vec<u64> {
    let steps = |dir: &RankDir| dir.names.iter().filter_map(|name| step_of(name)).collect::<BTreeSet<u64>>();
    let mut all = dirs.iter().map(steps);
    let Some(first) = all.next() else { return Vec::new() };
    all.fold(first, |common, steps| &common & &steps).into_iter().collect()
}

/// Finds the files of one step of a training run. Rank directories may be missing: whether others hold the same is for the
/// strategy to tell. Without `step` every rank directory must hold one checkpoint, all of one step.
///
/// # Errors
/// As [`discover`]; where a step must be named, or is not there in every rank, the steps that every rank has are listed.
pub fn discover_training(path: &Path, step: Option<u64>) -> Result<CheckpointFiles, InputError> {
    let Some(dirs) = rank_dirs(path, RankGaps::Allowed)? else {
        return match step {
            None => discover(path, RankGaps::Allowed),
            Some(step) => Err(InputError::NoRanks { path: path.to_owned(), step }),
        };
    };
    let common = common_steps(&dirs);
    if let Some(step) = step {
        return of_step(&dirs, step, &common);
    }
    let mut files: Vec<(u32, PathBuf)> = Vec::with_capacity(dirs.len());
    let mut first: Option<(&RankDir, u64)> = None;
    for dir in &dirs {
        match dir.names.as_slice() {
            [] => return Err(InputError::NoCheckpoint(dir.path.clone())),
            [one] => {
                if let Some(step) = step_of(one) {
                    let (other, known) = *first.get_or_insert((dir, step));
                    if known != step {
                        let (first, second) = ((other.path.clone(), known), (dir.path.clone(), step));
                        return Err(InputError::StepsDiffer { first, second });
                    }
                }
                files.push((dir.rank, dir.path.join(one)));
            }
            names => return Err(InputError::Steps { dir: dir.path.clone(), files: names.len(), common }),
        }
    }
    Ok(CheckpointFiles { files, index: None })
}

fn of_step(dirs: &[RankDir], step: u64, common: &[u64]) -> Result<CheckpointFiles, InputError> {
    let mut files = Vec::with_capacity(dirs.len());
    let mut without = Vec::new();
    for dir in dirs {
        let of_step: Vec<&String> = dir.names.iter().filter(|name| step_of(name) == Some(step)).collect();
        match of_step.as_slice() {
            [] => without.push(format!("rank_{}", dir.rank)),
            [one] => files.push((dir.rank, dir.path.join(one))),
            several => {
                let names = several.iter().map(|name| (*name).clone()).collect();
                return Err(InputError::Several { dir: dir.path.clone(), names });
            }
        }
    }
    if without.is_empty() {
        return Ok(CheckpointFiles { files, index: None });
    }
    Err(InputError::NoStep { step, without, common: common.to_vec() })
}

/// `the steps 100, 200`, or that there is none; the last few where there are many.
pub(super) fn steps_text(steps: &[u64]) -> String {
    const SHOWN: usize = 12;
    let hidden = steps.len().saturating_sub(SHOWN);
    let shown = steps[hidden..].iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    match (steps.len(), hidden) {
        (0, _) => "no step is there in every rank".to_owned(),
        (_, 0) => format!("every rank has the steps {shown}"),
        _ => format!("every rank has {} steps, the last {shown}", steps.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_stands_behind_the_epoch_and_nowhere_else() {
        for (name, step) in [
            ("llama_rank_0-1_10.ckpt", Some(10)),
            ("a-b-2_7.safetensors", Some(7)),
            ("llama-1_10_breakpoint.ckpt", None),
            ("checkpoint_0.ckpt", None),
            ("llama-1_+5.ckpt", None),
            ("llama-_5.ckpt", None),
        ] {
            assert_eq!(step_of(name), step, "{name}");
        }
    }
}
