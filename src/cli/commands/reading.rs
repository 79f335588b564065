//! From a named checkpoint to its catalog: shared by conversion, comparison and listing.

use std::path::Path;

use crate::Error;
use crate::cli::config;
use crate::input::{
    ForeignInput, Input, InputError, Provenance, RankGaps, StrategySource, check_crc, load_strategies, provenance,
};
use crate::models::{FusionLayout, ModelSpec};
use crate::plan::{
    Arrangement, Catalog, CatalogOptions, ForeignNotes, ForeignOptions, Heads, PlanError, SourceFile, infer_spec,
    rank_count,
};

/// What is asked about a source.
pub(super) struct Reading<'a> {
    pub spec: Option<&'a ModelSpec>,
    pub strategy: Option<&'a StrategySource>,
    pub fusion: FusionLayout,
    /// Whether the other side's fused parameters are grouped.
    pub other_grouped: bool,
    /// The numbers of heads, as far as they are stated.
    pub heads: Heads,
    pub ignore: &'a dyn Fn(&str) -> bool,
}

/// A catalog, and the model as far as it is known.
pub(super) struct Read {
    pub catalog: Catalog,
    /// The named model, or a built-in one that has the checkpoint's shapes.
    pub spec: Option<ModelSpec>,
    /// What was inferred from the shapes, as text, where no model was named.
    pub inferred: Option<String>,
}

/// The strategy at a path, if one was given; it must be for as many ranks as there are.
pub(super) fn strategy(path: Option<&Path>) -> Result<Option<StrategySource>, Error> {
    Ok(path.map(load_strategies).transpose()?)
}

/// Reads a checkpoint's headers as a model.
pub(super) fn read(files: &[SourceFile<'_>], how: &Reading<'_>) -> Result<Read, Error> {
    let ranks = u64::from(rank_count(files));
    let arrangement = match how.strategy {
        Some(strategy) => {
            // Fewer directories than ranks may do, where replicas stand in; more cannot be right.
            if ranks > strategy.set.ranks() {
                return Err(PlanError::StrategyRanks { side: "source", strategy: strategy.set.ranks(), ranks }.into());
            }
            Arrangement::Strategy(&strategy.set)
        }
        None => Arrangement::Rules(ranks),
    };
    let grouped = how.fusion == FusionLayout::Grouped || how.other_grouped;
    let options =
        |spec, heads_matter| CatalogOptions { spec, arrangement, fusion: how.fusion, heads_matter, ignore: how.ignore };
    if let Some(spec) = how.spec {
        how.heads.agree(spec)?;
        let catalog = Catalog::new(files, &options(how.spec, grouped))?;
        return Ok(Read { catalog, spec: how.spec.cloned(), inferred: None });
    }
    // The shapes alone tell the model only where it is a built-in one; for that they are read as if ungrouped, which
    // changes no shape.
    let plain = CatalogOptions { fusion: FusionLayout::RankConcat, ..options(None, false) };
    let catalog = Catalog::new(files, &plain)?;
    let (spec, text) = infer(&catalog, how.heads)?;
    let catalog = if grouped { Catalog::new(files, &options(spec.as_ref(), true))? } else { catalog };
    Ok(Read { catalog, spec, inferred: text })
}

/// The model, where the shapes are a built-in one's or the heads are stated, and what they say as text.
fn infer(catalog: &Catalog, stated: Heads) -> Result<(Option<ModelSpec>, Option<String>), PlanError> {
    let mut inferred = infer_spec(catalog);
    match &mut inferred {
        Some((spec, _)) => *spec = stated.applied(spec)?,
        None if stated.is_stated() => {
            let why = "--heads and --kv-heads: the checkpoint holds no q and k whose rows they could divide";
            return Err(PlanError::Heads(why.to_owned()));
        }
        None => {}
    }
    let text = inferred.as_ref().map(|(spec, name)| {
        let heads = match name {
            _ if stated.is_stated() => format!("{} heads and {} kv heads, as stated", spec.heads, spec.kv_heads),
            Some(name) => format!("the shapes of {name}: {} heads, {} kv heads", spec.heads, spec.kv_heads),
            None => "the number of heads cannot be seen (--heads and --kv-heads state it)".to_owned(),
        };
        format!(
            "inferred from the checkpoint: hidden {}, {} layers, {} q rows, {} k rows, ffn {}, vocabulary {}; {heads}",
            spec.hidden,
            spec.layers,
            spec.query_rows(),
            spec.key_rows(),
            spec.ffn,
            spec.vocab
        )
    });
    let known = inferred.filter(|(_, name)| name.is_some() || stated.is_stated()).map(|(spec, _)| spec);
    Ok((known, text))
}

/// A checkpoint of MindSpore's or of PyTorch's, mapped and parsed.
pub(super) enum Opened {
    Ours(Input),
    Foreign(Box<ForeignInput>),
}

impl Opened {
    /// Opens whatever is there; where file names do not tell whose it is, the parameters' names do.
    pub(super) fn open(path: &Path, gaps: RankGaps) -> Result<Self, Error> {
        let promise = config::stable_inputs();
        let ours = || Ok(Self::Ours(Input::open(path, gaps, promise)?));
        match provenance(path)? {
            Provenance::MindSpore => ours(),
            Provenance::Foreign => Ok(Self::Foreign(Box::new(ForeignInput::open(path, promise)?))),
            Provenance::ByNames => match ForeignInput::open(path, promise) {
                Err(InputError::IsMindSpore(_) | InputError::NoFamily { .. } | InputError::Foreign { .. }) => ours(),
                other => Ok(Self::Foreign(Box::new(other?))),
            },
        }
    }

    pub(super) fn input(&self) -> &Input {
        match self {
            Self::Ours(input) => input,
            Self::Foreign(foreign) => &foreign.input,
        }
    }

    /// Reads its headers as a model.
    pub(super) fn read(&self, files: &[SourceFile<'_>], how: &Reading<'_>) -> Result<Read, Error> {
        match self {
            Self::Ours(_) => read(files, how),
            Self::Foreign(foreign) => {
                let tied = how.spec.map_or(foreign.tied, |spec| spec.tied);
                read_foreign(foreign, files, how, tied).map(|(read, _)| read)
            }
        }
    }
}

/// Reads a foreign checkpoint's headers as a model. `target_tied`: whether the target wants no `lm_head` of its own.
pub(super) fn read_foreign(
    foreign: &ForeignInput,
    files: &[SourceFile<'_>],
    how: &Reading<'_>,
    target_tied: bool,
) -> Result<(Read, ForeignNotes), Error> {
    let others: Vec<String> = (foreign.input.files.iter().flat_map(|f| &f.others))
        .filter(|(name, _)| !(how.ignore)(name))
        .map(|(name, kind)| format!("{name} ({kind})"))
        .collect();
    if !others.is_empty() {
        // What stands among the tensors and is none could be a parameter in a form that is not known.
        return Err(PlanError::Unplaced { side: "source", names: others }.into());
    }
    let spec = how.spec.or(foreign.spec.as_ref());
    let options = ForeignOptions {
        spec,
        naming: foreign.naming,
        shards: foreign.shards,
        heads_matter: how.other_grouped,
        strides: &|file, entry| foreign.strides(file, entry),
        source_tied: foreign.tied,
        target_tied,
        ignore: how.ignore,
    };
    let (catalog, notes) = Catalog::foreign(files, &options)?;
    let (spec, inferred) = match spec {
        Some(spec) => {
            how.heads.agree(spec)?;
            (Some(spec.clone()), None)
        }
        None => infer(&catalog, how.heads)?,
    };
    // Rows are read by the heads only where those are known beforehand.
    let (catalog, notes) = match &spec {
        Some(found) if options.spec.is_none() && how.other_grouped => {
            Catalog::foreign(files, &ForeignOptions { spec: Some(found), target_tied: found.tied, ..options })?
        }
        _ => (catalog, notes),
    };
    Ok((Read { catalog, spec, inferred }, notes))
}

/// Checks the CRC trailers of all files that have one.
pub(super) fn check_crcs(input: &Input, workers: usize) -> Result<(), Error> {
    let with_crc: Vec<_> = input.files.iter().filter(|f| f.crc.is_some()).collect();
    for batch in with_crc.chunks(workers.max(1)) {
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = batch.iter().map(|file| scope.spawn(|| check_crc(file))).collect();
            threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
        });
        for outcome in outcomes {
            outcome.map_err(|_| crate::engine::EngineError::WorkerPanicked)??;
        }
    }
    Ok(())
}
