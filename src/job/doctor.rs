//! `doctor SRC`: does the strategy fit the checkpoint?

use std::path::{Path, PathBuf};

use super::known_model::KnownModel;
use super::observer::Observer;
use super::reading::{self, Opened, Reading, which_save};
use super::strategy_name::strategy_rank;
use super::{crcs, fusion_order, settings};
use crate::Error;
use crate::engine::{CancelToken, Noop};
use crate::input::{Input, InputError, RankGaps, StrategySource, holds_gguf, load_strategies, strategy_files, survey};
use crate::model::{FusionLayout, Model};
use crate::plan::{
    self, Fate, Finding, Heads, Sorter, SourceFile, diagnose_entries, diagnose_strategy, diagnose_strategy_files,
    rank_count,
};
use crate::report::Diagnosis;

/// A requested examination: whether the strategy fits the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Doctor {
    /// The checkpoint.
    pub path: PathBuf,
    /// Its strategy.
    pub strategy: Option<PathBuf>,
    /// The model: a mindformers yaml or the name of a built-in one.
    pub model: Option<String>,
    /// Which save, where there are several.
    pub step: Option<String>,
    /// The last save that every rank has.
    pub latest: bool,
    /// Whether the CRCs that the files state are left unchecked.
    pub no_crc_check: bool,
}

/// What the user can do about an error.
type Remedy<'a> = dyn Fn(&Error) -> Option<String> + 'a;

impl Doctor {
    /// Of a checkpoint.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned(), ..Self::default() }
    }

    /// Looks, and lists what is wrong with the remedy of each: what `remedy` says of an error.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn run(&self, observer: &dyn Observer, remedy: &Remedy<'_>) -> Result<Diagnosis, Error> {
        let args = self;
        let finding = |error: &Error| finding(error, remedy);
        if holds_gguf(&args.path)? {
            return Ok(Diagnosis::new(args.path.display().to_string(), args.of_gguf(observer, remedy)));
        }
        let known = KnownModel::read(args.model.as_deref(), &args.path)?;
        let found = survey(
            &args.path,
            which_save(args.step.as_deref(), args.latest),
            settings::opening(&settings::budget(None)),
        )?;
        let mut findings = found.findings;
        let strategy = match args.strategy.as_deref() {
            Some(path) => strategy_of(path, &mut findings, remedy)?,
            None => None,
        };
        if let Some(input) = &found.input {
            let files = input.source_files();
            findings.extend(diagnose_entries(&files));
            if let Some(why) = &known.unused {
                findings.push(Finding::note(why.clone(), "name the model with -y where its heads matter"));
            }
            match &strategy {
                Some(strategy) => findings.extend(diagnose_strategy(&files, &strategy.set, known.spec())),
                None if args.strategy.is_none() && rank_count(&files) > 1 => {
                    let what = "without a strategy the ranks are taken for plain tensor parallelism".to_owned();
                    findings.push(Finding::note(what, "give the strategy of a training run with -ts"));
                }
                None => {}
            }
            if !args.no_crc_check {
                let config = settings::of_readers(&input.mappings());
                match crcs::faults(input, &config, &Noop, &CancelToken::default()) {
                    Ok(faults) => findings.extend(faults.into_iter().map(|(_, fault)| finding(&fault.into()))),
                    // One that cannot be read is a finding like any other.
                    Err(e) if reading::as_read(&input.mappings(), Ok(())).is_err() => findings.push(finding(&e)),
                    Err(e) => return Err(e),
                }
            }
            if let Some(what) = reading::other_strategies(&args.path, args.strategy.as_deref())? {
                findings.push(Finding::note(what, "give the strategies that were written with the checkpoint"));
            }
            // What a conversion would refuse is a finding, whatever it is.
            if findings.iter().all(|finding| !finding.wrong) {
                findings.extend(refusal((&args.path, input), &files, strategy.as_ref(), &known, (observer, remedy)));
            }
        }
        if let Some(input) = &found.input
            && let Err(e) = reading::check_unchanged(&input.mappings(), observer)
        {
            // Of a source that cannot be read it may be what was already reported.
            let found = finding(&e);
            if findings.last() != Some(&found) {
                findings.push(found);
            }
        }
        Ok(Diagnosis::new(args.path.display().to_string(), findings))
    }
}

impl Doctor {
    /// What a conversion of llama.cpp's files would refuse.
    fn of_gguf(&self, observer: &dyn Observer, remedy: &Remedy<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.strategy.is_some() {
            let what = "the strategy is not looked at: a GGUF file holds whole tensors".to_owned();
            findings.push(Finding::note(what, "leave -ts out"));
        }
        let whole = Opened::open(&self.path, RankGaps::Refused, None).and_then(|opened| {
            let files = opened.input().source_files();
            let fusion = FusionLayout::RankConcat;
            let (heads, ignore) = (Heads::default(), &|_: &str| false);
            let evidence = opened.input();
            let how = Reading { spec: None, strategy: None, fusion, other_grouped: false, heads, evidence, ignore };
            opened.check_whole_numbers(ignore)?;
            let read = opened.read(&files, &how)?;
            read.catalog.check_complete(opened.described().map(Model::tied))?;
            reading::check_unchanged(&opened.input().mappings(), observer)
        });
        findings.extend(whole.err().map(|error| finding(&error, remedy)));
        findings
    }
}

/// The strategy; what is wrong with its files becomes findings.
fn strategy_of(path: &Path, findings: &mut Vec<Finding>, remedy: &Remedy<'_>) -> Result<Option<StrategySource>, Error> {
    let source = match load_strategies(path, &settings::budget(None)) {
        Ok(source) => source,
        Err(e @ (InputError::NotFound(_) | InputError::File(_))) => return Err(e.into()),
        Err(e) => {
            findings.push(finding(&e.into(), remedy));
            return Ok(None);
        }
    };
    let named = strategy_files(path, &settings::budget(None))?.into_iter().filter_map(|(path, file)| {
        Some((strategy_rank(&path)?, path.display().to_string(), file.stages.into_keys().collect()))
    });
    findings.extend(diagnose_strategy_files(&named.collect::<Vec<_>>(), &source.set));
    Ok(Some(source))
}

fn refusal(
    (path, input): (&Path, &Input),
    files: &[SourceFile<'_>],
    strategy: Option<&StrategySource>,
    known: &KnownModel,
    (observer, remedy): (&dyn Observer, &Remedy<'_>),
) -> Option<Finding> {
    let finding = |error: &Error| finding(error, remedy);
    let gaps = if strategy.is_some() { RankGaps::Allowed } else { RankGaps::Refused };
    let made = fusion_order::made(path, &input.files, observer)
        .and_then(|made| Ok(made.map_or(Ok(()), |m| m.check(path, &input.files, gaps))?));
    if let Err(error) = made {
        return Some(finding(&error));
    }
    if let Err(error) = reading::check_whole_numbers(input, files, &|_| false) {
        return Some(finding(&error.into()));
    }
    let counters = plan::counters(files);
    let sorter = Sorter { counters: &counters, keep: &|_| false, drop: &|_| false };
    let ignore = |name: &str| sorter.fate(name) != Fate::Model;
    let fusion = FusionLayout::RankConcat;
    let spec = known.spec();
    let (heads, evidence, ignore) = (Heads::default(), input, &ignore);
    let how = Reading { spec, strategy, fusion, other_grouped: false, heads, evidence, ignore };
    let whole = reading::read(files, &how).and_then(|read| Ok(read.catalog.check_complete(spec.map(Model::tied))?));
    whole.err().map(|error| finding(&known.explain(error)))
}

fn finding(error: &Error, remedy: &Remedy<'_>) -> Finding {
    Finding::wrong(error.to_string(), remedy(error).unwrap_or_default())
}
