//! Reading: from the names of all ranks to a catalog.

use super::Catalog;
use super::add::Adding;
use super::reader::{CatalogOptions, Reader, Reading, index};
use crate::model::{Dialect, FusionLayout};
use crate::plan::source::hold_blocks;
use crate::plan::{Arrangement, PlanError, SourceFile, rank_count};

impl Catalog {
    /// Reads the headers of a checkpoint as the tensors of a model.
    ///
    /// # Errors
    /// See [`PlanError`]: a missing rank or parameter, shapes that disagree with the layout or the model, ranks that
    /// disagree with each other, names that nothing places.
    pub fn new(files: &[SourceFile<'_>], options: &CatalogOptions<'_>) -> Result<Self, PlanError> {
        if let Arrangement::Strategy(set) = options.arrangement {
            // Fewer directories than ranks may suffice, where replicas replace the rest; more cannot be right.
            let ranks = u64::from(rank_count(files));
            if ranks > set.ranks() {
                return Err(PlanError::StrategyRanks { side: "source", strategy: set.ranks(), ranks });
            }
        }
        let order = options.fusion.name();
        let names = || files.iter().flat_map(|file| file.entries).map(|entry| entry.name.as_str());
        let dialect = match options.spec {
            Some(model) => Some(Dialect::mindspore(model.family(), order)),
            None => Dialect::recognise_mindspore(names(), order),
        };
        let mut catalog = Self::default();
        let named = catalog.names(files, dialect.as_ref(), options.ignore)?;
        let reader = Reader {
            files,
            evidence: options.evidence,
            dialect: dialect.as_ref(),
            spec: options.spec,
            arrangement: options.arrangement,
            rank_concat: options.fusion == FusionLayout::RankConcat,
            strides: &|_, _| None,
            foreign: false,
            by_blocks: hold_blocks(files),
            named: &named,
            index: index(&named),
        };
        reader.check_copies()?;
        reader.read(&mut catalog)?;
        catalog.check_whole(options)?;
        Ok(catalog)
    }
}

impl Reader<'_> {
    /// Adds all names to a catalog.
    pub(super) fn read(&self, catalog: &mut Catalog) -> Result<(), PlanError> {
        let mut readings = Vec::with_capacity(self.named.len());
        let mut differ = Vec::new();
        for one in self.named {
            let mut stages = self.stages(one)?;
            let loose = stages.is_empty();
            // One holder gives no evidence.
            let alike = || Ok::<_, PlanError>(one.holders.len() > 1 && self.sources().agree(&one.holders)?);
            if loose && !alike()? {
                differ.push(one.name.to_string());
            } else if loose && one.known.is_some() {
                stages = self.whole_everywhere(one);
            }
            readings.push(if stages.is_empty() {
                Reading::Loose
            } else {
                let (shape, dtype) = self.full(one, &stages)?;
                Reading::Laid { stages, shape, dtype, loose }
            });
        }
        catalog.sized = self.sizes(&readings)?;
        let mut adding = Adding::new(catalog);
        for (one, reading) in self.named.iter().zip(readings) {
            match (reading, &one.known) {
                (Reading::Loose, _) => one.loose(self.files, &mut adding)?,
                (Reading::Laid { stages, shape, dtype, loose }, Some(known)) => {
                    self.stored(one, known, (&stages, shape, dtype, loose), &mut adding)?;
                }
                (Reading::Laid { stages, shape, dtype, .. }, None) => {
                    self.plain(one, (&stages, shape, dtype), &mut adding)?;
                }
            }
        }
        // That a rank is missing is better said than what cannot be known without it.
        if !differ.is_empty() {
            return Err(match self.arrangement {
                Arrangement::Strategy(_) => PlanError::Differ(differ),
                Arrangement::Rules(_) => PlanError::Unplaced { side: "source", names: differ },
            });
        }
        adding.finish()
    }
}
