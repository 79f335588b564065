//! Two checkpoints that are compared, read as the same model.

use std::path::Path;

use crate::Error;
use crate::input::StrategySource;
use crate::job::reading::{self, Opened, Read, Reading};
use crate::model::{FusionLayout, Model};
use crate::plan::{Heads, SourceFile};

/// One of the two checkpoints.
pub(super) struct Side<'a> {
    pub(super) opened: &'a Opened,
    pub(super) files: Vec<SourceFile<'a>>,
    pub(super) strategy: Option<StrategySource>,
}

impl<'a> Side<'a> {
    pub(super) fn new(opened: &'a Opened, strategy: Option<&Path>, memory: Option<u64>) -> Result<Self, Error> {
        Ok(Self { opened, files: opened.input().source_files(), strategy: reading::strategy(strategy, memory)? })
    }
}

/// Both checkpoints, and what is known of their model.
pub(super) struct Sides<'a> {
    pub(super) spec: Option<&'a Model>,
    pub(super) heads: Heads,
    pub(super) ignore: &'a dyn Fn(&str) -> bool,
    pub(super) a: Side<'a>,
    pub(super) b: Side<'a>,
}

impl Sides<'_> {
    /// Whether both are one rank of a model of no known family, so that names are only names.
    pub(super) fn copied(&self) -> bool {
        let any = |side: &Side<'_>| side.strategy.is_none() && side.opened.is_of_no_family(self.ignore);
        self.spec.is_none() && any(&self.a) && any(&self.b)
    }

    /// Reads the headers of both as models, with their fused rows in these orders.
    pub(super) fn read(&self, a: FusionLayout, b: FusionLayout) -> Result<(Read, Read), Error> {
        if self.copied() {
            return Ok((
                reading::read_copied(&self.a.files, self.ignore)?,
                reading::read_copied(&self.b.files, self.ignore)?,
            ));
        }
        let one = |side: &Side<'_>, fusion, other| {
            let (spec, strategy, ignore) = (self.spec, side.strategy.as_ref(), self.ignore);
            let other_grouped = other == FusionLayout::Grouped;
            let (evidence, heads) = (side.opened.input(), self.heads);
            side.opened.read(&side.files, &Reading { spec, strategy, fusion, other_grouped, heads, evidence, ignore })
        };
        let (mut a, mut b) = (one(&self.a, a, b)?, one(&self.b, b, a)?);
        // Meta's rows are read by the halves of their heads.
        a.catalog.refine_like(&b.catalog);
        b.catalog.refine_like(&a.catalog);
        Ok((a, b))
    }
}
