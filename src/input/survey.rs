//! A checkpoint looked at by somebody who wants to know all that is wrong with it, not only the first.

use std::path::Path;

use super::discover::{RankDir, rank_dirs};
use super::load::load;
use super::steps::{common_steps, steps_text};
use super::{Input, InputError, RankGaps, step_of};
use crate::plan::{Finding, list};
use crate::sys::StableInputs;

/// What was found, and the checkpoint as far as it can be read.
#[derive(Debug)]
pub struct Survey {
    /// Findings about files and directories.
    pub findings: Vec<Finding>,
    /// The files that can be read. `None` where there is none.
    pub input: Option<Input>,
}

/// Looks at all files of a checkpoint. Where several steps lie side by side and none is named, the last that every rank has
/// is looked at, and that is said.
///
/// # Errors
/// Where nothing can be said at all: the path does not exist, or a directory cannot be read.
pub fn survey(path: &Path, step: Option<u64>, promise: StableInputs) -> Result<Survey, InputError> {
    let dirs = match rank_dirs(path, RankGaps::Allowed) {
        Ok(dirs) => dirs,
        Err(InputError::Stray { dir, names }) => {
            let what = format!("{} holds {} beside its rank directories", dir.display(), list(&names));
            let finding = Finding::wrong(what, "move them elsewhere, or into rank_<n> directories");
            return Ok(Survey { findings: vec![finding], input: None });
        }
        Err(e) => return Err(e),
    };
    let Some(dirs) = dirs else {
        return Ok(match Input::open(path, RankGaps::Allowed, promise) {
            Ok(input) => Survey { findings: Vec::new(), input: Some(input) },
            Err(e @ (InputError::NotFound(_) | InputError::File(_))) => return Err(e),
            Err(e) => Survey { findings: vec![Finding::wrong(e.to_string(), REMEDY)], input: None },
        });
    };
    let mut findings = leftovers(&dirs);
    let chosen = choose(&dirs, step, &mut findings);
    let mut files = Vec::new();
    for (dir, name) in chosen {
        match load(dir.rank, &dir.path.join(name), promise) {
            Ok(file) => files.push(file),
            Err(e) => findings.push(Finding::wrong(e.to_string(), REMEDY)),
        }
    }
    let Some(format) = files.first().map(|f| f.format) else { return Ok(Survey { findings, input: None }) };
    let other: Vec<String> =
        files.iter().filter(|f| f.format != format).map(|f| f.mapping.path().display().to_string()).collect();
    if !other.is_empty() {
        let what = format!("{} in another format than {}", list(&other), files[0].mapping.path().display());
        findings.push(Finding::wrong(what, "one checkpoint has one format: the files are of two saves"));
        files.retain(|f| f.format == format);
    }
    Ok(Survey { findings, input: Some(Input { files, format }) })
}

const REMEDY: &str = "copy or save the file again";

/// What interrupted saves leave: MindSpore writes to `<name>.tmp` first.
fn leftovers(dirs: &[RankDir]) -> Vec<Finding> {
    let mut names = Vec::new();
    for dir in dirs {
        let entries = std::fs::read_dir(&dir.path).into_iter().flatten().flatten();
        let temporary = entries.map(|e| e.file_name().to_string_lossy().into_owned());
        names.extend(
            temporary
                .filter(|n| Path::new(n).extension().is_some_and(|e| e == "tmp"))
                .map(|n| format!("rank_{}/{n}", dir.rank)),
        );
    }
    if names.is_empty() {
        return Vec::new();
    }
    names.sort();
    let what = format!("left by saves that were interrupted: {}", list(&names));
    vec![Finding::note(what, "remove them; check that the step that is meant is whole")]
}

/// The file of each rank directory that is looked at.
fn choose<'a>(dirs: &'a [RankDir], step: Option<u64>, findings: &mut Vec<Finding>) -> Vec<(&'a RankDir, &'a String)> {
    let common = common_steps(dirs);
    let several: Vec<String> = dirs.iter().filter(|d| d.names.len() > 1).map(|d| format!("rank_{}", d.rank)).collect();
    let mut chosen_step = step;
    if !several.is_empty() && step.is_none() {
        let what = format!("several checkpoints in one directory: {}; {}", list(&several), steps_text(&common));
        findings.push(Finding::wrong(what, "name one with --step N, or remove the others"));
        chosen_step = common.last().copied();
        if let Some(step) = chosen_step {
            findings.push(Finding::note(format!("looked at step {step}"), "choose another with --step N"));
        }
    }
    let mut chosen: Vec<(&RankDir, &String)> = Vec::new();
    let (mut empty, mut without) = (Vec::new(), Vec::new());
    for dir in dirs {
        let of_step = |name: &&String| chosen_step.is_none_or(|step| step_of(name) == Some(step));
        let names: Vec<&String> = dir.names.iter().filter(of_step).collect();
        match names.as_slice() {
            [one] => chosen.push((dir, one)),
            [] if dir.names.is_empty() => empty.push(format!("rank_{}", dir.rank)),
            [] => without.push(format!("rank_{}", dir.rank)),
            several => {
                let names: Vec<String> = several.iter().map(|name| (*name).clone()).collect();
                let what = format!("rank_{} holds {} for one step", dir.rank, list(&names));
                findings.push(Finding::wrong(what, "leave one of them in the directory"));
            }
        }
    }
    if !empty.is_empty() {
        findings.push(Finding::wrong(format!("no checkpoint in {}", list(&empty)), "copy the missing files"));
    }
    if let Some(step) = chosen_step.filter(|_| !without.is_empty()) {
        let what = format!("no checkpoint of step {step} in {}; {}", list(&without), steps_text(&common));
        findings.push(Finding::wrong(what, "copy the missing files, or name a step that every rank has with --step N"));
    }
    stale(&chosen, findings);
    chosen
}

/// Single files of different steps: some are left of an earlier save.
fn stale(chosen: &[(&RankDir, &String)], findings: &mut Vec<Finding>) {
    let steps = || chosen.iter().filter_map(|(dir, name)| Some((dir.rank, step_of(name)?)));
    let Some(newest) = steps().map(|(_, step)| step).max() else { return };
    let old: Vec<String> =
        steps().filter(|(_, step)| *step != newest).map(|(rank, step)| format!("rank_{rank} (step {step})")).collect();
    if !old.is_empty() {
        let what = format!("not of step {newest} as the others: {}", list(&old));
        findings.push(Finding::wrong(what, "the files are stale: copy those of one step to every rank"));
    }
}
