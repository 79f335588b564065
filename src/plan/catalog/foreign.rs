//! Checkpoints of PyTorch programs as logical tensors: their names, joined parameters, reordered rows, views and shards.

use std::fmt;

use super::{Catalog, CatalogOptions, Held, Holder, LogicalTensor};
use crate::layout::{Piece, Region, TensorLayout, boxes_of_rows};
use crate::model::FusionLayout;
use crate::model::naming::{EMBEDDING, Grouping, HEAD, fused};
use crate::models::ModelSpec;
use crate::models::foreign::{Family, Naming, Place, Reorder, shard_axis};
use crate::plan::fused_rows::radices;
use crate::plan::holders::Holders;
use crate::plan::pieces::{self, Order, Part, Stored, row_strides};
use crate::plan::{Arrangement, PlanError, SourceFile};
use crate::tensor::{Shape, TensorName};

/// How to read a foreign checkpoint.
pub struct ForeignOptions<'a> {
    /// The model. `None`: not known; then the shapes are taken as they are.
    pub spec: Option<&'a ModelSpec>,
    /// Whose names the parameters have.
    pub naming: Naming,
    /// Model-parallel shards, of which file i is the i-th. 1: every file holds whole parameters.
    pub shards: u64,
    /// Whether the target's fused parameters are grouped, so that the heads matter.
    pub heads_matter: bool,
    /// The strides of an entry (file, entry) in elements, where it is a view that is not row-major.
    pub strides: &'a dyn Fn(usize, usize) -> Option<Vec<u64>>,
    /// Whether the source's configuration says that `lm_head` is the embedding.
    pub source_tied: bool,
    /// Whether the target has no `lm_head` of its own, because it shares the embedding.
    pub target_tied: bool,
    /// Foreign names to leave out.
    pub ignore: &'a dyn Fn(&str) -> bool,
}

impl fmt::Debug for ForeignOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignOptions").field("spec", &self.spec).field("naming", &self.naming).finish_non_exhaustive()
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
        let mut reader = Reader { files, options, catalog: Self::default(), notes: ForeignNotes::default() };
        let mut unknown = Vec::new();
        for one in reader.names()? {
            match options.naming.place(&one.name) {
                Place::Parameter { name, transform } => reader.parameter(&one, &name, transform)?,
                Place::Parts { names, how } => {
                    let Some(spec) = options.spec else { return Err(heads_unknown()) };
                    reader.parts(&one, &names, &how.grouping(spec))?;
                }
                Place::Dropped if reader.is_plain_bias(&one) => unknown.push(one.name.to_string()),
                Place::Dropped => reader.notes.dropped.push(one.name.to_string()),
                Place::Unknown => unknown.push(one.name.to_string()),
            }
        }
        if !unknown.is_empty() {
            return Err(PlanError::UnknownNames(unknown));
        }
        reader.tie()?;
        let Reader { mut catalog, notes, .. } = reader;
        // The rest is the same for every origin: all parameters of the model, all layers alike.
        let spec = options.spec.map(|spec| ModelSpec { tied: options.target_tied, ..spec.clone() });
        catalog.check_whole(&CatalogOptions {
            spec: spec.as_ref(),
            arrangement: Arrangement::Rules(1),
            fusion: FusionLayout::RankConcat,
            heads_matter: options.heads_matter,
            ignore: options.ignore,
        })?;
        Ok((catalog, notes))
    }
}

/// A foreign name and who holds it: file and entry, in the order of shards.
struct Named {
    name: TensorName,
    holders: Vec<(usize, usize)>,
}

struct Reader<'a> {
    files: &'a [SourceFile<'a>],
    options: &'a ForeignOptions<'a>,
    catalog: Catalog,
    notes: ForeignNotes,
}

/// Where an entry's box begins in the full parameter.
struct Cut {
    first_row: u64,
    first_column: u64,
}

impl Reader<'_> {
    /// All names, in file order. Without shards each stands in one file only; with shards each in all of them.
    fn names(&mut self) -> Result<Vec<Named>, PlanError> {
        let mut ignored = Vec::new();
        let mut named: Vec<Named> = Vec::new();
        let mut index = std::collections::HashMap::new();
        for (file, source) in self.files.iter().enumerate() {
            for (entry, found) in source.entries.iter().enumerate() {
                if (self.options.ignore)(&found.name) {
                    ignored.push(found.name.to_string());
                    continue;
                }
                let at = *index.entry(found.name.clone()).or_insert_with(|| {
                    named.push(Named { name: found.name.clone(), holders: Vec::new() });
                    named.len() - 1
                });
                let twice = named[at].holders.last().filter(|(other, _)| self.options.shards == 1 || *other == file);
                if let Some(&(other, _)) = twice {
                    return Err(PlanError::HeldTwice {
                        rank: source.rank,
                        name: found.name.to_string(),
                        first: self.files[other].path.clone(),
                        second: source.path.clone(),
                    });
                }
                named[at].holders.push((file, entry));
            }
        }
        ignored.sort_unstable();
        ignored.dedup();
        self.catalog.ignored = ignored;
        let shards = self.options.shards;
        if let Some(one) = named.iter().find(|one| one.holders.len() as u64 != shards) {
            let there = |shard: &u64| one.holders.iter().any(|(file, _)| *file as u64 == *shard);
            let missing: Vec<String> = (0..shards).filter(|shard| !there(shard)).map(|s| s.to_string()).collect();
            return Err(PlanError::MissingRanks {
                name: one.name.to_string(),
                ranks: missing.join(", "),
                checkpoint: format!("the checkpoint has {shards} model-parallel shards"),
            });
        }
        Ok(named)
    }

    /// One of our parameters, perhaps cut over shards, perhaps with its rows in another order.
    fn parameter(&mut self, one: &Named, ours: &str, transform: Reorder) -> Result<(), PlanError> {
        let (first_file, first_entry) = one.holders[0];
        let first = &self.files[first_file].entries[first_entry];
        let axis = self.axis(one)?;
        let full = match axis {
            None => first.shape.clone(),
            Some(axis) => {
                let dims = first.shape.dims().get(axis).and_then(|len| len.checked_mul(self.options.shards));
                let shape = dims.and_then(|len| first.shape.with_dim(axis, len).ok());
                shape.ok_or_else(|| self.wrong_shape(ours, one.holders[0], "the number of shards"))?
            }
        };
        self.check_spec(ours, &full, one.holders[0])?;
        let rows = full.dims().first().copied();
        let spec = self.options.spec;
        let heads = spec.map(|spec| transform.rows(spec)).transpose()?.flatten();
        if transform != Reorder::Plain && heads.is_none() {
            return Err(heads_unknown());
        }
        let related = fused(ours);
        let refine = spec.filter(|_| self.options.heads_matter);
        let mut axes = rows.map_or_else(Vec::new, |rows| radices(related.as_ref(), ours, rows, refine));
        // The halves of each head, interleaved in Meta's order, are axes of their own.
        let mut inner = Vec::new();
        if let Some(heads) = &heads {
            if refine.is_some() {
                axes.pop();
            } else {
                axes = vec![heads.axes[0]];
            }
            inner = vec![(heads.axes[1], heads.strides[1]), (heads.axes[2], heads.strides[2])];
        }
        let unit: u64 = inner.iter().map(|(len, _)| len).product();
        if axes.iter().product::<u64>() * unit != rows.unwrap_or(1) {
            return Err(self.wrong_shape(ours, one.holders[0], "the heads of the model"));
        }
        let mut held = Held::default();
        for (shard, &(file, entry)) in one.holders.iter().enumerate() {
            let found = &self.files[file].entries[entry];
            if found.shape != first.shape || found.dtype != first.dtype {
                let show = |e: &crate::formats::Entry| format!("{}{}", e.dtype, e.shape);
                return Err(PlanError::RanksDisagree {
                    name: one.name.to_string(),
                    first: show(first),
                    first_path: self.files[first_file].path.clone(),
                    second: show(found),
                    second_path: self.files[file].path.clone(),
                });
            }
            let begin = |of: usize| if axis == Some(of) { shard as u64 * found.shape.dims()[of] } else { 0 };
            let cut = Cut { first_row: begin(0), first_column: begin(1) };
            let strides = (self.options.strides)(file, entry).unwrap_or_else(|| found.shape.strides());
            let pieces = view_pieces(found.shape.dims(), &strides, &cut, &axes, &inner);
            let pieces = pieces.ok_or_else(|| self.wrong_shape(ours, (file, entry), "whole heads in each shard"))?;
            for piece in pieces {
                held.push(true, Holder { file, entry, piece });
            }
        }
        let radices = axes.into_iter().chain(inner.iter().map(|(len, _)| *len)).collect();
        self.catalog.add(ours, first.dtype, full, radices, held)
    }

    /// q, k and v in one parameter of whole heads.
    fn parts(&mut self, one: &Named, names: &[String], order: &Grouping) -> Result<(), PlanError> {
        let (file, entry) = one.holders[0];
        let found = &self.files[file].entries[entry];
        let name = one.name.to_string();
        if self.options.shards != 1 || (self.options.strides)(file, entry).is_some() {
            return Err(PlanError::Ambiguous(format!(
                "`{name}` is a view or a shard of q, k and v, which is not read"
            )));
        }
        let (total, tail) = match found.shape.dims().split_first() {
            Some((&total, tail)) if total == order.groups * order.slots.iter().sum::<u64>() * order.height => {
                (total, tail)
            }
            _ => return Err(self.wrong_shape(&name, (file, entry), "the heads of the model")),
        };
        let refine = self.options.spec.filter(|_| self.options.heads_matter);
        let parts: Vec<Part> = names
            .iter()
            .zip(&order.slots)
            .map(|(name, slots)| {
                let rows = order.groups * slots * order.height;
                // As the target reads them where it groups, else as this file does.
                let related = fused(name);
                let radices = match refine {
                    Some(spec) => radices(related.as_ref(), name, rows, Some(spec)),
                    None if order.groups == 1 => vec![rows],
                    None => vec![order.groups, *slots, order.height],
                };
                Part { rows, radices }
            })
            .collect();
        let layout = TensorLayout::flat(1, found.shape.ndim(), None);
        let in_order = if order.groups == 1 { Order::RankConcat } else { Order::Grouped(order) };
        let Stored { pieces, .. } = pieces::fused(in_order, &parts, tail, &layout, 0)
            .map_err(|source| PlanError::Layout { name: name.clone(), source })?;
        debug_assert_eq!(parts.iter().map(|p| p.rows).sum::<u64>(), total);
        let mut held: Vec<Held> = parts.iter().map(|_| Held::default()).collect();
        for (part, piece) in pieces {
            held[part].push(true, Holder { file, entry, piece });
        }
        for ((name, part), held) in names.iter().zip(parts).zip(held) {
            let shape = Shape::new([&[part.rows], tail].concat())
                .map_err(|e| PlanError::Layout { name: name.clone(), source: e.into() })?;
            self.check_spec(name, &shape, (file, entry))?;
            self.catalog.add(name, found.dtype, shape, part.radices, held)?;
        }
        Ok(())
    }

    /// Gives the target the `lm_head` that it wants: none where it shares the embedding, the embedding's where the source
    /// shares it and the target does not.
    fn tie(&mut self) -> Result<(), PlanError> {
        let Some(embedding) = self.catalog.get(EMBEDDING) else { return Ok(()) };
        match self.catalog.get(HEAD) {
            Some(head) if self.options.target_tied => {
                let copies: Vec<Holder> = self.catalog.tensors[head].holders.all().cloned().collect();
                let kept = &self.catalog.tensors[embedding];
                if kept.shape != self.catalog.tensors[head].shape || kept.dtype != self.catalog.tensors[head].dtype {
                    let what = format!("`{HEAD}` should be the embedding, but has another shape or dtype");
                    return Err(PlanError::Ambiguous(what));
                }
                let used: Vec<Holder> = kept.holders.all().cloned().collect();
                self.catalog.tensors[embedding].holders = Holders::new(used, copies);
                self.catalog.remove(head);
                self.notes.head_is_copy = true;
            }
            None if self.options.source_tied && !self.options.target_tied => {
                let name = TensorName::from(HEAD);
                let head = LogicalTensor { name: name.clone(), ..self.catalog.tensors[embedding].clone() };
                self.catalog.by_name.insert(name, self.catalog.tensors.len());
                self.catalog.tensors.push(head);
                self.notes.head_from_embedding = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether what has the name of a causal mask has the shape of a bias, which would be a parameter.
    fn is_plain_bias(&self, one: &Named) -> bool {
        let (file, entry) = one.holders[0];
        one.name.ends_with("attn.bias") && self.files[file].entries[entry].shape.dims().len() < 2
    }

    /// The axis over which the shards cut a parameter.
    fn axis(&self, one: &Named) -> Result<Option<usize>, PlanError> {
        if self.options.naming.family() != Family::Meta || self.options.shards == 1 {
            return Ok(None);
        }
        let Some(spec) = self.options.spec else { return Err(heads_unknown()) };
        let (file, entry) = one.holders[0];
        let shape = &self.files[file].entries[entry].shape;
        shard_axis(&one.name, shape, self.options.shards, spec.hidden).map_err(|e| PlanError::Ambiguous(e.to_string()))
    }

    fn check_spec(&self, name: &str, shape: &Shape, at: (usize, usize)) -> Result<(), PlanError> {
        let Some(spec) = self.options.spec else { return Ok(()) };
        match spec.shape(name) {
            Some(expected) if expected == *shape => Ok(()),
            Some(expected) => Err(PlanError::WrongShape {
                name: name.to_owned(),
                path: self.files[at.0].path.clone(),
                found: shape.clone(),
                expected,
                expected_by: "the model configuration".to_owned(),
            }),
            None => Err(PlanError::Ambiguous(format!(
                "`{}` is of a layer beyond the {} of the model configuration",
                self.files[at.0].entries[at.1].name, spec.layers
            ))),
        }
    }

    fn wrong_shape(&self, name: &str, at: (usize, usize), by: &str) -> PlanError {
        let found = self.files[at.0].entries[at.1].shape.clone();
        let expected = self.options.spec.and_then(|spec| spec.shape(name)).unwrap_or_default();
        PlanError::WrongShape {
            name: name.to_owned(),
            path: self.files[at.0].path.clone(),
            found,
            expected,
            expected_by: by.to_owned(),
        }
    }
}

fn heads_unknown() -> PlanError {
    PlanError::Ambiguous(
        "its parameters follow the heads, which no file beside them states: put the model's config.json (params.json) \
         beside them, or name the model with -y"
            .to_owned(),
    )
}

/// The boxes of a parameter that an entry holds. `axes`: as which the rows are read, each unit of them being the rows of
/// `inner` (length, step in rows); `strides`: the entry's, in elements. `None`: the entry holds no whole units.
fn view_pieces(dims: &[u64], strides: &[u64], cut: &Cut, axes: &[u64], inner: &[(u64, u64)]) -> Option<Vec<Piece>> {
    let (Some((&rows, tail)), Some((&row_stride, tail_strides))) = (dims.split_first(), strides.split_first()) else {
        return Some(vec![Piece::dense(Region::whole(dims))]);
    };
    let unit: u64 = inner.iter().map(|(len, _)| len).product();
    if !rows.is_multiple_of(unit) || !cut.first_row.is_multiple_of(unit) {
        return None;
    }
    let outer_strides = row_strides(axes, unit * row_stride);
    let tail_start = tail.iter().enumerate().map(|(at, _)| if at == 0 { cut.first_column } else { 0 });
    let pieces = boxes_of_rows(cut.first_row / unit, rows / unit, axes).into_iter().map(|found| {
        let region = Region::new(
            found.start.iter().copied().chain(inner.iter().map(|_| 0)).chain(tail_start.clone()),
            found.len.iter().copied().chain(inner.iter().map(|(len, _)| *len)).chain(tail.iter().copied()),
        );
        let strides = outer_strides
            .iter()
            .copied()
            .chain(inner.iter().map(|(_, step)| step * row_stride))
            .chain(tail_strides.iter().copied());
        let offset = (found.first_row - cut.first_row / unit) * unit * row_stride;
        Piece::new(region, offset, strides)
    });
    Some(pieces.collect())
}
