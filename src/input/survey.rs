//! A survey of a checkpoint, to report all that is wrong with it and not only the first fault.

use std::collections::BTreeMap;
use std::path::Path;

use super::discover::{RankDir, rank_dirs};
use super::error::choices_text;
use super::load::check_ranks;
use super::loaded_file::load;
use super::save_name::SaveName;
use super::saves::{Saves, WhichSave};
use super::{Input, InputError, Opening, RankGaps};
use crate::plan::{Finding, list};

/// What was found, and the checkpoint as far as it can be read.
#[derive(Debug)]
pub struct Survey {
    /// Findings about files and directories.
    pub findings: Vec<Finding>,
    /// The files that can be read. `None` where there is none.
    pub input: Option<Input>,
}

/// Looks at all files of a checkpoint. Where several saves lie side by side and none is named, the last that every rank has
/// is read, and that is reported.
///
/// # Errors
/// Where nothing can be said at all: the path does not exist, or a directory cannot be read.
pub fn survey(path: &Path, which: WhichSave<'_>, opening: Opening<'_>) -> Result<Survey, InputError> {
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
        return Ok(match Input::open(path, RankGaps::Allowed, opening) {
            Ok(input) => Survey { findings: Vec::new(), input: Some(input) },
            Err(e @ (InputError::NotFound(_) | InputError::File(_))) => return Err(e),
            Err(e) => Survey { findings: vec![Finding::wrong(e.to_string(), REMEDY)], input: None },
        });
    };
    let mut findings = leftovers(&dirs);
    let chosen = choose(&dirs, which, opening, &mut findings);
    let mut files = Vec::new();
    for (dir, name) in chosen {
        match load(dir.rank, &dir.path.join(name), opening) {
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
    if let Err(e) = check_ranks(&files) {
        findings.push(Finding::wrong(e.to_string(), "copy the files of one save, each to the directory of its rank"));
    }
    Ok(Survey { findings, input: Some(Input { files, format, why: None }) })
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

/// The file of each rank directory that is read.
fn choose<'a>(
    dirs: &'a [RankDir],
    which: WhichSave<'_>,
    opening: Opening<'_>,
    findings: &mut Vec<Finding>,
) -> Vec<(&'a RankDir, &'a str)> {
    let empty: Vec<String> = dirs.iter().filter(|d| d.names.is_empty()).map(|d| format!("rank_{}", d.rank)).collect();
    if !empty.is_empty() {
        findings.push(Finding::wrong(format!("no checkpoint in {}", list(&empty)), "copy the missing files"));
    }
    let saves = match Saves::of(dirs) {
        Ok(saves) => saves,
        Err(e) => {
            findings.push(Finding::wrong(e.to_string(), "move all but one elsewhere"));
            return Vec::new();
        }
    };
    let several: Vec<String> = dirs.iter().filter(|d| d.names.len() > 1).map(|d| format!("rank_{}", d.rank)).collect();
    let file = |dir: &'a RankDir, files: &BTreeMap<u32, &'a str>| Some((dir, *files.get(&dir.rank)?));
    if which == WhichSave::Only && several.is_empty() {
        stale(dirs, findings);
        return dirs.iter().filter_map(|dir| Some((dir, dir.names.first()?.as_str()))).collect();
    }
    let mut taken = which;
    if which == WhichSave::Only {
        let what =
            format!("several checkpoints in one directory: {}; {}", list(&several), choices_text(&saves.choices()));
        findings.push(Finding::wrong(what, "choose one with --step or --latest, or remove the others"));
        taken = WhichSave::Latest;
    }
    match saves.choose(taken, opening) {
        Ok((files, why)) => {
            if which == WhichSave::Only {
                let why = why.unwrap_or_default();
                findings.push(Finding::note(format!("looked at: {why}"), "choose another with --step"));
            }
            dirs.iter().filter_map(|dir| file(dir, &files)).collect()
        }
        Err(e) => {
            if which != WhichSave::Only {
                let remedy = "copy the missing files, or choose a save that every rank has with --step";
                findings.push(Finding::wrong(e.to_string(), remedy));
            }
            Vec::new()
        }
    }
}

/// Single files of different saves: some are left of an earlier one.
fn stale(dirs: &[RankDir], findings: &mut Vec<Finding>) {
    let saves = || dirs.iter().filter_map(|dir| Some((dir.rank, SaveName::of(dir.names.first()?, Some(dir.rank)))));
    let dated = || saves().filter(|(_, save)| save.at.is_some());
    let order = |save: &SaveName| (save.task, save.at);
    let Some((_, newest)) = dated().max_by_key(|(_, save)| order(save)) else { return };
    let text = |save: &SaveName| {
        let (epoch, step) = save.at.unwrap_or_default();
        let run = if save.task > 0 { format!(" of run {}", save.task) } else { String::new() };
        format!("{epoch}_{step}{run}")
    };
    let old: Vec<String> = dated()
        .filter(|(_, save)| order(save) != order(&newest))
        .map(|(rank, save)| format!("rank_{rank} (step {})", text(&save)))
        .collect();
    if !old.is_empty() {
        let what = format!("not of step {} as the others: {}", text(&newest), list(&old));
        findings.push(Finding::wrong(what, "the files are stale: copy those of one save to every rank"));
    }
}
