//! From a named checkpoint to its catalog: shared by conversion, comparison and listing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::choices::Function;
use super::observer::Observer;
use super::patterns::Patterns;
use super::spec::Job;
use super::strategy_name::is_strategy_name;
use super::{settings, target};
use crate::Error;
use crate::input::{
    self, ForeignInput, Input, InputError, ManifestHead, Provenance, RankGaps, StrategySource, WhichSave, holds_gguf,
    load_strategies, provenance, quantised_files, strategy_bytes, strategy_paths,
};
use crate::model::naming::names_parameter;
use crate::model::{Family, FusionLayout, Model, Origin, Place, origin};
use crate::plan::{
    self, Arrangement, Catalog, CatalogOptions, Evidence, ForeignNotes, ForeignOptions, Heads, Inferred, PlanError,
    SourceFile, WholeNumbers, list, rank_count,
};
use crate::storage::LocalBlob;

/// The save that is meant.
pub(super) fn which_save(step: Option<&str>, latest: bool) -> WhichSave<'_> {
    match step {
        Some(text) => WhichSave::Named(text),
        None if latest => WhichSave::Latest,
        None => WhichSave::Only,
    }
}

impl Job {
    /// The numbers of heads, as far as they are stated.
    pub(super) fn heads(&self) -> Heads {
        Heads { heads: self.model.heads, kv_heads: self.model.kv_heads }
    }
}

/// What is asked about a source.
pub(super) struct Reading<'a> {
    pub spec: Option<&'a Model>,
    pub strategy: Option<&'a StrategySource>,
    pub fusion: FusionLayout,
    /// Whether the other side's fused parameters are grouped.
    pub other_grouped: bool,
    /// The numbers of heads, as far as they are stated.
    pub heads: Heads,
    /// What the files hold, where headers leave it open.
    pub evidence: &'a dyn Evidence,
    pub ignore: &'a dyn Fn(&str) -> bool,
}

/// A catalog, and the model as far as it is known.
pub(super) struct Read {
    pub catalog: Catalog,
    /// The named model, or a built-in one that has the checkpoint's shapes.
    pub spec: Option<Model>,
    /// What was inferred from the shapes, as text, where no model was named.
    pub inferred: Option<String>,
}

/// The strategy at a path, if one was given; it must be for as many ranks as there are.
pub(super) fn strategy(path: Option<&Path>, memory: Option<u64>) -> Result<Option<StrategySource>, Error> {
    Ok(path.map(|path| load_strategies(path, &settings::budget(memory))).transpose()?)
}

/// What is to be said where strategy files are not those that were written with a checkpoint, as far as its manifest says: an
/// interrupted run may have replaced one of them only. Merged and foreign files are not compared.
pub(super) fn other_strategies(checkpoint: &Path, strategy: Option<&Path>) -> Result<Option<String>, Error> {
    let (Some(strategy), Some(head)) = (strategy, ManifestHead::of(checkpoint)) else { return Ok(None) };
    let Some(written) = head.value("strategies") else { return Ok(None) };
    let paths = strategy_paths(strategy)?;
    let per_rank = |path: &PathBuf| is_strategy_name(&path.file_name().unwrap_or_default().to_string_lossy());
    if !paths.iter().all(per_rank) {
        return Ok(None);
    }
    for path in &paths {
        if target::strategy_sum(&strategy_bytes(path)?) == written {
            return Ok(None);
        }
    }
    Ok(Some(format!(
        "{} holds other strategies than those that were written with {}, as its manifest shows: where an interrupted run left \
         them so, the same command with --overwrite writes both again; where they are another target's, it needs an -is of its own",
        strategy.display(),
        checkpoint.display()
    )))
}

/// Reads a checkpoint's headers as a model.
pub(super) fn read(files: &[SourceFile<'_>], how: &Reading<'_>) -> Result<Read, Error> {
    let arrangement = match how.strategy {
        Some(strategy) => Arrangement::Strategy(&strategy.set),
        None => Arrangement::Rules(u64::from(rank_count(files))),
    };
    let grouped = how.fusion == FusionLayout::Grouped || how.other_grouped;
    let options = |spec| {
        let &Reading { fusion, evidence, ignore, .. } = how;
        CatalogOptions { spec, arrangement, fusion, evidence, ignore }
    };
    if let Some(spec) = how.spec {
        how.heads.agree(spec)?;
        let catalog = Catalog::new(files, &options(Some(spec)))?;
        return Ok(Read { catalog, spec: how.spec.cloned(), inferred: None });
    }
    // The shapes alone show the model only where it is a built-in one; for that they are read as if ungrouped, which
    // changes no shape.
    let plain = CatalogOptions { fusion: FusionLayout::RankConcat, ..options(None) };
    let catalog = Catalog::new(files, &plain)?;
    let (spec, text) = infer(&catalog, how.heads)?;
    let catalog = match &spec {
        Some(model) if grouped => Catalog::new(files, &options(Some(model)))?,
        None if grouped => Catalog::new(files, &options(None))?,
        _ => catalog,
    };
    Ok(Read { catalog, spec, inferred: text })
}

/// The model, where the shapes are a built-in one's or the heads are stated, and what they say as text.
fn infer(catalog: &Catalog, stated: Heads) -> Result<(Option<Model>, Option<String>), PlanError> {
    let Some(Inferred { model, builtin, heads_known }) = plan::infer(catalog, stated)? else { return Ok((None, None)) };
    let heads = match builtin {
        _ if stated.is_stated() => format!("{} heads and {} kv heads, as stated", model.heads(), model.kv_heads()),
        Some(name) => format!("the shapes of {name}: {} heads, {} kv heads", model.heads(), model.kv_heads()),
        None => "the number of heads cannot be seen (--heads and --kv-heads state it)".to_owned(),
    };
    let ffn = model.ffn().map_or_else(String::new, |rows| format!(" ffn {rows},"));
    let text = format!(
        "inferred from the checkpoint: hidden {}, {} layers, {} q rows, {} k rows,{ffn} vocabulary {}; {heads}",
        model.hidden(),
        model.layers(),
        model.query_rows(),
        model.key_rows(),
        model.vocab()
    );
    Ok((heads_known.then_some(model), Some(text)))
}

/// A checkpoint of MindSpore's or of PyTorch's, mapped and parsed.
#[derive(Debug)]
pub(super) enum Opened {
    Ours(Input),
    Foreign(Box<ForeignInput>),
}

impl Opened {
    /// Opens the source that the function of a job takes; another kind of source is refused and named.
    pub(super) fn of_job(job: &Job, observer: &dyn Observer) -> Result<Self, Error> {
        let budget = settings::budget(job.run.reading.memory);
        let (path, opening) = (job.source.path.as_path(), settings::opening(&budget));
        let whose = provenance(path)?;
        // llama.cpp's files become both.
        if job.function == Function::PtToMs || (job.function == Function::MsToPt && holds_gguf(path)?) {
            if whose == Provenance::MindSpore {
                return Err(InputError::IsMindSpore(path.to_owned()).into());
            }
            return Ok(Self::Foreign(Box::new(ForeignInput::open(path, opening)?)));
        }
        if holds_gguf(path)? {
            return Err(InputError::IsGguf(path.to_owned()).into());
        }
        if whose == Provenance::Foreign {
            return Err(InputError::IsForeign(path.to_owned()).into());
        }
        let input = if job.is_trained() {
            Input::open_training(path, which_save(job.source.step.as_deref(), job.source.latest), opening)?
        } else {
            Input::open(path, job.gaps(), opening)?
        };
        input.why.iter().for_each(|why| observer.note(why));
        input.check_ranks()?;
        let names = input.files.iter().flat_map(|f| &f.entries).map(|e| &*e.name);
        if whose == Provenance::ByNames && matches!(origin(names), Ok(Some(Origin::Foreign(_))) | Err(_)) {
            return Err(InputError::IsForeign(path.to_owned()).into());
        }
        Ok(Self::Ours(input))
    }

    /// Refuses weights that are not floating-point numbers, whatever the function and the precision.
    pub(super) fn refuse_whole_numbers(&self, job: &Job, observer: &dyn Observer) -> Result<(), Error> {
        let edits = &job.edits;
        let patterns = [Patterns::of("--ignore", &edits.ignore)?, Patterns::of("--drop", &edits.drop)?];
        let ignore = |name: &str| patterns.iter().any(|patterns| patterns.matches(name));
        let left_out = self.check_whole_numbers(&ignore)?;
        if !left_out.is_empty() {
            let names = list(&left_out);
            observer.note(&format!(
                "left out although they belong to quantised weights (the weights are floating-point): {names}"
            ));
        }
        Ok(())
    }

    /// Opens whatever is there; where file names do not show which tool wrote it, the parameters' names do.
    pub(super) fn open(path: &Path, gaps: RankGaps, memory: Option<u64>) -> Result<Self, Error> {
        let budget = settings::budget(memory);
        let opening = settings::opening(&budget);
        let ours = || Ok(Self::Ours(Input::open(path, gaps, opening)?));
        match provenance(path)? {
            Provenance::MindSpore => ours(),
            Provenance::Foreign => Ok(Self::Foreign(Box::new(ForeignInput::open(path, opening)?))),
            Provenance::ByNames => match ForeignInput::open(path, opening) {
                Err(InputError::IsMindSpore(_) | InputError::NoFamily { .. } | InputError::Foreign { .. }) => ours(),
                other => Ok(Self::Foreign(Box::new(other?))),
            },
        }
    }

    /// The model that a configuration beside a foreign checkpoint describes.
    pub(super) fn described(&self) -> Option<&Model> {
        match self {
            Self::Ours(_) => None,
            Self::Foreign(foreign) => foreign.model.as_ref(),
        }
    }

    pub(super) fn input(&self) -> &Input {
        match self {
            Self::Ours(input) => input,
            Self::Foreign(foreign) => &foreign.input,
        }
    }

    /// Refuses weights that are not floating-point numbers. Returns the signs of a quantised model that are left out.
    pub(super) fn check_whole_numbers(&self, ignore: &dyn Fn(&str) -> bool) -> Result<Vec<String>, PlanError> {
        let input = self.input();
        match self {
            Self::Ours(_) => check_whole_numbers(input, &input.source_files(), ignore),
            Self::Foreign(foreign) => {
                let place = |name: &str| foreign.dialect.place(name);
                let is_parameter =
                    |name: &str| matches!(place(name), Place::Stored(stored) if stored.companion.is_none());
                let how = WholeNumbers {
                    is_parameter: &is_parameter,
                    is_unknown: &|name| !is_parameter(name) && !matches!(place(name), Place::Buffer),
                    ignore,
                    signs: quantised_files(input),
                };
                plan::check_whole_numbers(&input.source_files(), &how)
            }
        }
    }

    /// Whether it is the one rank of a model of no known family: whatever it is, its tensors are whole.
    pub(super) fn is_of_no_family(&self, ignore: &dyn Fn(&str) -> bool) -> bool {
        let Self::Ours(input) = self else { return false };
        let names = input.files.iter().flat_map(|file| &file.entries).map(|entry| entry.name.as_str());
        rank_count(&input.source_files()) == 1 && !plan::are_of_a_family(names.filter(|name| !ignore(name)))
    }

    /// Reads its headers as a model.
    pub(super) fn read(&self, files: &[SourceFile<'_>], how: &Reading<'_>) -> Result<Read, Error> {
        match self {
            Self::Ours(_) => read(files, how),
            Self::Foreign(foreign) => {
                let tied = how.spec.map_or(foreign.tied, Model::tied);
                read_foreign(foreign, files, how, Tied { source: foreign.tied, target: tied }).map(|(read, _)| read)
            }
        }
    }
}

/// Reads headers as tensors of which nothing is known.
pub(super) fn read_copied(files: &[SourceFile<'_>], ignore: &dyn Fn(&str) -> bool) -> Result<Read, Error> {
    Ok(Read { catalog: Catalog::copied(files, ignore)?, spec: None, inferred: None })
}

/// Whether `lm_head` is the embedding.
#[derive(Clone, Copy)]
pub(super) struct Tied {
    /// In the source.
    pub source: bool,
    /// In the target, which then needs none of its own.
    pub target: bool,
}

/// A model that -y names in terms of the family of the names.
fn of_family(model: &Model, family: &'static Family) -> Result<Model, PlanError> {
    model
        .of_family(family)
        .ok_or_else(|| PlanError::OtherFamily { named: model.family().name.clone(), found: family.name.clone() })
}

/// Reads a foreign checkpoint's headers as a model.
pub(super) fn read_foreign(
    foreign: &ForeignInput,
    files: &[SourceFile<'_>],
    how: &Reading<'_>,
    tied: Tied,
) -> Result<(Read, ForeignNotes), Error> {
    let others: Vec<String> = (foreign.input.files.iter().flat_map(|f| &f.others))
        .filter(|(name, _)| !(how.ignore)(name))
        .map(|(name, kind)| format!("{name} ({kind})"))
        .collect();
    if !others.is_empty() {
        // What is among the tensors and is none could be a parameter in a form that is not known.
        return Err(PlanError::UnknownNames(others).into());
    }
    let dialect = &foreign.dialect;
    // What lies beside the files is of the family of their names; -y, which agrees with it, is of the network's.
    let named = || how.spec.map(|model| of_family(model, dialect.family())).transpose();
    let spec = foreign.model.clone().map_or_else(named, |model| Ok(Some(model)))?;
    let options = ForeignOptions {
        spec: spec.as_ref(),
        dialect,
        shards: foreign.shards,
        strides: &|file, entry| foreign.strides(file, entry),
        source_tied: tied.source,
        target_tied: tied.target,
        evidence: how.evidence,
        ignore: how.ignore,
    };
    let (catalog, notes) = Catalog::foreign(files, &options)?;
    let (spec, inferred) = match &spec {
        Some(spec) => {
            how.heads.agree(spec)?;
            (Some(spec.clone()), None)
        }
        None => infer(&catalog, how.heads)?,
    };
    // Rows are read by the heads only where those are known beforehand.
    let (catalog, notes) = match &spec {
        Some(found) if options.spec.is_none() && how.other_grouped => {
            Catalog::foreign(files, &ForeignOptions { spec: Some(found), target_tied: found.tied(), ..options })?
        }
        _ => (catalog, notes),
    };
    Ok((Read { catalog, spec, inferred }, notes))
}

/// As [`Opened::check_whole_numbers`], of a checkpoint of MindSpore's.
pub(super) fn check_whole_numbers(
    input: &Input,
    files: &[SourceFile<'_>],
    ignore: &dyn Fn(&str) -> bool,
) -> Result<Vec<String>, PlanError> {
    let how =
        WholeNumbers { is_parameter: &names_parameter, is_unknown: &|_| false, ignore, signs: quantised_files(input) };
    plan::check_whole_numbers(files, &how)
}

/// Whether the sources still are what they were when they were mapped. Before anything that was made of them is published.
pub(super) fn check_unchanged(mappings: &[Arc<LocalBlob>], observer: &dyn Observer) -> Result<(), Error> {
    let replaced = input::check_unchanged(mappings)?;
    if !replaced.is_empty() {
        let names: Vec<String> = replaced.iter().map(|path| path.display().to_string()).collect();
        let what = "removed or replaced while the program ran; what was read is the file that was there at the start";
        observer.note(&format!("{}: {what}", list(&names)));
    }
    Ok(())
}

/// What was made of sources, where all that was read of them is what they hold: else what the system says, and not what zeros in
/// the place of bytes led to.
pub(super) fn as_read<T>(mappings: &[Arc<LocalBlob>], made: Result<T, Error>) -> Result<T, Error> {
    LocalBlob::check_all(mappings)?;
    made
}

/// The sources' bytes, in the plan's order.
pub(super) fn sources(mappings: &[Arc<LocalBlob>]) -> Vec<&[u8]> {
    mappings.iter().map(|mapping| &***mapping).collect()
}
