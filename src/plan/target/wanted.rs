//! The parameters that a target shall hold, before they are laid over the ranks.

use std::collections::HashSet;

use super::{Kind, TargetOptions};
use crate::layout::TensorLayout;
use crate::model::naming::{is_lora, is_training_state};
use crate::model::{Captures, Dialect, Family, OwnSizes, Role, Stored};
use crate::plan::agreement::Sources;
use crate::plan::arrangement::{ByRules, Related};
use crate::plan::catalog::{Catalog, Laid, Lay, LogicalTensor, heads_unknown};
use crate::plan::tensor_id::Known;
use crate::plan::{Arrangement, PlanError};
use crate::tensor::Shape;

/// A parameter that the target shall hold, or several in one.
pub(super) struct Wanted {
    /// Its name in the files.
    pub name: String,
    /// The tensors of the catalog in it, in the order of the parts.
    pub tensors: Vec<usize>,
    /// What the name is. `None`: no family knows it.
    known: Option<Known>,
    family: Option<&'static Family>,
    related: Option<Related>,
    own: OwnSizes,
}

/// A parameter that is laid over the ranks.
pub(super) struct Laying<'a> {
    pub wanted: &'a Wanted,
    lay: Option<Lay<'a>>,
    shape: &'a Shape,
}

impl Laying<'_> {
    /// The dimensions in a device's file, and where in it the parts are.
    pub(super) fn on(
        &self,
        arrangement: Arrangement<'_>,
        layout: &TensorLayout,
        device: u64,
    ) -> Result<Laid, PlanError> {
        match &self.lay {
            Some(lay) => lay.on(arrangement, layout, device),
            None => Laid::plain(self.shape, layout, device)
                .map_err(|source| PlanError::Layout { name: self.wanted.name.clone(), source }),
        }
    }
}

/// The parameters of a stage, in the catalog's order; a fused one is where its first part is.
pub(super) fn wanted(catalog: &Catalog, options: &TargetOptions<'_>, stage: u64) -> Result<Vec<Wanted>, PlanError> {
    let dialect = catalog.family().map(|family| Dialect::mindspore(family, options.fusion.name()));
    if let Some(dialect) = dialect.as_ref().filter(|dialect| dialect.schemes().is_empty()) {
        return Err(PlanError::NoOwnNames(&dialect.family().name));
    }
    let mut wanted = Vec::new();
    let mut lacks = Vec::new();
    let mut done: HashSet<String> = HashSet::new();
    for (index, tensor) in catalog.tensors().iter().enumerate().filter(|(i, _)| !catalog.merged.contains(i)) {
        let Some((dialect, known)) = dialect.as_ref().and_then(|d| Some((d, known_as(d, tensor)?))) else {
            wanted.push(Wanted::unknown(tensor, index));
            continue;
        };
        let fused = dialect.name(&dialect.fused(&known.stored)).map(|name| format!("{}{name}", known.state));
        let is_fused = fused.is_some_and(|fused| wants_fused(catalog, options, stage, &fused));
        for known in forms(catalog, dialect, &known, is_fused) {
            let Some(name) = dialect.name(&known.stored).map(|name| format!("{}{name}", known.state)) else { continue };
            if !done.insert(name.clone()) {
                continue;
            }
            let one = Wanted::known(catalog, dialect, (known, name), (index, tensor), &mut lacks);
            wanted.push(one);
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

/// What a tensor of the catalog is, in a dialect.
fn known_as(dialect: &Dialect, tensor: &LogicalTensor) -> Option<Known> {
    let Some(id) = tensor.id else { return Known::of(dialect, &tensor.name) };
    let captures = Captures { layer: id.param.layer, expert: None };
    let stored = Stored { row: dialect.row_of(id.param.param)?, captures, companion: id.companion() };
    Some(Known { state: "".into(), stored })
}

/// The names that hold a tensor: of the fused form or of the parts, one for each expert where the names are by expert.
fn forms(catalog: &Catalog, dialect: &Dialect, known: &Known, is_fused: bool) -> Vec<Known> {
    let join = dialect.join(&known.stored);
    let stored = match join {
        Some(join) if is_fused => join.whole,
        Some(_) if !known.stored.is_joined() => known.stored,
        // The parameter by itself, where the dialect has it so.
        Some(join) => {
            let own = known.ids().next();
            join.parts.into_iter().find(|part| part.params().next() == own.map(|id| id.param)).unwrap_or(known.stored)
        }
        None if is_fused => dialect.fused(&known.stored),
        None => known.stored,
    };
    dialect
        .by_expert(&stored, catalog.sized.as_ref().map(|sized| &sized.sizes))
        .into_iter()
        .map(|stored| Known { stored, ..known.clone() })
        .collect()
}

/// Adapters of q, k and v are three, each with its own input, unless the source has them as one.
fn wants_fused(catalog: &Catalog, options: &TargetOptions<'_>, stage: u64, whole: &str) -> bool {
    if is_lora(whole) && !catalog.fused_factors.contains(whole) {
        return false;
    }
    match options.arrangement {
        Arrangement::Rules(_) => options.fused,
        Arrangement::Strategy(set) => {
            let layouts = usize::try_from(stage).ok().and_then(|s| set.stages().get(s));
            layouts.is_some_and(|layouts| layouts.contains_key(whole))
        }
    }
}

impl Wanted {
    fn unknown(tensor: &LogicalTensor, index: usize) -> Self {
        Self {
            name: tensor.name.to_string(),
            tensors: vec![index],
            known: None,
            family: None,
            related: None,
            own: OwnSizes::NONE,
        }
    }

    fn known(
        catalog: &Catalog,
        dialect: &Dialect,
        (known, name): (Known, String),
        (_, tensor): (usize, &LogicalTensor),
        lacks: &mut Vec<String>,
    ) -> Self {
        let mut tensors = Vec::new();
        for id in known.ids() {
            let part = format!("{}{}", known.state, id.name(dialect.family()));
            match catalog.get(&part) {
                Some(at) => tensors.push(at),
                None => lacks.push(part),
            }
        }
        let sized = catalog.sized.as_ref();
        let own = known.ids().next().zip(sized).and_then(|(id, sized)| sized.own_sizes(id, &tensor.shape));
        let related = Related::of(dialect, &known);
        let own = own.unwrap_or(OwnSizes::NONE);
        Self { name, tensors, related, family: Some(dialect.family()), known: Some(known), own }
    }

    fn first<'a>(&self, catalog: &'a Catalog) -> &'a LogicalTensor {
        &catalog.tensors()[self.tensors[0]]
    }

    /// Whether its rows are those of the heads of q, k and v.
    pub(super) fn has_rows_of_heads(&self) -> bool {
        let (Some(known), Some(family)) = (&self.known, self.family) else { return false };
        known.state.is_empty()
            && !known.stored.is_shared()
            && known.stored.row.params().all(|param| family.has_rows_of_heads(param))
    }

    /// Whether all parts are the same tensor: what belongs to the input of a fused layer.
    pub(super) fn is_shared(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.stored.is_shared())
    }

    /// What belongs to the input of a fused layer must be the same for all its parts.
    pub(super) fn check_shared(&self, catalog: &Catalog, sources: Sources<'_>) -> Result<(), PlanError> {
        if !self.is_shared() {
            return Ok(());
        }
        let held = |&part: &usize| catalog.tensors()[part].shards.all().map(|h| (h.file, h.entry)).next();
        let held: Vec<(usize, usize)> = self.tensors.iter().filter_map(held).collect();
        let same = held.windows(2).all(|pair| pair[0] == pair[1]) || sources.agree(&held)?;
        if same { Ok(()) } else { Err(PlanError::InputsDiffer(self.name.clone())) }
    }

    /// How it is laid over the ranks of a stage, and the full shape that a strategy states. `None`: nothing says it.
    pub(super) fn layout(
        &self,
        catalog: &Catalog,
        options: &TargetOptions<'_>,
        stage: u64,
        ndim: usize,
    ) -> Option<(TensorLayout, Option<Shape>)> {
        let by_rules = self.by_rules(catalog, options);
        let found = options.arrangement.layout(stage, &self.name, ndim, by_rules, &|| self.related.clone());
        // One rank alone has everything whole, whatever its strategy knows.
        let alone = || (options.arrangement.ranks() == 1).then(|| (TensorLayout::flat(1, ndim, None), None));
        found.or_else(alone)
    }

    /// Whether a layout says what each rank holds.
    pub(super) fn has_layout(&self, catalog: &Catalog, options: &TargetOptions<'_>) -> bool {
        !matches!(self.by_rules(catalog, options), ByRules::Mixed { .. })
    }

    /// What the rules of the family say of it.
    fn by_rules(&self, catalog: &Catalog, options: &TargetOptions<'_>) -> ByRules {
        let first = self.first(catalog);
        match (&self.known, self.family) {
            (Some(known), Some(family)) if known.state.is_empty() => {
                let rows = first.shape.dims().first().copied().unwrap_or(1);
                let whole = options.vocabulary_whole || rows % options.arrangement.devices() != 0;
                let role = first.id.and_then(|id| catalog.role(id.param));
                match family.cut_dim(&known.stored) {
                    Some(_) if whole && matches!(role, Some(Role::Embedding | Role::Head)) => ByRules::Whole,
                    Some(dim) => {
                        let sizes = catalog.sized.as_ref().map(|sized| &sized.sizes);
                        ByRules::cut(dim, &known.stored, family, sizes, options.arrangement.devices())
                    }
                    None => ByRules::Whole,
                }
            }
            _ => ByRules::Unknown,
        }
    }

    /// What each device holds of it, where a family says that.
    pub(super) fn laid<'a>(&'a self, catalog: &'a Catalog) -> Result<Option<Lay<'a>>, PlanError> {
        let (Some(known), Some(sized)) = (&self.known, &catalog.sized) else { return Ok(None) };
        Lay::new(sized, known, self.own, &self.name).map(Some)
    }

    /// The dimensions over all ranks.
    pub(super) fn full_dims(&self, catalog: &Catalog, lay: Option<&Lay<'_>>) -> Vec<u64> {
        lay.map_or_else(|| self.first(catalog).shape.dims(), Lay::dims).to_vec()
    }

    /// Ready to be laid over the ranks.
    pub(super) fn laying<'a>(&'a self, catalog: &'a Catalog, lay: Option<Lay<'a>>) -> Result<Laying<'a>, PlanError> {
        let first = self.first(catalog);
        let lacks = |known: &Known| catalog.sized.as_ref().is_some_and(|sized| sized.lacks_heads(known.stored.row));
        if self.known.as_ref().is_some_and(lacks) {
            return Err(heads_unknown());
        }
        let tensors = || self.tensors.iter().map(|&at| &catalog.tensors()[at]);
        if let Some(other) = tensors().find(|t| t.dtype != first.dtype) {
            return Err(PlanError::Ambiguous(format!(
                "`{}` ({}{}) and `{}` ({}{}) cannot be fused",
                first.name, first.dtype, first.shape, other.name, other.dtype, other.shape
            )));
        }
        Ok(Laying { wanted: self, lay, shape: &first.shape })
    }

    /// What it is, as far as its precision is concerned.
    pub(super) fn kind(&self, catalog: &Catalog) -> Kind {
        let first = self.first(catalog);
        let role =
            first.id.and_then(|id| Some((catalog.role(id.param)?, id.companion().map(|companion| companion.quantity))));
        Kind::of(&first.name, role, first.dtype, &first.shape)
    }
}
