//! Is the model whole?

use std::collections::{BTreeMap, BTreeSet};

use super::{Catalog, CatalogOptions, LogicalTensor};
use crate::models::{EMBEDDING, HEAD, TRANSFORMER_TOP, is_training_state, layer_suffixes, role};
use crate::plan::{Arrangement, PlanError};

impl Catalog {
    /// Every parameter that the model, or the source's strategy, names is there; every layer holds the same parameters.
    pub(super) fn check_whole(&mut self, options: &CatalogOptions<'_>) -> Result<(), PlanError> {
        if let Some(spec) = options.spec {
            let lacks: Vec<String> = spec.required().filter(|name| !self.has(name)).collect();
            if !lacks.is_empty() {
                return Err(PlanError::Lacks(lacks));
            }
        }
        if let Arrangement::Strategy(set) = options.arrangement {
            self.head_settled = set.stages().iter().any(|layouts| layouts.contains_key(EMBEDDING));
            let known = |name: &str| {
                let there = |n: &str| self.get(n).is_some() || (options.ignore)(n) || self.twin(n);
                there(name) || crate::models::fused(name).is_some_and(|f| f.parts.iter().all(|p| there(p)))
            };
            let names: BTreeSet<&String> = set.stages().iter().flat_map(BTreeMap::keys).collect();
            let lacks: Vec<String> =
                names.into_iter().filter(|name| !known(name) && !is_training_state(name)).cloned().collect();
            if !lacks.is_empty() {
                return Err(PlanError::Lacks(lacks));
            }
        }
        // Of another model's layers nothing is known; where a strategy says what there is, it was looked for.
        let laid_out = matches!(options.arrangement, Arrangement::Rules(ranks) if ranks > 1);
        if options.spec.is_none() && !laid_out && !self.is_of_a_family() {
            return Ok(());
        }
        self.check_layers()?;
        if options.spec.is_none() {
            self.check_shapes()?;
        }
        self.check_width(options)
    }

    /// Whether the parameters are those of a known family, which another model need not have.
    pub fn is_of_a_family(&self) -> bool {
        crate::plan::are_of_a_family(self.tensors.iter().map(|tensor| tensor.name.as_str()))
    }

    /// Without a named model: a checkpoint with decoder layers has all that every model of the family has. `tied`: whether
    /// the model has no `lm_head` of its own, where anything but the files says so.
    ///
    /// # Errors
    /// What is missing.
    pub fn check_complete(&self, tied: Option<bool>) -> Result<(), PlanError> {
        let layers = self.tensors.iter().filter_map(|t| role(&t.name)?.layer).max();
        let Some(last) = layers else { return Ok(()) };
        // Quantising activations makes biases where there were none.
        let plain = |r: crate::models::Role<'_>| r.suffix.ends_with("bias") && !r.suffix.contains("._layer.");
        let bias = self.tensors.iter().any(|t| role(&t.name).is_some_and(plain));
        let of_layer = |n| layer_suffixes(bias).map(move |suffix| format!("model.layers.{n}.{suffix}"));
        let top = TRANSFORMER_TOP[..2].iter().map(|name| (*name).to_owned());
        let lacks: Vec<String> = (0..=last).flat_map(of_layer).chain(top).filter(|n| !self.has(n)).collect();
        if !lacks.is_empty() {
            return Err(PlanError::Lacks(lacks));
        }
        // A file that is cut before it looks like a model that shares the embedding.
        match tied {
            _ if self.has_head() => Ok(()),
            Some(true) => Ok(()),
            Some(false) => Err(PlanError::Lacks(vec![HEAD.to_owned()])),
            None if self.head_settled => Ok(()),
            None => Err(PlanError::NoHead),
        }
    }

    /// Without a named model: a parameter has one shape in all layers, and those that act alike have one in each.
    fn check_shapes(&self) -> Result<(), PlanError> {
        let mut shapes: BTreeMap<&str, Vec<&LogicalTensor>> = BTreeMap::new();
        for tensor in &self.tensors {
            if let Some(role) = role(&tensor.name).filter(|role| role.layer.is_some()) {
                shapes.entry(role.suffix).or_default().push(tensor);
            }
        }
        for tensors in shapes.values() {
            let like = |one: &LogicalTensor| tensors.iter().filter(|t| t.shape == one.shape).count();
            // Of equally frequent ones the first.
            let Some(usual) = tensors.iter().rev().max_by_key(|t| like(t)) else { continue };
            if let Some(odd) = tensors.iter().find(|t| t.shape != usual.shape) {
                return Err(PlanError::OddShape {
                    name: odd.name.to_string(),
                    shape: odd.shape.clone(),
                    usual_name: usual.name.to_string(),
                    usual: usual.shape.clone(),
                    count: like(usual),
                });
            }
        }
        Ok(())
    }

    /// Whether the parameter is there, quantised or not.
    fn has(&self, name: &str) -> bool {
        self.get(name).is_some() || self.quantised.contains(name)
    }

    /// Whether it is an entry that is made anew from its twin.
    fn twin(&self, name: &str) -> bool {
        crate::models::is_copy(name) && self.input_copies
    }

    fn check_layers(&self) -> Result<(), PlanError> {
        let mut layers: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
        for tensor in &self.tensors {
            if let Some(role) = role(&tensor.name)
                && let Some(layer) = role.layer
            {
                layers.entry(layer).or_default().insert(role.suffix);
            }
        }
        let all: BTreeSet<&str> = layers.values().flatten().copied().collect();
        // Names of layers beyond any model's are not known as such, so this is short.
        for layer in layers.keys().max().map_or(0..0, |&last| 0..last + 1) {
            let have = layers.get(&layer);
            if let Some(suffix) = all.iter().find(|suffix| have.is_none_or(|have| !have.contains(*suffix))) {
                return Err(PlanError::UnevenLayers { layer, suffix: (*suffix).to_owned() });
            }
        }
        Ok(())
    }

    /// Without a named model, q rows other than the model's width may mean that ranks are missing. In any case embedding and
    /// `lm_head` are of one vocabulary.
    fn check_width(&self, options: &CatalogOptions<'_>) -> Result<(), PlanError> {
        let rows = |name: &str| {
            let tensor = &self.tensors[self.get(name)?];
            Some((&tensor.name, *tensor.shape.dims().first()?))
        };
        if let (Some((embedding, a)), Some((head, b))) = (rows(EMBEDDING), rows(HEAD))
            && a != b
        {
            return Err(PlanError::Ambiguous(format!("`{embedding}` has {a} rows but `{head}` has {b}")));
        }
        let Arrangement::Rules(ranks) = options.arrangement else { return Ok(()) };
        if options.spec.is_some() {
            return Ok(());
        }
        let query = |t: &&super::LogicalTensor| role(&t.name).is_some_and(|r| r.suffix == "attention.wq.weight");
        if let Some(tensor) = self.tensors.iter().find(query)
            && let &[rows, width] = tensor.shape.dims()
            && rows != width
        {
            return Err(PlanError::Ambiguous(format!(
                "`{}` has {rows} rows over {ranks} rank(s) but {width} columns: is a rank missing? If not, name the model with -y",
                tensor.name
            )));
        }
        Ok(())
    }
}
