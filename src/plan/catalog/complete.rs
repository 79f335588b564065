//! Is the model whole?

use std::collections::{BTreeMap, BTreeSet};

use super::Catalog;
use super::reader::CatalogOptions;
use crate::model::naming::is_training_state;
use crate::model::{Dialect, Family, ParamId, Role, When};
use crate::plan::tensor_id::{Known, TensorId};
use crate::plan::{Arrangement, PlanError};
use crate::tensor::TensorName;

/// A parameter of a layer, or what goes with one.
type InLayer = (u16, Option<&'static str>);

impl Catalog {
    /// Every parameter that the model, or the source's strategy, names is there; every layer holds the same parameters.
    pub(super) fn check_whole(&mut self, options: &CatalogOptions<'_>) -> Result<(), PlanError> {
        if let Some(model) = options.spec {
            let absent = model.members().iter().filter(|id| !self.has(model.family(), **id));
            let lacks: Vec<String> = absent.map(|id| model.family().own_name(*id, None)).collect();
            if !lacks.is_empty() {
                return Err(PlanError::Lacks(lacks));
            }
        }
        if let Arrangement::Strategy(set) = options.arrangement {
            let dialect = self.family().map(|family| Dialect::mindspore(family, options.fusion.name()));
            let is_embedding = |name: &String| {
                let known = dialect.as_ref().and_then(|dialect| Known::of(dialect, name));
                known
                    .filter(Known::is_model)
                    .is_some_and(|known| known.ids().any(|id| self.role(id.param) == Some(Role::Embedding)))
            };
            let settled = set.stages().iter().any(|layouts| layouts.keys().any(is_embedding));
            let there = |name: &str| self.get(name).is_some() || (options.ignore)(name) || self.twin(name);
            let known = |name: &str| {
                there(name)
                    || dialect
                        .as_ref()
                        .is_some_and(|dialect| Self::names_in(dialect, name).iter().all(|part| there(part)))
            };
            let names: BTreeSet<&String> = set.stages().iter().flat_map(BTreeMap::keys).collect();
            let lacks: Vec<String> =
                names.into_iter().filter(|name| !known(name) && !is_training_state(name)).cloned().collect();
            self.head_settled = settled;
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
        self.check_width(options)
    }

    /// Whether the parameters are those of a known family, which another model need not have.
    pub fn is_of_a_family(&self) -> bool {
        crate::plan::are_of_a_family(self.tensors.iter().map(|tensor| tensor.name.as_str()))
    }

    /// The names of the tensors in what has this name; the name itself where the dialect does not know it.
    fn names_in(dialect: &Dialect, name: &str) -> Vec<String> {
        match Known::of(dialect, name) {
            Some(known) => known.ids().map(|id| format!("{}{}", known.state, id.name(dialect.family()))).collect(),
            None => vec![name.to_owned()],
        }
    }

    /// Without a named model: a checkpoint with decoder layers has all that every model of the family has. `tied`: whether
    /// the model has no output projection of its own, where anything but the files says so.
    ///
    /// # Errors
    /// What is missing.
    pub fn check_complete(&self, tied: Option<bool>) -> Result<(), PlanError> {
        let Some(family) = self.family() else { return Ok(()) };
        // The layers of each template are numbered by themselves.
        let mut last: BTreeMap<Option<&str>, u32> = BTreeMap::new();
        for id in self.tensors.iter().filter_map(|tensor| Some(tensor.id?.param)) {
            if let Some(layer) = id.layer {
                let known = last.entry(template(family, id.param)).or_default();
                *known = layer.max(*known);
            }
        }
        let Some(&most) = last.values().max() else { return Ok(()) };
        let mut lacks = Vec::new();
        for layer in (0..=most).map(Some).chain([None]) {
            for (at, param) in (0u16..).zip(family.params()) {
                let id = ParamId { param: at, layer };
                let here = match (param.template.as_deref(), layer) {
                    (None, None) => true,
                    (own @ Some(_), Some(layer)) => last.get(&own).is_some_and(|last| layer <= *last),
                    _ => false,
                };
                if here && param.when == When::Always && !param.optional && !self.has(family, id) {
                    lacks.push(family.own_name(id, None));
                }
            }
        }
        if !lacks.is_empty() {
            return Err(PlanError::Lacks(lacks));
        }
        // A file that is cut before it looks like a model that shares the embedding.
        match tied {
            _ if self.has_head() => Ok(()),
            Some(true) => Ok(()),
            Some(false) => {
                Err(PlanError::Lacks(self.head_name().map(|(name, _)| name.to_string()).into_iter().collect()))
            }
            None if self.head_settled => Ok(()),
            None => Err(PlanError::NoHead),
        }
    }

    /// Whether the parameter is there, quantised or not.
    fn has(&self, family: &'static Family, id: ParamId) -> bool {
        let name = family.own_name(id, None);
        self.get(&name).is_some() || self.quantised.contains(&name)
    }

    /// What a parameter is for.
    pub(in crate::plan) fn role(&self, id: ParamId) -> Option<Role> {
        Some(self.family()?.params().get(usize::from(id.param))?.role)
    }

    /// The first tensor outside the layers that is itself a parameter of this role.
    pub(in crate::plan) fn of_role(&self, role: Role) -> Option<usize> {
        self.tensors.iter().position(|t| {
            t.id.is_some_and(|id| {
                id.companion.is_none() && id.param.layer.is_none() && self.role(id.param) == Some(role)
            })
        })
    }

    /// The name and the identity of the output projection.
    pub(super) fn head_name(&self) -> Option<(TensorName, TensorId)> {
        let family = self.family()?;
        let at = family.params().iter().position(|param| param.role == Role::Head && param.template.is_none())?;
        let id = TensorId { param: ParamId { param: u16::try_from(at).ok()?, layer: None }, companion: None };
        Some((id.name(family).as_str().into(), id))
    }

    /// Whether it is an entry that is made anew from its twin.
    fn twin(&self, name: &str) -> bool {
        crate::model::naming::is_copy(name) && self.input_copies
    }

    fn check_layers(&self) -> Result<(), PlanError> {
        let Some(family) = self.family() else { return Ok(()) };
        let mut layers: BTreeMap<(Option<&str>, u32), BTreeSet<InLayer>> = BTreeMap::new();
        for id in self.tensors.iter().filter_map(|tensor| tensor.id) {
            // Some parameters are of the first or of the last layers only.
            let partly = family
                .params()
                .get(usize::from(id.param.param))
                .is_some_and(|param| matches!(param.when, When::LayersBelow(_) | When::LayersFrom(_)));
            if let Some(layer) = id.param.layer {
                let of_layer = layers.entry((template(family, id.param.param), layer)).or_default();
                if !partly {
                    of_layer.insert((id.param.param, id.companion));
                }
            }
        }
        let templates: BTreeSet<Option<&str>> = layers.keys().map(|(template, _)| *template).collect();
        for template in templates {
            let own = || layers.range((template, 0)..=(template, u32::MAX));
            let all: BTreeSet<InLayer> = own().flat_map(|(_, have)| have).copied().collect();
            // Names of layers beyond any model's are not known as such, so this is short.
            for layer in own().next_back().map_or(0..0, |(&(_, last), _)| 0..last + 1) {
                let have = layers.get(&(template, layer));
                let absent = |one: &&InLayer| have.is_none_or(|have| !have.contains(*one));
                if let Some(&(param, companion)) = all.iter().find(absent) {
                    let id = TensorId { param: ParamId { param, layer: Some(layer) }, companion };
                    let name = id.name(family);
                    let suffix = name.split_once(&format!(".{layer}.")).map_or(name.as_str(), |(_, suffix)| suffix);
                    return Err(PlanError::UnevenLayers { layer, suffix: suffix.to_owned() });
                }
            }
        }
        Ok(())
    }

    /// Without a named model, q rows other than the model's width may mean that ranks are missing. In any case embedding and
    /// output projection are of one vocabulary.
    fn check_width(&self, options: &CatalogOptions<'_>) -> Result<(), PlanError> {
        let rows = |role| {
            let tensor = &self.tensors[self.of_role(role)?];
            Some((&tensor.name, *tensor.shape.dims().first()?))
        };
        if let (Some((embedding, a)), Some((head, b))) = (rows(Role::Embedding), rows(Role::Head))
            && a != b
        {
            return Err(PlanError::Ambiguous(format!("`{embedding}` has {a} rows but `{head}` has {b}")));
        }
        let Arrangement::Rules(ranks) = options.arrangement else { return Ok(()) };
        // Whole files have all rows; heads may be of any size.
        if self.foreign {
            return Ok(());
        }
        let query = self.family().and_then(Family::query_and_key).map(|(query, _)| query);
        let is_query =
            |t: &&super::LogicalTensor| t.id.is_some_and(|id| Some(id.param.param) == query && id.companion.is_none());
        if options.spec.is_none()
            && let Some(tensor) = self.tensors.iter().find(is_query)
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

/// The template of a parameter's layers.
fn template(family: &'static Family, param: u16) -> Option<&'static str> {
    family.params().get(usize::from(param))?.template.as_deref()
}
