//! Does a strategy fit a checkpoint? All that is wrong, not only the first of it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Fate, Sorted, Sorter, SourceFile, StrategySet, check_ranks, counters, list, sort_entries};
use crate::formats::Entry;
use crate::formats::mindspore::ParamLayout;
use crate::model::Model;
use crate::model::naming::{Split, fused, role};
use crate::tensor::Shape;

/// Something to be said of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it is in the way of a conversion.
    pub wrong: bool,
    /// What is seen.
    pub what: String,
    /// What can be done.
    pub remedy: String,
}

impl Finding {
    /// Something that is in the way.
    pub fn wrong(what: String, remedy: impl Into<String>) -> Self {
        Self { wrong: true, what, remedy: remedy.into() }
    }

    /// Something worth knowing.
    pub fn note(what: String, remedy: impl Into<String>) -> Self {
        Self { wrong: false, what, remedy: remedy.into() }
    }
}

/// What the entries of a training checkpoint are, as far as there is something to do about it.
pub fn diagnose_entries(files: &[SourceFile<'_>]) -> Vec<Finding> {
    let counters = counters(files);
    let sorter = Sorter { counters: &counters, keep: &|_| false, drop: &|_| false };
    let Sorted { training, lora, unknown, .. } = sort_entries(files, &sorter);
    let names = |set: BTreeSet<String>| list(&set.into_iter().collect::<Vec<_>>());
    let mut findings = Vec::new();
    if !training.is_empty() {
        let rules: Vec<String> = training.iter().map(|(rule, count)| format!("{rule} {count}")).collect();
        let what = format!("the checkpoint holds training state: {}", rules.join(", "));
        findings.push(Finding::note(what, "-f train_to_infer leaves it out"));
    }
    if !lora.is_empty() {
        let what = format!("the checkpoint holds LoRA adapters: {}", names(lora));
        findings.push(Finding::note(what, "say what to do with them: --lora merge, keep or drop"));
    }
    if !unknown.is_empty() {
        let what = format!("neither known as parameters of the model nor as training state: {}", names(unknown));
        findings.push(Finding::wrong(what, "say what they are with --keep PATTERN or --drop PATTERN"));
    }
    findings
}

fn is_model(name: &str) -> bool {
    let counters = BTreeSet::new();
    Sorter { counters: &counters, keep: &|_| false, drop: &|_| false }.fate(name) == Fate::Model
}

/// What is wrong between a checkpoint and its strategy: ranks and stages, shapes times cuts, parameters of the one that the
/// other does not know.
pub fn diagnose_strategy(files: &[SourceFile<'_>], set: &StrategySet, spec: Option<&Model>) -> Vec<Finding> {
    let mut findings = ranks(files, set);
    let devices = set.devices();
    let mut shapes: BTreeMap<&str, (Shape, u64)> = BTreeMap::new();
    let mut groups: BTreeMap<(&'static str, &'static str), Vec<String>> = BTreeMap::new();
    let mut group = |what, remedy, name: String| groups.entry((what, remedy)).or_default().push(name);
    for (stage, layouts) in (0..).zip(set.stages()) {
        let of_stage: Vec<&SourceFile<'_>> = files.iter().filter(|f| u64::from(f.rank) / devices == stage).collect();
        let held: BTreeMap<&str, Vec<(u32, &Entry)>> = held(&of_stage);
        for (name, param) in layouts.iter().filter(|(name, _)| is_model(name)) {
            let Some(holders) = held.get(name.as_str()) else {
                if !of_stage.is_empty() && !held_otherwise(name, &held) {
                    let remedy = "the file is not whole, or the strategy is another run's";
                    group("in the strategy, but in no file of its stage", remedy, format!("{name} of stage {stage}"));
                }
                continue;
            };
            match full_shape(param, holders) {
                Err(why) => group(
                    "shapes that the strategy's cuts do not fit",
                    "give the strategy of the run that saved this checkpoint",
                    format!("{name} of stage {stage}: {why}"),
                ),
                Ok(shape) => {
                    let (known, first) = shapes.entry(name).or_insert_with(|| (shape.clone(), stage));
                    if *known != shape {
                        group(
                            "full shapes that differ between stages",
                            "the stages are not of one checkpoint, or the strategy is another run's",
                            format!("{name}: {known} in stage {first}, {shape} in stage {stage}"),
                        );
                    }
                }
            }
        }
        for name in held.keys().filter(|name| is_model(name) && !layouts.contains_key(**name)) {
            let related = fused(name).is_some_and(|info| {
                layouts.contains_key(&info.name) || info.parts.iter().all(|part| layouts.contains_key(part))
            });
            if !related {
                let remedy =
                    "give the strategy of the run that saved this checkpoint, or leave them out with --drop PATTERN";
                group("in a file, but not in its stage's strategy", remedy, format!("{name} of stage {stage}"));
            }
        }
    }
    let grouped = groups.into_iter();
    findings.extend(grouped.map(|((what, remedy), names)| Finding::wrong(format!("{what}: {}", list(&names)), remedy)));
    if let Some(spec) = spec {
        findings.extend(against_model(spec, shapes.iter().map(|(name, (shape, _))| (*name, shape))));
    }
    findings
}

fn held<'a>(files: &[&SourceFile<'a>]) -> BTreeMap<&'a str, Vec<(u32, &'a Entry)>> {
    let mut held: BTreeMap<&str, Vec<(u32, &Entry)>> = BTreeMap::new();
    for file in files {
        for entry in file.entries {
            held.entry(entry.name.as_str()).or_default().push((file.rank, entry));
        }
    }
    held
}

/// Whether a parameter is there fused, or in parts.
fn held_otherwise(name: &str, held: &BTreeMap<&str, Vec<(u32, &Entry)>>) -> bool {
    fused(name).is_some_and(|info| {
        held.contains_key(info.name.as_str()) || info.parts.iter().all(|part| held.contains_key(part.as_str()))
    })
}

fn ranks(files: &[SourceFile<'_>], set: &StrategySet) -> Vec<Finding> {
    let mut findings = Vec::new();
    let present: BTreeSet<u64> = files.iter().map(|f| u64::from(f.rank)).collect();
    let numbers = |ranks: Vec<u64>| list(&ranks.iter().map(|rank| format!("rank_{rank}")).collect::<Vec<_>>());
    let beyond: Vec<u64> = present.iter().copied().filter(|&rank| rank >= set.ranks()).collect();
    if !beyond.is_empty() {
        let what = format!("{} of a strategy for {} ranks", numbers(beyond), set.ranks());
        findings.push(Finding::wrong(what, "remove what is left of another run, or give this run's strategy"));
    }
    let missing: Vec<u64> = (0..set.ranks()).filter(|rank| !present.contains(rank)).collect();
    match check_ranks(files, set, is_model) {
        Err(error) => findings.push(Finding::wrong(error.to_string(), "copy the missing rank directories")),
        Ok(()) if !missing.is_empty() => {
            let what = format!("{} missing; other ranks hold the same", numbers(missing));
            findings.push(Finding::note(what, "nothing need be done"));
        }
        Ok(()) => {}
    }
    findings
}

/// The full shape on which all holders agree, or why there is none.
fn full_shape(param: &ParamLayout, holders: &[(u32, &Entry)]) -> Result<Shape, String> {
    let mut known: Option<(Shape, u32)> = None;
    for &(rank, entry) in holders {
        let shape =
            param.layout.full_shape(&entry.shape).map_err(|e| format!("{} in rank {rank}: {e}", entry.shape))?;
        // The optimizer's shard and the tensor map must divide what they are said to have cut.
        if let Err(e) = param.layout.region(shape.dims(), 0) {
            return Err(format!("{} in rank {rank}: {e}", entry.shape));
        }
        match &known {
            Some((first, other)) if *first != shape => {
                return Err(format!("{first} by rank {other}, {shape} by rank {rank}"));
            }
            _ => known = Some((shape, rank)),
        }
    }
    let (shape, _) = known.ok_or_else(|| "no rank holds it".to_owned())?;
    match param.full_shape.as_ref().filter(|stated| **stated != shape) {
        Some(stated) => Err(format!("{shape} by the files, {stated} by the strategy")),
        None => Ok(shape),
    }
}

/// Full shapes that are not the model's; a padded vocabulary is recognised by the rest.
fn against_model<'a>(spec: &Model, shapes: impl Iterator<Item = (&'a str, &'a Shape)>) -> Vec<Finding> {
    let (mut differ, mut padded) = (Vec::new(), BTreeMap::new());
    for (name, shape) in shapes {
        let Some(expected) = spec.stored_shape(name).filter(|expected| expected != shape) else { continue };
        let rows = |shape: &Shape| shape.dims().first().copied().unwrap_or(0);
        let vocabulary = role(name).is_some_and(|r| r.split == Split::Vocabulary);
        if vocabulary && shape.dims().get(1..) == expected.dims().get(1..) && rows(shape) > rows(&expected) {
            padded.insert(name.to_owned(), rows(shape));
        } else {
            differ.push(format!("{name}: {shape}, the model says {expected}"));
        }
    }
    let mut findings = Vec::new();
    if let Some(&rows) = padded.values().next() {
        let names: Vec<String> = padded.into_keys().collect();
        let what = format!("the vocabulary is padded from {} to {rows} rows: {}", spec.vocab(), list(&names));
        findings.push(Finding::wrong(what, format!("set vocab_size: {rows} in the yaml, as the run was trained")));
    }
    if !differ.is_empty() {
        let what = format!("full shapes that are not the model's: {}", list(&differ));
        let remedy =
            "check that -y is the yaml of this model, and give the strategy of the run that saved this checkpoint";
        findings.push(Finding::wrong(what, remedy));
    }
    findings
}

/// What is wrong with the names of the strategy files: `ckpt_strategy_rank_<n>` must be of the stage of rank `n`.
/// `files`: the rank in a file's name, its name, and the stages that it holds.
pub fn diagnose_strategy_files(files: &[(u64, String, Vec<u32>)], set: &StrategySet) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (rank, name, stages) in files {
        let stage = rank / set.devices();
        if *rank >= set.ranks() {
            let what = format!("{name} is there, though the strategy is for {} ranks", set.ranks());
            findings.push(Finding::wrong(what, "remove what is left of another run, or give all files of this one"));
        } else if stages.len() == 1 && stages.iter().all(|s| u64::from(*s) != stage) {
            let what = format!("{name} is of stage {}, but rank {rank} is of stage {stage}", stages[0]);
            findings
                .push(Finding::wrong(what, "the files are of runs with different numbers of ranks: keep one run's"));
        }
    }
    findings
}
