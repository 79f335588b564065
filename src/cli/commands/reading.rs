//! From a named checkpoint to its catalog: shared by conversion, comparison and listing.

use std::path::Path;

use crate::Error;
use crate::input::{Input, StrategySource, check_crc, load_strategies};
use crate::models::{FusionLayout, ModelSpec};
use crate::plan::{Arrangement, Catalog, CatalogOptions, PlanError, SourceFile, infer_spec, rank_count};

/// What is asked about a source.
pub(super) struct Reading<'a> {
    pub spec: Option<&'a ModelSpec>,
    pub strategy: Option<&'a StrategySource>,
    pub fusion: FusionLayout,
    /// Whether the other side's fused parameters are grouped.
    pub other_grouped: bool,
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
    if how.spec.is_some() {
        let catalog = Catalog::new(files, &options(how.spec, grouped))?;
        return Ok(Read { catalog, spec: how.spec.cloned(), inferred: None });
    }
    // The shapes alone tell the model only where it is a built-in one; for that they are read as if ungrouped, which
    // changes no shape.
    let plain = CatalogOptions { fusion: FusionLayout::RankConcat, ..options(None, false) };
    let catalog = Catalog::new(files, &plain)?;
    let inferred = infer_spec(&catalog);
    let text = inferred.as_ref().map(|(spec, name)| {
        let heads = match name {
            Some(name) => format!("the shapes of {name}: {} heads, {} kv heads", spec.heads, spec.kv_heads),
            None => "the number of heads cannot be seen, so -w is checked against rows only".to_owned(),
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
    let spec = inferred.and_then(|(spec, name)| name.map(|_| spec));
    let catalog = if grouped { Catalog::new(files, &options(spec.as_ref(), true))? } else { catalog };
    Ok(Read { catalog, spec, inferred: text })
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
