//! What each rank file of the target shall hold.

mod copied;
mod foreign;
mod wanted;

use std::collections::{HashMap, HashSet};

use self::wanted::{Wanted, wanted};
use super::agreement::Sources;
use super::catalog::Catalog;
use super::{Arrangement, Evidence, PlanError};
use crate::layout::{Piece, Region, TensorLayout};
use crate::model::naming::{cache_name, copy_of, group_scale_of, is_training_state};
use crate::model::{Dialect, FusionLayout, Model, Quantity, Role};
use crate::tensor::{Dtype, Shape, TensorName};

pub use copied::copied;
pub use foreign::foreign_target;

/// How the target shall be arranged.
#[derive(Clone, Copy, Debug)]
pub struct TargetOptions<'a> {
    /// The model, when it was named or is a built-in one.
    pub spec: Option<&'a Model>,
    /// How the parameters shall lie over the ranks.
    pub arrangement: Arrangement<'a>,
    /// In which order the rows of fused parameters are to be.
    pub fusion: FusionLayout,
    /// Whether the rules fuse q, k, v and gate, up. A strategy's own names decide for themselves.
    pub fused: bool,
    /// Whether the rules keep the embedding and `lm_head` whole on every rank.
    pub vocabulary_whole: bool,
}

impl TargetOptions<'_> {
    /// A strategy's cut of q, k and v must leave the heads whole, where those are known.
    fn check_heads(&self, one: &Wanted, layout: &TensorLayout) -> Result<(), PlanError> {
        let (Arrangement::Strategy(_), Some(spec), true) = (self.arrangement, self.spec, one.has_rows_of_heads())
        else {
            return Ok(());
        };
        // What the optimizer shards is gathered before it is used, and may be cut anywhere.
        let parts = layout.parts(0);
        if spec.kv_heads() % parts == 0 {
            return Ok(());
        }
        Err(PlanError::StrategyHeads { name: one.name.clone(), parts, kv_heads: spec.kv_heads() })
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
    /// How the ranks share it, where rules lay it out; of the first rank only.
    pub(super) layout: Option<TensorLayout>,
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

/// What each rank of the target shall hold.
///
/// # Errors
/// Where the ranks do not divide the model, or the target layout omits a parameter, or requires one that the source does not have.
pub fn targets(
    catalog: &Catalog,
    files: &[super::SourceFile<'_>],
    evidence: &dyn Evidence,
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
            one.check_shared(catalog, Sources { files, evidence })?;
            let lay = one.laid(catalog)?;
            let full = one.full_dims(catalog, lay.as_ref());
            let Some((layout, stated)) = one.layout(catalog, options, stage, full.len()) else { continue };
            let full = Shape::new(full).ok();
            if let Some(stated) = stated.filter(|stated| full.as_ref() != Some(stated)) {
                let name = one.name.clone();
                return Err(PlanError::StrategyShape { name, strategy: stated, tensor: full.unwrap_or_default() });
            }
            options.check_heads(one, &layout)?;
            placed.extend(&one.tensors);
            let stated = one.has_layout(catalog, options);
            laid.push((one.laying(catalog, lay)?, layout, stated));
        }
        let mut seen = Seen::default();
        for device in 0..devices {
            let mut entries = Vec::with_capacity(laid.len());
            for (one, layout, stated) in &laid {
                let mut made = entry(catalog, options, one, layout, device, &mut seen)?;
                made.layout = (ranks.is_empty() && *stated).then(|| layout.clone());
                let copy = copy_of(&made.name).filter(|_| catalog.input_copies);
                let copy = copy.map(|name| TargetEntry { name: name.as_str().into(), ..made.clone() });
                entries.push(made);
                entries.extend(copy);
            }
            let rank = u32::try_from(stage * devices + device).unwrap_or(u32::MAX);
            ranks.push(TargetRank { rank, entries });
        }
    }
    add_unplaced(catalog, files, &placed, &mut ranks)?;
    Ok(ranks)
}

/// Parameters that the target's layout does not know: counters and texts go to every rank, as does what all source ranks
/// hold alike. A tensor that might have to be cut is refused.
fn add_unplaced(
    catalog: &Catalog,
    files: &[super::SourceFile<'_>],
    placed: &HashSet<usize>,
    ranks: &mut [TargetRank],
) -> Result<(), PlanError> {
    let (mut unplaced, mut training) = (Vec::new(), Vec::new());
    let mut copies = Vec::new();
    let absent = |index: &usize| !placed.contains(index) && !catalog.merged.contains(index);
    for (_, tensor) in catalog.tensors().iter().enumerate().filter(|(index, _)| absent(index)) {
        let counter = tensor.shape.elements() <= 1 || tensor.dtype == Dtype::Str;
        if counter || tensor.loose {
            let holder = tensor.shards.all().next().map(|h| (h.file, h.entry));
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
                kind: Kind::of(&found.name, None, found.dtype, &found.shape),
                first_holder: rank.rank == 0,
                layout: None,
                content: Content::Entry(file, entry),
            });
        }
    }
    Ok(())
}

/// The boxes that ranks seen so far hold, each with its tensor, of parameters that have replicas.
#[derive(Default)]
struct Seen(HashMap<TensorName, Vec<Vec<(usize, Region)>>>);

impl Seen {
    fn is_first(&mut self, name: &TensorName, layout: &TensorLayout, pieces: &[(usize, Piece)]) -> bool {
        let parts: u64 = (0..layout.tensor_map.len()).map(|axis| layout.parts(axis)).product();
        if parts * layout.shard_parts().unwrap_or(1) == layout.devices() {
            return true;
        }
        let regions: Vec<_> = pieces.iter().map(|(tensor, piece)| (*tensor, piece.region.clone())).collect();
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
    one: &wanted::Laying<'_>,
    layout: &TensorLayout,
    device: u64,
    seen: &mut Seen,
) -> Result<TargetEntry, PlanError> {
    let first = &catalog.tensors()[one.wanted.tensors[0]];
    let alone = options.arrangement.ranks() == 1;
    // The cell that keeps keys and values has another name in the network for one card.
    let name = match options.arrangement {
        Arrangement::Rules(_) => TensorName::from(cache_name(&one.wanted.name, alone).as_str()),
        Arrangement::Strategy(_) => TensorName::from(one.wanted.name.as_str()),
    };
    let grouped = |error| match error {
        PlanError::Layout { source, .. } if group_scale_of(&name).is_some() => {
            let why = format!("`{name}`: {source}; columns with one scale must lie on one rank: take another -w");
            PlanError::Quantised(why)
        }
        other => other,
    };
    let laid = one.on(options.arrangement, layout, device).map_err(grouped)?;
    // What all parts share is written once.
    let written = |(part, _): &(usize, Piece)| *part == 0 || !one.wanted.is_shared();
    let pieces: Vec<(usize, Piece)> =
        laid.pieces.into_iter().filter(written).map(|(part, piece)| (one.wanted.tensors[part], piece)).collect();
    let error = |e: crate::tensor::ShapeError| PlanError::Layout { name: name.to_string(), source: e.into() };
    Ok(TargetEntry {
        first_holder: seen.is_first(&name, layout, &pieces),
        dtype: first.dtype,
        shape: Shape::new(laid.dims).map_err(error)?,
        kind: one.wanted.kind(catalog),
        layout: None,
        content: Content::Pieces(pieces),
        name,
    })
}

impl Kind {
    /// What a tensor is, by its name in any family.
    fn of_name(name: &str, dtype: Dtype, shape: &Shape) -> Self {
        let known = Dialect::of_any_family(name);
        let role = known.and_then(|(family, stored)| {
            let param = stored.row.params().next()?;
            Some((family.params().get(usize::from(param))?.role, stored.companion.map(|companion| companion.quantity)))
        });
        Self::of(name, role, dtype, shape)
    }

    /// What a tensor is, by what it is for and whether it goes with a parameter instead of being one.
    fn of(name: &str, role: Option<(Role, Option<Quantity>)>, dtype: Dtype, shape: &Shape) -> Self {
        match role {
            _ if is_training_state(name) || dtype == Dtype::Str => Self::Other,
            Some((Role::Cache, _)) => Self::Other,
            // A quantised layer adds its bias in floating point.
            Some((_, Some(Quantity::Bias | Quantity::LoraA | Quantity::LoraB))) => Self::Weight,
            Some((_, Some(_))) => Self::Other,
            Some((Role::Norm, None)) => Self::Norm,
            None if shape.elements() <= 1 => Self::Other,
            _ => Self::Weight,
        }
    }
}
