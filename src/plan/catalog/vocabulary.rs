//! How the ranks share what is of the vocabulary: by rows, by columns as in some releases of Meta's, or not at all.

use super::reader::{Named, Reader};
use crate::model::{Model, ParamId, Role};
use crate::plan::arrangement::ByRules;
use crate::plan::tensor_id::Known;
use crate::plan::{Arrangement, PlanError};
use crate::tensor::Shape;

impl Reader<'_> {
    /// The stored dimension that the ranks share by the rules of the family, whatever the size of the vocabulary.
    pub(super) fn cut_dim(&self, known: &Known) -> Option<usize> {
        self.dialect?.family().cut_dim(&known.stored)
    }

    /// Whether a name is of the embedding or of the output projection.
    pub(super) fn is_vocabulary(&self, known: &Known) -> bool {
        self.role(known).is_some_and(|role| matches!(role, Role::Embedding | Role::Head)) && known.is_model()
    }

    fn role(&self, known: &Known) -> Option<Role> {
        let param = known.stored.row.params().next()?;
        Some(self.dialect?.family().params().get(usize::from(param))?.role)
    }

    /// What the rules of the family say of a name.
    pub(super) fn by_rules(&self, one: &Named) -> Result<ByRules, PlanError> {
        let Some(known) = one.known.as_ref().filter(|known| known.state.is_empty()) else {
            return Ok(ByRules::Unknown);
        };
        Ok(match self.cut_dim(known) {
            Some(_) if self.is_vocabulary(known) => self.vocabulary(one, known)?,
            Some(dim) => match self.dialect {
                Some(dialect) => {
                    let sizes = self.spec.map(Model::sizes);
                    ByRules::cut(dim, &known.stored, dialect.family(), sizes, self.arrangement.devices())
                }
                None => ByRules::Cut(dim),
            },
            None => ByRules::Whole,
        })
    }

    fn vocabulary(&self, one: &Named, known: &Known) -> Result<ByRules, PlanError> {
        let Arrangement::Rules(ranks) = self.arrangement else { return Ok(ByRules::Cut(0)) };
        if ranks == 1 {
            return Ok(ByRules::Cut(0));
        }
        if self.dialect.is_some_and(crate::model::Dialect::is_meta) {
            return self.of_meta(one, known, ranks);
        }
        let whole = |whole| if whole { ByRules::Whole } else { ByRules::Cut(0) };
        let Some(full) = self.full_vocabulary(known) else { return self.vocabulary_by_content(one).map(whole) };
        let (file, entry) = one.holders[0];
        let found = &self.files[file].entries[entry];
        let (rows, all) = (found.shape.dims().first().copied(), full.dims().first().copied());
        if rows == all {
            return Ok(ByRules::Whole);
        }
        if rows.and_then(|rows| rows.checked_mul(ranks)) == all {
            return Ok(ByRules::Cut(0));
        }
        Err(PlanError::WrongShape {
            name: one.name.to_string(),
            path: self.files[file].path.clone(),
            found: found.shape.clone(),
            expected: full,
            expected_by: format!("the model configuration (whole, or cut over {ranks} ranks)"),
        })
    }

    /// The embedding is cut over the columns in llama 1 and 2 and over the rows in llama 3: the shape shows which.
    fn of_meta(&self, one: &Named, known: &Known, shards: u64) -> Result<ByRules, PlanError> {
        if self.role(known) == Some(Role::Head) {
            return Ok(ByRules::Cut(0));
        }
        let (file, entry) = one.holders[0];
        let shape = &self.files[file].entries[entry].shape;
        let full = self.full_vocabulary(known).ok_or_else(|| self.heads_unknown())?;
        if let (&[_, columns], &[_, width]) = (shape.dims(), full.dims()) {
            // More than one shard: not both, for the width is not 0.
            if columns == width {
                return Ok(ByRules::Cut(0));
            }
            if columns.checked_mul(shards) == Some(width) {
                return Ok(ByRules::Cut(1));
            }
        }
        let width = full.dims().get(1).copied().unwrap_or(0);
        Err(PlanError::Ambiguous(format!(
            "`{}` has shape {shape} in one of {shards} shards: its columns are neither all {width} of the model nor a \
             {shards}th of them",
            one.name
        )))
    }

    fn full_vocabulary(&self, known: &Known) -> Option<Shape> {
        let param = known.stored.row.params().next()?;
        self.spec?.full_shape(ParamId { param, layer: known.stored.captures.layer })
    }

    /// Equal blocks on all ranks are one vocabulary held whole, blocks that all differ are cut from one. Anything else, and
    /// blocks of one value, show nothing.
    fn vocabulary_by_content(&self, one: &Named) -> Result<bool, PlanError> {
        let flat = self.evidence.is_constant(one.holders[0])?;
        if self.sources().agree(&one.holders)? && !flat {
            return Ok(true);
        }
        if self.sources().all_differ(&one.holders)? {
            return Ok(false);
        }
        Err(PlanError::Ambiguous(format!(
            "whether the ranks hold `{}` whole or cut cannot be told from its content: name the model with -y",
            one.name
        )))
    }
}
