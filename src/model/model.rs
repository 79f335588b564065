//! A model: a family, and the sizes, the layers and the parameters that one model of it has.

use std::collections::{BTreeMap, BTreeSet};

use super::companion::{Of, OwnSizes};
use super::dialect::{Dialect, Place};
use super::error::SpecError;
use super::family::{FUSED, Family, VOCABULARY_WHOLE};
use super::fusion::FusionLayout;
use super::param::{Axis, Mesh, Param, ParamId, Role, Sizes, When};
use super::rules::Rules;
use super::size::{Configuration, Value};
use crate::tensor::Shape;

/// A model: its family, the sizes of its axes, its parameters, and how the network expects them.
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
    /// Whether the network expects fused parameters (`qkv_concat`). `None`: not stated.
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
        let explain = |error| rules.explain(&family.params, error);
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

    /// The same model in terms of another family, which has the same axes and parameters and may have other names for them.
    /// `None`: it has not.
    pub fn of_family(&self, family: &'static Family) -> Option<Self> {
        if std::ptr::eq(family, self.family) {
            return Some(self.clone());
        }
        let own = |id: &ParamId| {
            Some(ParamId { param: family.param(&self.family.params()[usize::from(id.param)].id)?, ..*id })
        };
        let members: Vec<ParamId> = self.members.iter().map(own).collect::<Option<_>>()?;
        let always = |param: &Param| !param.optional && param.when == When::Always;
        let missing = |at: u16| members.iter().all(|id| id.param != at);
        if (0..).zip(family.params()).any(|(at, param)| always(param) && missing(at)) {
            return None;
        }
        let axes = (0..family.axes.len()).map(|at| {
            let axis = Axis(u8::try_from(at).ok()?);
            let used =
                members.iter().any(|id| family.params()[usize::from(id.param)].axes().any(|found| found == axis));
            self.axis(family.axis_name(axis)).or((!used).then_some(1))
        });
        let sizes = Sizes(axes.collect::<Option<_>>()?);
        let Self { fused, vocabulary_whole, .. } = *self;
        Some(Self { fused, vocabulary_whole, ..Self::with_sizes(family, sizes, members) })
    }

    /// The full shape of what MindSpore's files store under a name, whatever the number of ranks. `None` for a name or a layer that
    /// the model does not have, and for what goes with a weight and has sizes of its own.
    pub fn stored_shape(&self, name: &str) -> Option<Shape> {
        let Place::Stored(stored) = Dialect::mindspore(self.family, FusionLayout::default().name()).place(name) else {
            return None;
        };
        if stored.captures.layer.is_some_and(|layer| layer >= self.layers) {
            return None;
        }
        let dims = match stored.companion {
            None => self.family.full_dims(stored.row, stored.captures, &self.sizes),
            Some(companion) if companion.dims.iter().any(|of| matches!(of, Of::InGroups | Of::LoraRank)) => {
                return None;
            }
            Some(companion) => {
                let none = OwnSizes::NONE;
                self.family.full_companion_dims(stored.row, stored.captures, companion, none, &self.sizes)
            }
        };
        Shape::new(dims.ok()?).ok()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Dense, builtin, builtin_names, family};

    const SMALL: Dense = Dense {
        family: "llama",
        hidden: 32,
        layers: 2,
        heads: 8,
        kv_heads: 4,
        head_dim: 8,
        ffn: 48,
        vocab: 97,
        tied: false,
    };

    #[test]
    fn a_model_is_its_sizes_and_its_parameters() {
        let model = SMALL.model().unwrap();
        assert_eq!(
            (model.hidden(), model.layers(), model.heads(), model.kv_heads(), model.head_dim()),
            (32, 2, 8, 4, 8)
        );
        assert_eq!((model.ffn(), model.vocab(), model.query_rows(), model.key_rows()), (Some(48), 97, 64, 32));
        assert_eq!((model.qkv_bias(), model.tied(), model.fused, model.vocabulary_whole), (false, false, None, false));
        let id = |param: &str, layer| ParamId { param: model.family().param(param).unwrap(), layer };
        assert_eq!(model.full_shape(id("q", Some(1))).unwrap().dims(), [64, 32]);
        assert_eq!(model.full_shape(id("q", Some(2))), None, "two layers only");
        assert_eq!(model.full_shape(id("q", None)), None, "it is one of a layer");
        assert!(model.has(id("q", Some(1))) && !model.has(id("q", Some(2))) && !model.has(id("key_scale", Some(0))));
        assert!(model.has(id("head", None)));
        let tied = Dense { tied: true, ..SMALL }.model().unwrap();
        assert!(!tied.has(id("head", None)) && tied.tied());
        assert_eq!(
            (model.clone().with_tied(true), tied.with_tied(false)),
            (Dense { tied: true, ..SMALL }.model().unwrap(), model)
        );
    }

    #[test]
    fn ranks_must_divide_heads_and_ffn_rows() {
        let model = builtin("llama3_8b").unwrap();
        for ranks in [1, 2, 4, 8] {
            assert_eq!(model.check_ranks(ranks), Ok(()));
        }
        let why = |ranks| model.check_ranks(ranks).unwrap_err().to_string();
        assert_eq!(why(3), "3 ranks do not divide the 32 attention heads");
        assert_eq!(why(16), "16 ranks do not divide the 8 kv heads");
        assert_eq!(why(0), "0 ranks do not divide the 32 attention heads");
        let narrow = Dense { ffn: 6, ..SMALL }.model().unwrap();
        let error = narrow.check_ranks(4).unwrap_err();
        assert!(matches!(&error, SpecError::DoesNotDivide { what, most: 2, .. } if what == "ffn rows"), "{error:?}");
    }

    /// The shapes of files' tensors that mindformers' network declares.
    #[test]
    fn what_is_stored_under_a_name_has_the_shape_of_its_parts() {
        let model = Dense { family: "qwen2", ..SMALL }.model().unwrap();
        let layer =
            |name: &str| model.stored_shape(&format!("model.layers.1.{name}")).map(|shape| shape.dims().to_vec());
        for (name, dims) in [
            ("attention.wq.weight", &[64, 32][..]),
            ("attention.w_qkv.weight", &[128, 32]),
            ("attention.w_qkv.bias", &[128]),
            ("attention.wo.weight", &[32, 64]),
            ("feed_forward.w_gate_hidden.weight", &[96, 32]),
            ("feed_forward.w2._layer.weight", &[32, 48]),
            ("attention.w_qkv._layer.matmul.weight_scale", &[128]),
            ("attention.wo.quant_op.input_scale", &[64]),
            ("attention.wo._layer.int4_weight", &[32, 32]),
        ] {
            assert_eq!(layer(name).as_deref(), Some(dims), "{name}");
        }
        assert_eq!(model.stored_shape("lm_head.weight").unwrap().dims(), [97, 32]);
        let unknown =
            ["attention.w_qkv.mindpet_delta_lora_a", "attention.wo._layer.matmul.group_scale", "attention.w.weight"];
        assert!(unknown.iter().all(|name| layer(name).is_none()), "sizes of their own, and names of nobody");
        assert_eq!(model.stored_shape("model.layers.2.attention.wq.weight"), None);
    }

    #[test]
    fn a_model_is_the_same_in_a_family_with_the_same_parameters() {
        let llama = SMALL.model().unwrap();
        let internlm = llama.of_family(family("internlm2").unwrap()).unwrap();
        assert_eq!(internlm, Dense { family: "internlm2", ..SMALL }.model().unwrap());
        assert_eq!(internlm.of_family(family("llama").unwrap()), Some(llama.clone()));
        for other in ["qwen3", "mixtral"] {
            assert_eq!(llama.of_family(family(other).unwrap()), None, "{other} has others");
        }
        // Whether there are biases is of the model.
        assert!(llama.of_family(family("qwen2").unwrap()).is_some_and(|model| !model.qkv_bias()));
        let qwen = Dense { family: "qwen2", ..SMALL }.model().unwrap();
        assert_eq!(qwen.of_family(family("llama").unwrap()), None);
    }

    #[test]
    fn every_built_in_model_is_read() {
        assert!(builtin_names().all(|name| builtin(name).is_some()));
        assert_eq!(builtin("llama"), None);
    }
}
