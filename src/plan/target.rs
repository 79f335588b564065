//! What each rank file of the target shall hold.

mod copied;
mod foreign;

use std::collections::{HashMap, HashSet};

use super::catalog::{Catalog, LogicalTensor};
use super::fused_rows::grouping;
use super::pieces::{self, Order, Part, Stored};
use super::{Arrangement, PlanError};
use crate::layout::{Piece, Region, TensorLayout};
use crate::models::{
    Fused, FusionLayout, ModelSpec, Split, cache_name, copy_of, fused, group_scale_of, is_lora, is_quantised,
    is_training_state, role,
};
use crate::tensor::{Dtype, Shape, TensorName};

pub use copied::copied;
pub use foreign::foreign_target;

/// How the target shall be arranged.
#[derive(Clone, Copy, Debug)]
pub struct TargetOptions<'a> {
    /// The model, when it was named or is a built-in one.
    pub spec: Option<&'a ModelSpec>,
    /// How the parameters shall lie over the ranks.
    pub arrangement: Arrangement<'a>,
    /// In which order the rows of fused parameters shall stand.
    pub fusion: FusionLayout,
    /// Whether the rules fuse q, k, v and gate, up. A strategy's own names decide for themselves.
    pub fused: bool,
    /// Whether the rules keep the embedding and `lm_head` whole on every rank.
    pub vocabulary_whole: bool,
}

impl TargetOptions<'_> {
    /// A strategy's cut of q, k and v must leave the heads whole, where those are known.
    fn check_heads(&self, name: &str, layout: &TensorLayout) -> Result<(), PlanError> {
        let attention = fused(name).is_some_and(|f| f.query_rows_of.is_some() && !f.shared);
        let (Arrangement::Strategy(_), Some(spec), true) = (self.arrangement, self.spec, attention) else {
            return Ok(());
        };
        // What the optimizer shards is gathered before it is used, and may be cut anywhere.
        let parts = layout.parts(0);
        if spec.kv_heads % parts == 0 {
            return Ok(());
        }
        Err(PlanError::StrategyHeads { name: name.to_owned(), parts, kv_heads: spec.kv_heads })
    }
}

/// One rank of the target.
#[derive(Clone, Debug)]
pub struct TargetRank {
    /// The rank.
    pub rank: u32,
    /// Its parameters, in file order.
    pub entries: Vec<TargetEntry>,
}

/// One parameter of a rank.
#[derive(Clone, Debug)]
pub struct TargetEntry {
    /// Its name in the file.
    pub name: TensorName,
    /// Its elements in the source.
    pub dtype: Dtype,
    /// Its dimensions in the file.
    pub shape: Shape,
    /// Whether it is a parameter of the model that a precision applies to, and a norm.
    pub kind: Kind,
    /// Whether no lower rank holds the same elements.
    pub first_holder: bool,
    pub(super) content: Content,
}

/// What a parameter is, as far as its precision is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A weight or bias.
    Weight,
    /// The weight of a norm.
    Norm,
    /// A counter or text: kept as it is.
    Other,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Boxes of logical tensors (by index in the catalog).
    Pieces(Vec<(usize, Piece)>),
    /// An entry of a source file, copied whole.
    Entry(usize, usize),
}

/// A parameter that the target shall hold, before it is laid over the ranks.
enum Wanted {
    Plain(usize),
    Fused { info: Fused, parts: Vec<usize> },
}

/// What each rank of the target shall hold.
///
/// # Errors
/// Where the ranks do not divide the model, or the target's layout lacks a parameter or wants one that the source has not.
pub fn targets(
    catalog: &Catalog,
    files: &[super::SourceFile<'_>],
    options: &TargetOptions<'_>,
) -> Result<Vec<TargetRank>, PlanError> {
    let devices = options.arrangement.devices();
    if let Arrangement::Rules(ranks) = options.arrangement {
        match options.spec {
            Some(spec) => spec.check_ranks(ranks)?,
            None => super::heads::check_cut(catalog, ranks)?,
        }
    }
    let mut ranks = Vec::new();
    let mut placed: HashSet<usize> = HashSet::new();
    for stage in 0..options.arrangement.stages() {
        let wanted = wanted(catalog, options, stage)?;
        let mut laid = Vec::with_capacity(wanted.len());
        for one in &wanted {
            one.check_shared(catalog, files)?;
            let first = one.first(catalog);
            let name = one.name(first);
            let rows = first.shape.dims().first().copied().unwrap_or(1);
            let whole = options.vocabulary_whole || rows % devices != 0;
            let layout = options.arrangement.layout(stage, name, first.shape.ndim(), whole);
            if let Some((layout, stated)) = layout {
                let full = one.full_shape(catalog);
                if let Some(stated) = stated.filter(|stated| full.as_ref() != Some(stated)) {
                    let name = name.to_owned();
                    return Err(PlanError::StrategyShape { name, strategy: stated, tensor: full.unwrap_or_default() });
                }
                options.check_heads(name, &layout)?;
                placed.extend(one.tensors());
                laid.push((one, layout));
            }
        }
        let mut seen = Seen::default();
        for device in 0..devices {
            let mut entries = Vec::with_capacity(laid.len());
            for (one, layout) in &laid {
                let made = entry(catalog, options, one, layout, device, &mut seen)?;
                let copy = copy_of(&made.name).filter(|_| catalog.input_copies);
                let copy = copy.map(|name| TargetEntry { name: name.as_str().into(), ..made.clone() });
                entries.push(made);
                entries.extend(copy);
            }
            let rank = u32::try_from(stage * devices + device).unwrap_or(u32::MAX);
            ranks.push(TargetRank { rank, entries });
        }
    }
    add_unplaced(catalog, files, &placed, options, &mut ranks)?;
    Ok(ranks)
}

/// Parameters that the target's layout does not know: counters and texts go to every rank, as does what all source ranks
/// hold alike. A tensor that might have to be cut is refused.
fn add_unplaced(
    catalog: &Catalog,
    files: &[super::SourceFile<'_>],
    placed: &HashSet<usize>,
    options: &TargetOptions<'_>,
    ranks: &mut [TargetRank],
) -> Result<(), PlanError> {
    let (mut unplaced, mut training) = (Vec::new(), Vec::new());
    let mut copies = Vec::new();
    let absent = |index: &usize| !placed.contains(index) && !catalog.merged.contains(index);
    for (_, tensor) in catalog.tensors().iter().enumerate().filter(|(index, _)| absent(index)) {
        let counter = tensor.shape.elements() <= 1 || tensor.dtype == Dtype::Str;
        if counter || tensor.loose || options.arrangement.ranks() == 1 {
            let holder = tensor.holders.all().next().map(|h| (h.file, h.entry));
            copies.extend(holder);
        } else if is_training_state(&tensor.name) {
            training.push(tensor.name.to_string());
        } else {
            unplaced.push(tensor.name.to_string());
        }
    }
    if !unplaced.is_empty() {
        return Err(PlanError::Unplaced { side: "target", names: unplaced });
    }
    if !training.is_empty() {
        return Err(PlanError::TrainingState(training));
    }
    for (file, entry) in copies {
        let found = &files[file].entries[entry];
        for rank in &mut *ranks {
            rank.entries.push(TargetEntry {
                name: found.name.clone(),
                dtype: found.dtype,
                shape: found.shape.clone(),
                kind: kind_of(&found.name, found.dtype, &found.shape),
                first_holder: rank.rank == 0,
                content: Content::Entry(file, entry),
            });
        }
    }
    Ok(())
}

/// The parameters of a stage, in the catalog's order; a fused one stands where its first part does.
fn wanted(catalog: &Catalog, options: &TargetOptions<'_>, stage: u64) -> Result<Vec<Wanted>, PlanError> {
    let mut wanted = Vec::new();
    let mut lacks = Vec::new();
    let mut done: HashSet<String> = HashSet::new();
    for (index, tensor) in catalog.tensors().iter().enumerate().filter(|(i, _)| !catalog.merged.contains(i)) {
        // Adapters of q, k and v are three, each with its own input, unless the source has them as one.
        let info = fused(&tensor.name).filter(|f| !is_lora(&f.name) || catalog.fused_factors.contains(&f.name));
        match info {
            Some(info) if wants_fused(options, stage, &info) => {
                if !done.insert(info.name.clone()) {
                    continue;
                }
                let parts: Vec<Option<usize>> = info.parts.iter().map(|part| catalog.get(part)).collect();
                lacks
                    .extend(info.parts.iter().zip(&parts).filter(|(_, at)| at.is_none()).map(|(name, _)| name.clone()));
                wanted.push(Wanted::Fused { info, parts: parts.into_iter().flatten().collect() });
            }
            _ => wanted.push(Wanted::Plain(index)),
        }
    }
    if let Arrangement::Strategy(set) = options.arrangement {
        let names =
            set.stages().get(usize::try_from(stage).unwrap_or(usize::MAX)).map(|s| s.keys()).into_iter().flatten();
        let ignored = |name: &str| catalog.ignored.binary_search_by(|known| known.as_str().cmp(name)).is_ok();
        let known =
            |name: &str| catalog.get(name).is_some() || done.contains(name) || is_training_state(name) || ignored(name);
        lacks.extend(names.filter(|name| !known(name)).cloned());
    }
    if lacks.is_empty() { Ok(wanted) } else { Err(PlanError::Lacks(lacks)) }
}

fn wants_fused(options: &TargetOptions<'_>, stage: u64, info: &Fused) -> bool {
    match options.arrangement {
        Arrangement::Rules(_) => options.fused,
        Arrangement::Strategy(set) => {
            let layouts = usize::try_from(stage).ok().and_then(|s| set.stages().get(s));
            layouts.is_some_and(|layouts| layouts.contains_key(&info.name))
        }
    }
}

impl Wanted {
    fn first<'a>(&self, catalog: &'a Catalog) -> &'a LogicalTensor {
        match self {
            Self::Plain(index) => &catalog.tensors()[*index],
            Self::Fused { parts, .. } => &catalog.tensors()[parts[0]],
        }
    }

    fn name<'a>(&'a self, first: &'a LogicalTensor) -> &'a str {
        match self {
            Self::Plain(_) => &first.name,
            Self::Fused { info, .. } => &info.name,
        }
    }

    /// What belongs to the input of a fused layer must be the same for all its parts.
    fn check_shared(&self, catalog: &Catalog, files: &[super::SourceFile<'_>]) -> Result<(), PlanError> {
        let Self::Fused { info, parts } = self else { return Ok(()) };
        if !info.shared {
            return Ok(());
        }
        let held = |&part: &usize| catalog.tensors()[part].holders.all().map(|h| (h.file, h.entry)).next();
        let held: Vec<(usize, usize)> = parts.iter().filter_map(held).collect();
        let same = held.windows(2).all(|pair| pair[0] == pair[1]) || super::agreement::agree(files, &held);
        if same { Ok(()) } else { Err(PlanError::InputsDiffer(info.name.clone())) }
    }

    /// Its full shape; a fused one has the rows of its parts.
    fn full_shape(&self, catalog: &Catalog) -> Option<Shape> {
        let mut dims = self.first(catalog).shape.dims().to_vec();
        if let Self::Fused { parts, info } = self
            && !info.shared
        {
            *dims.first_mut()? = parts.iter().filter_map(|&p| catalog.tensors()[p].shape.dims().first()).sum();
        }
        Shape::new(dims).ok()
    }

    fn tensors(&self) -> Vec<usize> {
        match self {
            Self::Plain(index) => vec![*index],
            Self::Fused { parts, .. } => parts.clone(),
        }
    }
}

/// The boxes that ranks seen so far hold, of parameters that have replicas.
#[derive(Default)]
struct Seen(HashMap<TensorName, Vec<Vec<Region>>>);

impl Seen {
    fn is_first(&mut self, name: &TensorName, layout: &TensorLayout, pieces: &[(usize, Piece)]) -> bool {
        let parts: u64 = (0..layout.tensor_map.len()).map(|axis| layout.parts(axis)).product();
        if parts * layout.shard_parts().unwrap_or(1) == layout.devices() {
            return true;
        }
        let regions: Vec<Region> = pieces.iter().map(|(_, piece)| piece.region.clone()).collect();
        let seen = self.0.entry(name.clone()).or_default();
        let first = !seen.contains(&regions);
        if first {
            seen.push(regions);
        }
        first
    }
}

fn entry(
    catalog: &Catalog,
    options: &TargetOptions<'_>,
    one: &Wanted,
    layout: &TensorLayout,
    device: u64,
    seen: &mut Seen,
) -> Result<TargetEntry, PlanError> {
    let first = one.first(catalog);
    let alone = options.arrangement.ranks() == 1;
    // The cell that keeps keys and values has another name in the network for one card.
    let name = match options.arrangement {
        Arrangement::Rules(_) => TensorName::from(cache_name(one.name(first), alone).as_str()),
        Arrangement::Strategy(_) => TensorName::from(one.name(first)),
    };
    let layout_error = |source| {
        if group_scale_of(&name).is_some() {
            let why = format!("`{name}`: {source}; columns with one scale must lie on one rank: take another -w");
            return PlanError::Quantised(why);
        }
        PlanError::Layout { name: name.to_string(), source }
    };
    let Stored { dims, pieces } = match one {
        Wanted::Fused { info, .. } if info.shared => {
            pieces::plain(first.shape.dims(), &first.radices, layout, device).map_err(layout_error)?
        }
        Wanted::Plain(_) => pieces::plain(first.shape.dims(), &first.radices, layout, device).map_err(layout_error)?,
        Wanted::Fused { info, parts } => {
            let tensors: Vec<&LogicalTensor> = parts.iter().map(|&index| &catalog.tensors()[index]).collect();
            if first.shape.ndim() == 0 {
                return Err(PlanError::Ambiguous(format!("`{}` is a scalar and cannot be fused", first.name)));
            }
            let tail = |t: &LogicalTensor| t.shape.dims().get(1..).map(<[u64]>::to_vec);
            if let Some(other) = tensors.iter().find(|t| t.dtype != first.dtype || tail(t) != tail(first)) {
                return Err(PlanError::Ambiguous(format!(
                    "`{}` ({}{}) and `{}` ({}{}) cannot be fused",
                    first.name, first.dtype, first.shape, other.name, other.dtype, other.shape
                )));
            }
            let rows: Vec<Part> =
                tensors.iter().map(|t| Part { rows: t.shape.dims()[0], radices: t.radices.clone() }).collect();
            let by_heads = options.spec.map(|spec| grouping(info, spec));
            let order = match (options.fusion, &by_heads) {
                (FusionLayout::RankConcat, _) => Order::RankConcat,
                (FusionLayout::Grouped, Some(grouping)) => Order::Grouped(grouping),
                (FusionLayout::Grouped, None) => return Err(super::catalog::heads_unknown()),
            };
            pieces::fused(order, &rows, &first.shape.dims()[1..], layout, device).map_err(layout_error)?
        }
    };
    let tensors = one.tensors();
    let pieces: Vec<(usize, Piece)> = pieces.into_iter().map(|(part, piece)| (tensors[part], piece)).collect();
    Ok(TargetEntry {
        first_holder: seen.is_first(&name, layout, &pieces),
        dtype: first.dtype,
        shape: Shape::new(dims).map_err(|e| layout_error(e.into()))?,
        kind: kind_of(&first.name, first.dtype, &first.shape),
        content: Content::Pieces(pieces),
        name,
    })
}

/// What a parameter is, by its unfused name.
fn kind_of(name: &str, dtype: Dtype, shape: &Shape) -> Kind {
    match role(name) {
        _ if is_training_state(name) || dtype == Dtype::Str => Kind::Other,
        // A quantised layer adds its bias in floating point.
        _ if is_quantised(name) && name.strip_suffix(".bias").is_none() => Kind::Other,
        Some(role) if role.split == Split::Whole => Kind::Norm,
        None if shape.elements() <= 1 => Kind::Other,
        _ => Kind::Weight,
    }
}
