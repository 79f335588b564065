//! What is read of a checkpoint: names with their holders, stage by stage, and by which options.

use std::collections::HashMap;
use std::fmt;

use super::Catalog;
use crate::layout::{LayoutError, TensorLayout};
use crate::model::naming::{is_copy, is_lora};
use crate::model::{Dialect, FusionLayout, Model};
use crate::plan::agreement::Sources;
use crate::plan::tensor_id::Known;
use crate::plan::{Arrangement, Evidence, PlanError, SourceFile};
use crate::tensor::{Dtype, Shape, TensorName};

/// How to read a source checkpoint.
pub struct CatalogOptions<'a> {
    /// The model, when it was named.
    pub spec: Option<&'a Model>,
    /// How the parameters lie over the ranks.
    pub arrangement: Arrangement<'a>,
    /// In which order the rows of fused parameters are.
    pub fusion: FusionLayout,
    /// What the files hold, where headers leave it open.
    pub evidence: &'a dyn Evidence,
    /// Names to leave out.
    pub ignore: &'a dyn Fn(&str) -> bool,
}

impl fmt::Debug for CatalogOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatalogOptions").field("spec", &self.spec).field("fusion", &self.fusion).finish_non_exhaustive()
    }
}

/// One name, what it is, and where it is held: file and entry, in the order of ranks.
pub(super) struct Named {
    pub name: TensorName,
    pub known: Option<Known>,
    pub holders: Vec<(usize, usize)>,
}

/// The layout of one parameter in one stage that holds it.
pub(super) struct InStage {
    pub stage: u64,
    pub layout: TensorLayout,
    pub full_shape: Option<Shape>,
    /// The dimension of which the ranks hold more than there is, as several hold the same of some of the parts, and how long it is.
    pub mixed: Option<(usize, u64)>,
}

impl InStage {
    /// The full shape, from that of one rank's block.
    pub(super) fn full(&self, local: &Shape) -> Result<Shape, LayoutError> {
        let Some((dim, length)) = self.mixed else { return self.layout.full_shape(local) };
        let mut dims = local.dims().to_vec();
        if let Some(own) = dims.get_mut(dim) {
            *own = length;
        }
        Ok(Shape::new(dims)?)
    }
}

/// What is known of a name before the sizes of the model are.
pub(super) enum Reading {
    /// No layout knows it and no family, and all ranks hold it alike.
    Loose,
    Laid {
        stages: Vec<InStage>,
        shape: Shape,
        dtype: Dtype,
        /// Whether no layout knows it, and all ranks hold it alike: each has it whole.
        loose: bool,
    },
}

/// What is read: the naming scheme, how names are spread over the files, and what to report.
pub(super) struct Reader<'a> {
    pub files: &'a [SourceFile<'a>],
    pub evidence: &'a dyn Evidence,
    pub dialect: Option<&'a Dialect>,
    pub spec: Option<&'a Model>,
    pub arrangement: Arrangement<'a>,
    /// Whether fused rows follow one another part by part, so that their order depends on the number of ranks.
    pub rank_concat: bool,
    /// The strides of an entry (file, entry) in elements, where it is a view that is not row-major.
    pub strides: &'a dyn Fn(usize, usize) -> Option<Vec<u64>>,
    /// Whether they are files of PyTorch programs.
    pub foreign: bool,
    /// Whether any tensor is quantised by blocks: all floating-point numbers are read as singles.
    pub by_blocks: bool,
    pub named: &'a [Named],
    pub index: HashMap<&'a str, usize>,
}

pub(super) fn index(named: &[Named]) -> HashMap<&str, usize> {
    named.iter().enumerate().map(|(at, one)| (one.name.as_str(), at)).collect()
}

impl Catalog {
    /// All names that are not to be left out, each once, in the order of ranks.
    pub(super) fn names(
        &mut self,
        files: &[SourceFile<'_>],
        dialect: Option<&Dialect>,
        ignore: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<Named>, PlanError> {
        let mut named: Vec<Named> = Vec::new();
        let mut index: HashMap<TensorName, usize> = HashMap::new();
        let mut order: Vec<usize> = (0..files.len()).collect();
        order.sort_by_key(|&f| files[f].rank);
        for file in order {
            for (entry, found) in files[file].entries.iter().enumerate() {
                if ignore(&found.name) {
                    self.ignored.push(found.name.to_string());
                    continue;
                }
                if is_copy(&found.name) {
                    self.input_copies = true;
                    continue;
                }
                let at = *index.entry(found.name.clone()).or_insert_with(|| {
                    let known = dialect.and_then(|dialect| Known::of(dialect, &found.name));
                    named.push(Named { name: found.name.clone(), known, holders: Vec::new() });
                    named.len() - 1
                });
                // Files come in the order of ranks, so only the last holder can be of the same rank.
                if let Some(&(other, _)) = named[at].holders.last().filter(|(f, _)| files[*f].rank == files[file].rank)
                {
                    return Err(PlanError::HeldTwice {
                        rank: files[file].rank,
                        name: found.name.to_string(),
                        first: files[other].path.clone(),
                        second: files[file].path.clone(),
                    });
                }
                named[at].holders.push((file, entry));
            }
        }
        self.ignored.sort_unstable();
        self.ignored.dedup();
        Ok(named)
    }
}

impl Reader<'_> {
    /// The files with what they hold.
    pub(super) fn sources(&self) -> Sources<'_> {
        Sources { files: self.files, evidence: self.evidence }
    }

    pub(super) fn heads_unknown(&self) -> PlanError {
        if self.foreign { foreign_heads_unknown() } else { heads_unknown() }
    }

    /// Whether it is of an adapter: the rows of its factor have an order as those of a fused weight have.
    pub(super) fn is_factor(known: &Known) -> bool {
        known.stored.companion.is_some_and(|companion| is_lora(&companion.tail))
    }
}

pub(in crate::plan) fn heads_unknown() -> PlanError {
    PlanError::Ambiguous(
        "grouped fused parameters follow the heads, which no file states: give --heads and --kv-heads, or name the model \
         with -y"
            .to_owned(),
    )
}

fn foreign_heads_unknown() -> PlanError {
    PlanError::Ambiguous(
        "its parameters follow the heads, which no file beside them states: put the model's config.json (params.json) \
         beside them, or name the model with -y"
            .to_owned(),
    )
}
