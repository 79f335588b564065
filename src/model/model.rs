//! A model: a family, and the sizes, the layers and the parameters that one model of it has.

use std::collections::{BTreeMap, BTreeSet};

use super::error::SpecError;
use super::family::{FUSED, Family, VOCABULARY_WHOLE};
use super::param::{Axis, Mesh, ParamId, Role, Sizes};
use super::rules::Rules;
use super::size::{Configuration, Value};
use crate::tensor::Shape;

/// A model: its family, the sizes of its axes, its parameters, and how the network wants them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    // The families of the program are static. A user's is read once, when the program begins, and is needed until it ends, so
    // that it is leaked: everything that knows a model can then name its family without owning it.
    family: &'static Family,
    sizes: Sizes,
    members: Vec<ParamId>,
    layers: u32,
    /// The number of layers of each template but `layer`, by its name.
    other_layers: BTreeMap<&'static str, u32>,
    tied: bool,
    /// Whether the network wants fused parameters (`qkv_concat`). `None`: not said.
    pub fused: Option<bool>,
    /// Whether the embedding and the output projection are kept whole on every rank (`vocab_emb_dp`).
    pub vocabulary_whole: bool,
}

/// The template of the layers that [`Model::layers`] counts.
const LAYER: &str = "layer";

/// What the axes that ranks share are called in messages.
const SHARED: [(&str, &str); 4] =
    [("KvHead", "kv heads"), ("Ffn", "ffn rows"), ("MoeFfn", "ffn rows of an expert"), ("Expert", "experts")];

impl Model {
    /// The model of a configuration of a kind (`config.json`, `yaml`, `params.json`).
    ///
    /// # Errors
    /// What the configuration does not state, or states as nothing that a model can have.
    pub fn read(family: &'static Family, kind: &str, configuration: &Configuration) -> Result<Self, SpecError> {
        let rules = Rules::new(family.rules(kind), configuration);
        let explain = |error| rules.explain(family, error);
        let sizes = family.sizes(kind, configuration).map_err(explain)?;
        let members = family.members(kind, configuration).map_err(explain)?;
        let flag = |name: &str| match rules.value(name) {
            Some(Value::Flag(flag)) => Some(flag),
            _ => None,
        };
        let mut model = Self::with_sizes(family, sizes, members);
        model.fused = flag(FUSED);
        model.vocabulary_whole = flag(VOCABULARY_WHOLE).unwrap_or(false);
        model.check_shapes()?;
        Ok(model)
    }

    /// The dimensions make shapes: every one of them is small enough, but products may not be.
    fn check_shapes(&self) -> Result<(), SpecError> {
        let mut seen = BTreeSet::new();
        let first = self.members.iter().filter(|id| seen.insert(id.param));
        match first.into_iter().find(|id| self.full_shape(**id).is_none()) {
            None => Ok(()),
            Some(id) => {
                let name = &self.family.params()[usize::from(id.param)].id;
                Err(SpecError::Unreadable(format!("its dimensions make `{name}` too large to be a tensor")))
            }
        }
    }

    /// A model of which the sizes and the parameters are known.
    pub fn with_sizes(family: &'static Family, sizes: Sizes, mut members: Vec<ParamId>) -> Self {
        members.sort_by_key(|id| (id.layer, id.param));
        let mut templates: BTreeMap<&'static str, u32> = BTreeMap::new();
        for id in &members {
            if let (Some(template), Some(layer)) = (&family.params()[usize::from(id.param)].template, id.layer) {
                let count = templates.entry(template).or_default();
                *count = (layer + 1).max(*count);
            }
        }
        let layers = templates.remove(LAYER).unwrap_or(0);
        // Layers that predict further tokens may have projections of their own.
        let is_head = |id: &ParamId| id.layer.is_none() && family.params()[usize::from(id.param)].role == Role::Head;
        let tied = !members.iter().any(is_head);
        Self { family, sizes, members, layers, other_layers: templates, tied, fused: None, vocabulary_whole: false }
    }

    /// The family.
    pub fn family(&self) -> &'static Family {
        self.family
    }

    /// The sizes of the axes.
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// The parameters that a checkpoint of the model must hold: those outside the layers, then layer by layer.
    pub fn members(&self) -> &[ParamId] {
        &self.members
    }

    /// Whether a checkpoint of the model must hold a parameter.
    pub fn has(&self, id: ParamId) -> bool {
        self.members.binary_search_by_key(&(id.layer, id.param), |id| (id.layer, id.param)).is_ok()
    }

    /// The number of layers.
    pub fn layers(&self) -> u32 {
        self.layers
    }

    /// The number of layers of a parameter's template.
    pub fn layers_of(&self, param: u16) -> u32 {
        match self.family.params().get(usize::from(param)).and_then(|param| param.template.as_deref()) {
            Some(LAYER) | None => self.layers,
            Some(other) => self.other_layers.get(other).copied().unwrap_or(0),
        }
    }

    /// Whether the output projection shares the embedding's weight.
    pub fn tied(&self) -> bool {
        self.tied
    }

    /// The same model, whose output projection shares the embedding's weight, or does not.
    #[must_use]
    pub fn with_tied(mut self, tied: bool) -> Self {
        let heads = (0u16..)
            .zip(self.family.params())
            .filter(|(_, param)| param.role == Role::Head && param.template.is_none());
        let heads: Vec<u16> = heads.map(|(at, _)| at).collect();
        self.members.retain(|id| !heads.contains(&id.param));
        if !tied {
            let heads = heads.into_iter().map(|param| ParamId { param, layer: None });
            self.members.extend(heads);
            self.members.sort_by_key(|id| (id.layer, id.param));
        }
        self.tied = tied;
        self
    }

    /// The full shape of a parameter that the family has, whether or not this model does. `None` for a layer that the model
    /// does not have, and for a product that is too large.
    pub fn full_shape(&self, id: ParamId) -> Option<Shape> {
        let param = self.family.params().get(usize::from(id.param))?;
        if id.layer.is_some_and(|layer| layer >= self.layers_of(id.param))
            || id.layer.is_some() != param.template.is_some()
        {
            return None;
        }
        Shape::new(param.shape(&self.sizes)?).ok()
    }

    /// The size of an axis by its name in the family file; `None` where the family has no such axis.
    pub fn axis(&self, name: &str) -> Option<u64> {
        self.family.axis(name).map(|axis| self.sizes.of(axis))
    }

    /// The model's width.
    pub fn hidden(&self) -> u64 {
        self.axis("Hidden").unwrap_or(1)
    }

    /// Query heads.
    pub fn heads(&self) -> u64 {
        self.kv_heads().saturating_mul(self.axis("Query").unwrap_or(1))
    }

    /// Key/value heads.
    pub fn kv_heads(&self) -> u64 {
        self.axis("KvHead").unwrap_or(1)
    }

    /// Rows of a head.
    pub fn head_dim(&self) -> u64 {
        self.axis("HeadDim").unwrap_or(1)
    }

    /// Rows of the gate and of the up projection. `None` where the family has no dense feed-forward layers.
    pub fn ffn(&self) -> Option<u64> {
        self.axis("Ffn")
    }

    /// Rows of the embedding.
    pub fn vocab(&self) -> u64 {
        self.axis("Vocab").unwrap_or(1)
    }

    /// Whether q, k and v have biases.
    pub fn qkv_bias(&self) -> bool {
        self.family.param("q_bias").is_some_and(|bias| self.members.iter().any(|id| id.param == bias))
    }

    /// The rows of q over all heads.
    pub fn query_rows(&self) -> u64 {
        self.heads().saturating_mul(self.head_dim())
    }

    /// The rows of k, and of v, over all heads.
    pub fn key_rows(&self) -> u64 {
        self.kv_heads().saturating_mul(self.head_dim())
    }

    /// Whether `ranks` ranks can share the heads and the ffn rows.
    ///
    /// # Errors
    /// What they do not divide.
    pub fn check_ranks(&self, ranks: u64) -> Result<(), SpecError> {
        let mut shared: Vec<(&'static str, u64)> = Vec::new();
        for axes in self.shared_axes() {
            let Some(&axis) = axes.first() else { continue };
            let size = self.sizes.of(axis);
            let name = self.family.axis_name(axis);
            let what = SHARED.iter().find(|(known, _)| *known == name).map_or("rows", |(_, what)| *what);
            if name == "KvHead" {
                shared.push(("attention heads", self.heads()));
            } else if axes.len() > 1 {
                shared.push((what, axes.iter().fold(1, |all, &axis| self.sizes.of(axis).saturating_mul(all))));
            }
            // Of an axis that is replicated beyond its size, several ranks hold the same, or share the next axis.
            let exceeds = axes.len() > 1 || self.family.replicates(axis);
            let exceeds = exceeds && size > 0 && ranks > 0 && ranks.is_multiple_of(size);
            shared.push((what, if exceeds { ranks } else { size }));
        }
        match shared.iter().find(|(_, count)| ranks == 0 || count % ranks != 0) {
            None => Ok(()),
            Some(&(what, count)) => {
                let most = shared.iter().fold(0, |common, (_, count)| divisor(common, *count));
                Err(SpecError::DoesNotDivide { ranks, count, what: what.to_owned(), most })
            }
        }
    }

    /// The axes of each parameter that tensor-parallel ranks share, one after the other, but for the vocabulary, which stays whole where they do not divide it; in the
    /// order of the parameters.
    fn shared_axes(&self) -> Vec<Vec<Axis>> {
        let mut found = Vec::new();
        for id in &self.members {
            let param = &self.family.params()[usize::from(id.param)];
            if matches!(param.role, Role::Embedding | Role::Head) {
                continue;
            }
            let cuts = param.cut.iter().filter(|cut| cut.mesh == Mesh::Tensor);
            let axes: Vec<Axis> = cuts.map(|cut| cut.axis).collect();
            if !axes.is_empty() && !found.contains(&axes) {
                found.push(axes);
            }
        }
        found
    }
}

/// The greatest common divisor; that of 0 and a number is the number.
fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}
