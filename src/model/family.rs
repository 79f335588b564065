//! Families: what their tables say, and what follows for a configuration.

use std::collections::BTreeSet;

use super::error::ModelError;
use super::fields::Wanted;
use super::param::{Axis, Param, ParamId, Sizes, When};
use super::pattern::Captures;
use super::rules::{NamedRules, Reads, Rules, whole};
use super::scheme::{EXPERT, Named, Row, Scheme};
use super::size::{Configuration, Expression, Value};

/// An axis of a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AxisInfo {
    pub name: String,
    /// More ranks than its size share it: each holds one index, several the same.
    pub replicates: bool,
}

/// An architecture of mindformers' yamls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Architecture {
    pub name: String,
    /// Of several families with the same architecture, the one of which this is true.
    pub when: Option<Expression>,
}

/// What of one kind of configuration a family has no place for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusals {
    pub kind: String,
    /// Expressions over the fields that must not be true, and why.
    pub refused: Vec<(Expression, String)>,
}

/// How the sizes follow from one kind of configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SizeRules {
    /// `config.json`, `yaml`, `params.json`.
    pub kind: String,
    /// Axes, numbers of layers and flags by name.
    pub rules: Vec<(String, Expression)>,
}

/// The rule of whether the network expects fused parameters.
pub(super) const FUSED: &str = "fused";
/// The rule of whether the vocabulary is whole on every rank.
pub(super) const VOCABULARY_WHOLE: &str = "vocabulary_whole";

/// A family of models.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its name.
    pub name: String,
    /// The families that it extends, the nearest first.
    pub(super) bases: Vec<String>,
    /// The `model_type`s of a `config.json`. Empty: a base of other families, not a family of its own.
    pub model_types: Vec<String>,
    /// The architectures of mindformers' yamls.
    pub(super) architectures: Vec<Architecture>,
    /// Of families with the same names the one that is taken where nothing says which.
    pub usual: bool,
    /// What the names of a whole model begin with, in Hugging Face's schemes, and those of a model without its head do not.
    pub(super) base_prefix: String,
    /// How the names of buffers end that hold nothing of the model.
    pub(super) buffers: Vec<String>,
    pub(super) axes: Vec<AxisInfo>,
    pub(super) sizes: Vec<SizeRules>,
    /// Fields of configurations that are numbers of another kind than sizes, and between which numbers they are.
    pub(super) between: Vec<(String, (f64, f64))>,
    pub(super) refusals: Vec<Refusals>,
    /// Fields of models whose layers hold other parameters, whatever their type, by what such models are.
    pub(super) other_layers: Vec<(String, Vec<String>)>,
    pub(super) params: Vec<Param>,
    /// Parts of schemes, for the schemes of this family and of those that extend it.
    pub(super) fragments: Vec<Scheme>,
    /// The dialects.
    pub schemes: Vec<Scheme>,
}

// Bounds of numbers are finite.
impl Eq for Family {}

impl Family {
    /// A family without anything.
    pub(super) fn empty() -> Self {
        Self {
            name: String::new(),
            bases: Vec::new(),
            model_types: Vec::new(),
            architectures: Vec::new(),
            usual: false,
            base_prefix: String::new(),
            buffers: Vec::new(),
            axes: Vec::new(),
            sizes: Vec::new(),
            between: Vec::new(),
            refusals: Vec::new(),
            other_layers: Vec::new(),
            params: Vec::new(),
            fragments: Vec::new(),
            schemes: Vec::new(),
        }
    }

    /// The families that it extends, the nearest first.
    pub fn bases(&self) -> &[String] {
        &self.bases
    }

    /// The architectures of mindformers' yamls.
    pub fn architectures(&self) -> impl Iterator<Item = &str> {
        self.architectures.iter().map(|architecture| architecture.name.as_str())
    }

    /// Whether models are of it. Else it is a base of other families.
    pub fn has_models(&self) -> bool {
        !self.model_types.is_empty() || !self.architectures.is_empty()
    }

    /// The fields of a kind of configuration that say which model of the family it is, and as what each is read.
    pub(super) fn fields(&self, kind: &str) -> Vec<(String, Wanted)> {
        let mut reads = Reads::new(self.rules(kind), &self.between);
        self.axes.iter().for_each(|axis| reads.name(&axis.name, Wanted::Size));
        for param in &self.params {
            match &param.when {
                When::Always => {}
                When::If(rule) => reads.expression(rule, Wanted::Flag),
                When::LayersBelow(rule) | When::LayersFrom(rule) => reads.expression(rule, Wanted::Count),
            }
            // A model may be without layers that not every model has.
            let wanted = |template: &str| if template == "layer" { Wanted::Size } else { Wanted::Count };
            param.template.iter().for_each(|template| reads.name(template, wanted(template)));
        }
        let wanted_by_network = |(name, _): &&(String, Expression)| [FUSED, VOCABULARY_WHOLE].contains(&name.as_str());
        self.rules(kind).iter().filter(wanted_by_network).for_each(|(name, _)| reads.name(name, Wanted::Flag));
        reads.found()
    }

    /// The parameters.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// A parameter by its name in the family file.
    pub fn param(&self, id: &str) -> Option<u16> {
        self.params.iter().position(|param| param.id == id).and_then(|at| u16::try_from(at).ok())
    }

    /// What the names of a whole model begin with in Hugging Face's schemes.
    pub fn base_prefix(&self) -> &str {
        &self.base_prefix
    }

    /// Whether a name is of a buffer that holds nothing of the model: its last components are.
    pub fn is_buffer(&self, name: &str) -> bool {
        let ends = |end: &String| {
            name.strip_suffix(end.as_str()).is_some_and(|before| before.is_empty() || before.ends_with('.'))
        };
        self.buffers.iter().any(ends)
    }

    /// A dialect by its name.
    pub fn scheme(&self, name: &str) -> Option<&Scheme> {
        self.schemes.iter().find(|scheme| scheme.name == name)
    }

    /// An axis by its name in the family file.
    pub fn axis(&self, name: &str) -> Option<Axis> {
        let at = self.axes.iter().position(|info| info.name == name)?;
        u8::try_from(at).ok().map(Axis)
    }

    /// Whether a scheme has a name for every parameter that a model of the family may need.
    pub fn is_complete(&self, scheme: &Scheme) -> bool {
        let held: BTreeSet<u16> = scheme.rows.iter().flat_map(Row::params).collect();
        (0..).zip(&self.params).all(|(at, param)| param.optional || held.contains(&at))
    }

    /// How many experts a layer has.
    pub fn experts(&self, sizes: &Sizes) -> u64 {
        self.axis(EXPERT).map_or(0, |axis| sizes.of(axis))
    }

    /// The name of an axis.
    pub fn axis_name(&self, axis: Axis) -> &str {
        self.axes.get(usize::from(axis.0)).map_or("", |info| &info.name)
    }

    pub(super) fn replicates(&self, axis: Axis) -> bool {
        self.axes.get(usize::from(axis.0)).is_some_and(|info| info.replicates)
    }

    /// The sizes of all axes by a configuration of a kind (`config.json`, `yaml`, `params.json`). Axes of parameters that this
    /// configuration's model does not have may be without one.
    ///
    /// # Errors
    /// A size that the configuration does not give, or that is not a positive whole number.
    pub fn sizes(&self, kind: &str, configuration: &Configuration) -> Result<Sizes, ModelError> {
        let resolved = Rules::new(self.rules(kind), configuration);
        let mut sizes = Vec::with_capacity(self.axes.len());
        for (at, info) in self.axes.iter().enumerate() {
            let used = || {
                self.params
                    .iter()
                    .any(|p| p.axes().any(|a| usize::from(a.0) == at) && resolved.present(p) != Some(false))
            };
            sizes.push(match resolved.value(&info.name) {
                Some(Value::Number(number)) => whole(number).ok_or_else(|| ModelError::BadSize {
                    family: self.name.clone(),
                    axis: info.name.clone(),
                    expression: resolved.text(&info.name),
                    value: number.to_string(),
                })?,
                _ if !used() => 1,
                _ => return Err(self.not_stated(&info.name, resolved.text(&info.name))),
            });
        }
        Ok(Sizes(sizes))
    }

    /// The parameters that the model of a configuration must have, template by template, layer by layer.
    ///
    /// # Errors
    /// A number of layers, or whether a parameter is present, where the configuration does not say so.
    pub fn members(&self, kind: &str, configuration: &Configuration) -> Result<Vec<ParamId>, ModelError> {
        let resolved = Rules::new(self.rules(kind), configuration);
        let mut found = Vec::new();
        for (at, param) in self.params.iter().enumerate() {
            let Ok(at) = u16::try_from(at) else { break };
            let present = resolved.present(param).ok_or_else(|| self.not_stated(&param.id, param.when.text()))?;
            if param.optional || !present {
                continue;
            }
            let Some(template) = &param.template else {
                found.push(ParamId { param: at, layer: None });
                continue;
            };
            let all = Rules::layers(resolved.value(template))
                .ok_or_else(|| self.not_stated(template, resolved.text(template)))?;
            let bound = |rule: &Expression| {
                let bound = Rules::layers(resolved.of(rule)).map(|bound| bound.min(all));
                bound.ok_or_else(|| self.not_stated(template, rule.to_string()))
            };
            let range = match &param.when {
                When::LayersBelow(end) => 0..bound(end)?,
                When::LayersFrom(first) => bound(first)?..all,
                When::Always | When::If(_) => 0..all,
            };
            found.extend(range.map(|layer| ParamId { param: at, layer: Some(layer) }));
        }
        found.sort_by_key(|id| (id.layer, id.param));
        Ok(found)
    }

    /// The names under which a scheme holds these parameters, each once, in the order of the parameters. `None` where it has none
    /// for one of them.
    pub fn names<'a>(&self, scheme: &'a Scheme, members: &[ParamId], sizes: &Sizes) -> Option<Vec<Named<'a>>> {
        let mut names = Vec::new();
        let mut seen = BTreeSet::new();
        for id in members {
            let at = scheme.rows.iter().position(|row| row.params().any(|param| param == id.param))?;
            if !seen.insert((at, id.layer)) {
                continue;
            }
            let row = &scheme.rows[at];
            let experts = match self.axes.iter().position(|axis| axis.name == EXPERT) {
                Some(axis) if row.pattern.has_expert() => sizes.0.get(axis).copied().unwrap_or(0),
                _ => 1,
            };
            for expert in 0..u32::try_from(experts).ok()? {
                let captures = Captures { layer: id.layer, expert: row.pattern.has_expert().then_some(expert) };
                names.push(Named { name: row.pattern.name(captures)?, row, captures });
            }
        }
        Some(names)
    }

    fn not_stated(&self, what: &str, expression: String) -> ModelError {
        ModelError::NotStated { family: self.name.clone(), what: what.to_owned(), expression }
    }

    pub(super) fn rules(&self, kind: &str) -> &NamedRules {
        self.sizes.iter().find(|rules| rules.kind == kind).map_or(&[], |rules| &rules.rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTLY_DENSE: &str = "
family: partly_dense
params:
  layer:
    dense: {dims: [[Hidden]], when: {layers_below: dense_layers}}
    sparse: {dims: [[Hidden]], when: {layers_from: dense_layers}}
    bias: {dims: [[Hidden]], when: {if: biased}}
sizes:
  config.json: {layer: layers, Hidden: hidden}
";

    #[test]
    fn what_the_configuration_does_not_say_is_not_guessed() {
        let family = Family::read("partly_dense", PARTLY_DENSE, &|_| None).unwrap();
        let members = |dense: Option<f64>, biased: Option<bool>| {
            let fields = [("layers", Some(3.0)), ("hidden", Some(8.0)), ("dense_layers", dense)];
            let numbers = fields.into_iter().filter_map(|(name, n)| Some((name.to_owned(), Value::Number(n?))));
            let flag = biased.map(|flag| ("biased".to_owned(), Value::Flag(flag)));
            family.members("config.json", &numbers.chain(flag).collect())
        };
        let of = |param: &str, dense: f64| {
            let members = members(Some(dense), Some(false)).unwrap();
            members
                .iter()
                .filter(|id| id.param == family.param(param).unwrap())
                .filter_map(|id| id.layer)
                .collect::<Vec<_>>()
        };
        for (dense, below, from) in
            [(0.0, vec![], vec![0, 1, 2]), (1.0, vec![0], vec![1, 2]), (9.0, vec![0, 1, 2], vec![])]
        {
            assert_eq!((of("dense", dense), of("sparse", dense)), (below, from), "{dense}");
        }
        assert_eq!(members(Some(1.0), Some(true)).unwrap().len(), 6);
        for (dense, biased) in [(None, Some(false)), (Some(1.0), None), (Some(0.5), Some(false))] {
            assert!(matches!(members(dense, biased), Err(ModelError::NotStated { .. })), "{dense:?} {biased:?}");
        }
    }
}
