//! The saves of a training run: rank directories in which several lie side by side, and which of them is meant.
//!
//! A save is known by prefix, run, epoch and step. In sink mode, mindformers' default, the step in the epoch is the same for all
//! saves of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::discover::{RankDir, list_dir, rank_dirs, rank_of};
use super::loaded_file::load;
use super::save_name::{SaveName, moment_of, number, stem_of};
use super::{CheckpointFiles, InputError, Opening, RankGaps, discover};

/// Which save of a training run is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhichSave<'a> {
    /// The only one.
    Only,
    /// The last that every rank has.
    Latest,
    /// As it was typed: `<epoch>_<step>`, a step, or a file name.
    Named(&'a str),
}

/// A save that was chosen: the file of each rank that has one, and why it was chosen, where that needs saying.
pub(super) type Chosen<'a> = (BTreeMap<u32, &'a str>, Option<String>);

/// All saves in the directories of the ranks.
pub(super) struct Saves<'a> {
    dirs: &'a [RankDir],
    /// The file names by rank.
    held: BTreeMap<SaveName, BTreeMap<u32, &'a str>>,
}

impl<'a> Saves<'a> {
    /// # Errors
    /// Where two files of one directory are of the same save.
    pub(super) fn of(dirs: &'a [RankDir]) -> Result<Self, InputError> {
        let parsed = |dir: &RankDir, name: &str| SaveName::of(name, rank_of_dir(dir));
        let plain: BTreeSet<String> =
            dirs.iter().flat_map(|d| d.names.iter().map(|n| parsed(d, n))).map(|save| save.prefix).collect();
        let mut held: BTreeMap<SaveName, BTreeMap<u32, &'a str>> = BTreeMap::new();
        for dir in dirs {
            for name in &dir.names {
                let save = started_again(parsed(dir, name), &plain);
                if let Some(other) = held.entry(save).or_default().insert(dir.rank, name) {
                    let names = vec![other.to_owned(), name.clone()];
                    return Err(InputError::Several { dir: dir.path.clone(), names });
                }
            }
        }
        Ok(Self { dirs, held })
    }

    fn everywhere(&self, save: &SaveName) -> bool {
        self.held.get(save).is_some_and(|files| files.len() == self.dirs.len())
    }

    /// The saves that every rank has, as they can be typed.
    pub(super) fn choices(&self) -> Vec<String> {
        let mut all: Vec<&SaveName> = self.held.keys().filter(|save| self.everywhere(save)).collect();
        all.sort_by_key(|save| (save.task, save.at, save.breakpoint));
        all.into_iter().map(|save| self.typed(save)).collect()
    }

    /// The shortest text that names a save and no other.
    pub(super) fn typed(&self, save: &SaveName) -> String {
        let file = self.held.get(save).and_then(|files| files.values().next()).copied().unwrap_or_default();
        let short = save.at.map(|(epoch, step)| {
            let breakpoint = if save.breakpoint { "_breakpoint" } else { "" };
            format!("{epoch}_{step}{breakpoint}")
        });
        let texts = short.into_iter().chain([stem_of(file).0.to_owned()]);
        texts.into_iter().find(|text| self.named(text).len() == 1).unwrap_or_else(|| file.to_owned())
    }

    /// The saves that a file name, or epoch and step, names.
    fn named(&self, text: &str) -> Vec<&SaveName> {
        let file = |name: &&str| *name == text || stem_of(name).0 == text;
        let by_file = self.held.iter().filter(|(_, files)| files.values().any(file));
        let by_file: Vec<&SaveName> = by_file.map(|(save, _)| save).collect();
        if !by_file.is_empty() {
            return by_file;
        }
        let (numbers, breakpoint) = text.strip_suffix("_breakpoint").map_or((text, false), |rest| (rest, true));
        let Some(at) = moment_of(numbers) else { return Vec::new() };
        self.held.keys().filter(|save| save.at == Some(at) && save.breakpoint == breakpoint).collect()
    }

    /// The saves that a number may mean, each with the reason: the step that is stored in it or appears in its name, or, where
    /// every epoch has one step, the epoch.
    fn numbered(&self, wanted: u64, opening: Opening<'_>) -> Vec<(&SaveName, &'static str)> {
        let regular = || self.held.keys().filter(|save| !save.breakpoint);
        let one_step = regular().filter_map(|save| save.at).all(|(_, step)| step == 1);
        let why = |save: &SaveName| {
            let (epoch, step) = save.at?;
            let stored = || {
                let (rank, name) = self.held.get(save)?.first_key_value()?;
                let dir = self.dirs.iter().find(|dir| dir.rank == *rank)?;
                Some(stored_steps(&dir.path.join(name), opening).contains(&wanted))
            };
            if step == wanted {
                Some("by the step in its name")
            } else if one_step && epoch == wanted {
                Some("by the epoch in its name, as each has one step")
            } else {
                stored().filter(|found| *found).map(|_| "by the step that is stored in it")
            }
        };
        regular().filter_map(|save| Some((save, why(save)?))).collect()
    }

    /// The one save that is meant, and why.
    ///
    /// # Errors
    /// Where several may be meant, none is, or a rank lacks it; what can be typed instead is listed.
    pub(super) fn choose(&self, which: WhichSave<'_>, opening: Opening<'_>) -> Result<Chosen<'a>, InputError> {
        let (save, why) = match which {
            WhichSave::Only => return self.only().map(|files| (files, None)),
            WhichSave::Latest => self.latest()?,
            WhichSave::Named(text) => match self.named(text).as_slice() {
                [one] => (*one, None),
                [] => {
                    let found = number(text).map(|wanted| self.numbered(wanted, opening)).unwrap_or_default();
                    match found.as_slice() {
                        [(one, why)] => (*one, Some(format!("--step {text} is {}, {why}", self.typed(one)))),
                        [] => return Err(self.lacking(text, Vec::new())),
                        several => {
                            return Err(
                                self.ambiguous(&format!("--step {text}"), several.iter().map(|(save, _)| *save))
                            );
                        }
                    }
                }
                several => return Err(self.ambiguous(&format!("--step {text}"), several.iter().copied())),
            },
        };
        let files = &self.held[save];
        let without = self.dirs.iter().filter(|dir| !files.contains_key(&dir.rank));
        let without: Vec<String> = without.map(|dir| format!("rank_{}", dir.rank)).collect();
        if without.is_empty() {
            return Ok((files.clone(), why));
        }
        let text = if let WhichSave::Named(text) = which { text.to_owned() } else { self.typed(save) };
        Err(self.lacking(&text, without))
    }

    fn lacking(&self, step: &str, without: Vec<String>) -> InputError {
        let all = || self.dirs.iter().map(|dir| format!("rank_{}", dir.rank)).collect();
        let without = if without.is_empty() { all() } else { without };
        InputError::NoStep { step: step.to_owned(), without, choices: self.choices() }
    }

    fn ambiguous<'s>(&self, text: &str, saves: impl Iterator<Item = &'s SaveName>) -> InputError {
        InputError::StepUnclear { text: text.to_owned(), saves: saves.map(|save| self.typed(save)).collect() }
    }

    /// The last of the last run that every rank has.
    fn latest(&self) -> Result<(&SaveName, Option<String>), InputError> {
        let order = |save: &&SaveName| (save.task, save.at);
        let saved = || self.held.keys().filter(|save| save.at.is_some() && !save.breakpoint);
        let mut last: BTreeMap<(&str, &str), &SaveName> = BTreeMap::new();
        for save in saved().filter(|save| self.everywhere(save)) {
            let known = last.entry((&save.prefix, &save.extension)).or_insert(save);
            *known = std::cmp::max_by_key(*known, save, order);
        }
        let mut last = last.into_values();
        match (last.next(), last.next()) {
            (Some(one), None) => {
                let newer: Vec<String> =
                    saved().filter(|save| order(save) > order(&one)).map(|s| self.typed(s)).collect();
                let but =
                    if newer.is_empty() { String::new() } else { format!("; not every rank has {}", newer.join(", ")) };
                Ok((one, Some(format!("the latest save is {}{but}", self.typed(one)))))
            }
            (None, _) => match self.held.first_key_value() {
                // The only one, whatever it is called.
                Some((one, _)) if self.held.len() == 1 && self.everywhere(one) => Ok((one, None)),
                _ => Err(InputError::NoLatest { choices: self.choices() }),
            },
            (Some(one), Some(other)) => Err(self.ambiguous("--latest", [one, other].into_iter().chain(last))),
        }
    }

    /// The one file of each directory, all of one save.
    fn only(&self) -> Result<BTreeMap<u32, &'a str>, InputError> {
        let mut files = BTreeMap::new();
        let mut first: Option<(&RankDir, SaveName)> = None;
        for dir in self.dirs {
            match dir.names.as_slice() {
                [] => return Err(InputError::NoCheckpoint(dir.path.clone())),
                [one] => {
                    let save = SaveName::of(one, rank_of_dir(dir));
                    files.insert(dir.rank, one.as_str());
                    if save.at.is_none() {
                        continue;
                    }
                    let (other, known) = first.get_or_insert_with(|| (dir, save.clone()));
                    if (known.at, known.task, known.breakpoint) != (save.at, save.task, save.breakpoint) {
                        let file = |dir: &RankDir| (dir.path.clone(), dir.names.first().cloned().unwrap_or_default());
                        return Err(InputError::SavesDiffer { first: file(other), second: file(dir) });
                    }
                }
                names => {
                    let (dir, files) = (dir.path.clone(), names.len());
                    let latest = self.latest().is_ok();
                    return Err(InputError::Steps { dir, files, choices: self.choices(), latest });
                }
            }
        }
        Ok(files)
    }
}

/// The rank that a directory's own name gives. A directory of another name may hold any rank's files.
fn rank_of_dir(dir: &RankDir) -> Option<u32> {
    dir.path.file_name().and_then(|name| rank_of(name.to_str()?))
}

/// Without a rank in its prefix, `<prefix>_<n>` is a run that was started again where there are saves of `<prefix>` too.
fn started_again(mut save: SaveName, prefixes: &BTreeSet<String>) -> SaveName {
    let again = save.prefix.rsplit_once('_').and_then(|(base, task)| {
        let task = number(task).filter(|task| *task > 0 && save.at.is_some() && !base.contains('*'))?;
        prefixes.contains(base).then(|| (base.to_owned(), task))
    });
    if let Some((base, task)) = again {
        (save.prefix, save.task) = (base, task);
    }
    save
}

/// Finds the files of one save of a training run, and says why it was chosen where that needs saying. Rank directories may be
/// missing: whether others hold the same is for the strategy to say.
///
/// # Errors
/// As [`discover`]; where a save must be named, or is not there in every rank, those that every rank has are listed.
pub(super) fn discover_training(
    path: &Path,
    which: WhichSave<'_>,
    opening: Opening<'_>,
) -> Result<(CheckpointFiles, Option<String>), InputError> {
    let dirs = match rank_dirs(path, RankGaps::Allowed)? {
        Some(dirs) => dirs,
        None if which == WhichSave::Only => return Ok((discover(path, RankGaps::Allowed)?, None)),
        None => vec![own_dir(path)?],
    };
    let (files, why) = Saves::of(&dirs)?.choose(which, opening)?;
    let file = |dir: &RankDir| Some((dir.rank, dir.path.join(files.get(&dir.rank)?)));
    Ok((CheckpointFiles { files: dirs.iter().filter_map(file).collect(), index: None }, why))
}

/// The directory of one rank, named itself.
fn own_dir(path: &Path) -> Result<RankDir, InputError> {
    if !path.is_dir() {
        return Err(InputError::OneFile(path.to_owned()));
    }
    let files = list_dir(path)?.into_iter().filter(|(name, is_dir)| !is_dir && super::discover::is_checkpoint(name));
    Ok(RankDir { rank: 0, path: path.to_owned(), names: files.map(|(name, _)| name).collect() })
}

/// The steps that are stored in a file. None where it cannot be read: the error is reported when that file is used.
fn stored_steps(path: &Path, opening: Opening<'_>) -> Vec<u64> {
    let Ok(file) = load(0, path, opening) else { return Vec::new() };
    let steps = file.counters.iter().filter(|(name, _)| name.ends_with("step") || name.ends_with("step_num"));
    steps.filter_map(|(_, value)| value.parse().ok()).collect()
}
