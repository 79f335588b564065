//! Checkpoints of PyTorch programs as logical tensors: their names, joined parameters, reordered rows, views and shards.

use std::fmt;

use super::reader::{CatalogOptions, Named, Reader, index};
use super::{Catalog, LogicalTensor};
use crate::model::{Dialect, FusionLayout, Model, Place, Role};
use crate::plan::shards::{Shard, Shards};
use crate::plan::source::hold_blocks;
use crate::plan::{Arrangement, Evidence, PlanError, SourceFile};

/// How to read a foreign checkpoint.
pub struct ForeignOptions<'a> {
    /// The model. `None`: not known; then the shapes are taken as they are.
    pub spec: Option<&'a Model>,
    /// Whose names the parameters have.
    pub dialect: &'a Dialect,
    /// Model-parallel shards, of which file i is the i-th. 1: every file holds whole parameters.
    pub shards: u64,
    /// The strides of an entry (file, entry) in elements, where it is a view that is not row-major.
    pub strides: &'a dyn Fn(usize, usize) -> Option<Vec<u64>>,
    /// Whether the source's configuration says that `lm_head` is the embedding.
    pub source_tied: bool,
    /// Whether the target has no `lm_head` of its own, because it shares the embedding.
    pub target_tied: bool,
    /// What the files hold, where headers leave it open.
    pub evidence: &'a dyn Evidence,
    /// Foreign names to leave out.
    pub ignore: &'a dyn Fn(&str) -> bool,
}

impl fmt::Debug for ForeignOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignOptions")
            .field("spec", &self.spec)
            .field("dialect", &self.dialect)
            .finish_non_exhaustive()
    }
}

/// What was done beside renaming.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForeignNotes {
    /// Buffers that hold nothing of the model (`rotary_emb.inv_freq`), left out.
    pub dropped: Vec<String>,
    /// `lm_head` was not there and is written from the embedding.
    pub head_from_embedding: bool,
    /// `lm_head` was there though it shares the embedding's weight; it is left out, and must be equal to it.
    pub head_is_copy: bool,
}

impl Catalog {
    /// Reads the headers of a foreign checkpoint as the tensors of a model.
    ///
    /// # Errors
    /// See [`PlanError`]: names that the family does not have, shapes that are not the model's, a tensor held twice, joined
    /// or reordered parameters of a model whose heads are not known.
    pub fn foreign(files: &[SourceFile<'_>], options: &ForeignOptions<'_>) -> Result<(Self, ForeignNotes), PlanError> {
        let mut notes = ForeignNotes::default();
        let mut catalog = Self { foreign: true, ..Self::default() };
        let dialect = options.dialect;
        let mut named = catalog.names(files, Some(dialect), options.ignore)?;
        let mut unknown = Vec::new();
        named.retain(|one| {
            if one.known.as_ref().is_some_and(|known| known.state.is_empty()) {
                return true;
            }
            let is_buffer = matches!(dialect.place(&one.name), Place::Buffer) && !is_plain_bias(files, one);
            if is_buffer { &mut notes.dropped } else { &mut unknown }.push(one.name.to_string());
            false
        });
        if !unknown.is_empty() {
            return Err(PlanError::UnknownNames(unknown));
        }
        let reader = Reader {
            files,
            evidence: options.evidence,
            dialect: Some(dialect),
            spec: options.spec,
            arrangement: Arrangement::Rules(options.shards),
            rank_concat: false,
            strides: options.strides,
            foreign: true,
            by_blocks: hold_blocks(files),
            named: &named,
            index: index(&named),
        };
        reader.read(&mut catalog)?;
        catalog.tie(files, options, &mut notes)?;
        // The rest is the same for every origin: all parameters of the model, all layers alike.
        let spec = options.spec.map(|spec| spec.clone().with_tied(options.target_tied));
        catalog.check_whole(&CatalogOptions {
            spec: spec.as_ref(),
            arrangement: Arrangement::Rules(1),
            fusion: FusionLayout::RankConcat,
            evidence: options.evidence,
            ignore: options.ignore,
        })?;
        Ok((catalog, notes))
    }

    /// Gives the target the `lm_head` that it needs: none where it shares the embedding, the embedding's where the source
    /// shares it and the target does not.
    fn tie(
        &mut self,
        files: &[SourceFile<'_>],
        options: &ForeignOptions<'_>,
        notes: &mut ForeignNotes,
    ) -> Result<(), PlanError> {
        let Some(embedding) = self.of_role(Role::Embedding) else { return Ok(()) };
        match self.of_role(Role::Head) {
            Some(head) if options.target_tied => {
                let copies: Vec<Shard> = self.tensors[head].shards.all().cloned().collect();
                let kept = &self.tensors[embedding];
                let by_blocks = |shard: &Shard| files[shard.file].entries[shard.entry].dtype.block().0 > 1;
                if copies.iter().chain(kept.shards.all()).any(by_blocks) {
                    return Err(PlanError::Ambiguous(format!(
                        "`{}` should be the embedding, but is quantised by itself: the model is not tied",
                        self.tensors[head].name
                    )));
                }
                if kept.shape != self.tensors[head].shape || kept.dtype != self.tensors[head].dtype {
                    let what = format!(
                        "`{}` should be the embedding, but has another shape or dtype",
                        self.tensors[head].name
                    );
                    return Err(PlanError::Ambiguous(what));
                }
                let used: Vec<Shard> = kept.shards.all().cloned().collect();
                self.tensors[embedding].shards = Shards::new(used, copies);
                self.remove(head);
                notes.head_is_copy = true;
            }
            None if options.source_tied && !options.target_tied => {
                let Some((name, id)) = self.head_name() else { return Ok(()) };
                let head = LogicalTensor { name, id: Some(id), ..self.tensors[embedding].clone() };
                self.put(head);
                notes.head_from_embedding = true;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether what has the name of a causal mask has the shape of a bias, which would be a parameter.
fn is_plain_bias(files: &[SourceFile<'_>], one: &Named) -> bool {
    let (file, entry) = one.holders[0];
    one.name.ends_with("attn.bias") && files[file].entries[entry].shape.dims().len() < 2
}
