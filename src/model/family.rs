//! Families and their schemes.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use super::error::{FamilyFileError, ModelError};
use super::file;
use super::pack::{EXPERT, Pack};
use super::param::{Axis, Param, ParamId, Sizes, When};
use super::pattern::{Captures, Pattern};
use super::size::{Configuration, Expression, Value};

/// An axis of a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AxisInfo {
    pub name: String,
    /// More ranks than its size share it: each holds one index, several the same.
    pub replicates: bool,
}

/// What a name is: a parameter, or several in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The names.
    pub pattern: Pattern,
    pub(super) pack: Pack,
}

impl Row {
    /// The parameters in it, by their place in [`Family::params`].
    pub fn params(&self) -> impl Iterator<Item = u16> + '_ {
        self.pack.parts.iter().map(|part| part.param)
    }
}

/// A dialect: the names under which files hold the parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// Its name: `hf`, `mindformers/grouped`.
    pub name: String,
    /// Its rows.
    pub rows: Vec<Row>,
}

impl Scheme {
    /// The row of a name, and what the name captures.
    pub fn find(&self, name: &str) -> Option<(&Row, Captures)> {
        self.rows.iter().find_map(|row| row.pattern.matches(name).map(|captures| (row, captures)))
    }

    /// The row that holds a parameter.
    pub fn row_of(&self, param: u16) -> Option<&Row> {
        self.rows.iter().find(|row| row.params().any(|found| found == param))
    }
}

/// A name of a scheme, the row that it is of and what it captures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// The name.
    pub name: String,
    /// The row.
    pub row: &'a Row,
    /// The captures.
    pub captures: Captures,
}

/// How the sizes follow from one kind of configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SizeRules {
    /// `config.json`, `yaml`, `params.json`.
    pub kind: String,
    /// Axes, numbers of layers and flags by name.
    pub rules: Vec<(String, Expression)>,
}

/// A family of models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: String,
    /// The `model_type`s of a `config.json`. Empty: a base of other families, not a family of its own.
    pub model_types: Vec<String>,
    /// The architectures of mindformers' yamls.
    pub architectures: Vec<String>,
    /// Of families with the same names the one that is taken where nothing says which.
    pub usual: bool,
    /// What the names of a whole model begin with, in Hugging Face's schemes, and those of a model without its head do not.
    pub(super) base_prefix: String,
    /// How the names of buffers end that hold nothing of the model.
    pub(super) buffers: Vec<String>,
    pub(super) axes: Vec<AxisInfo>,
    pub(super) sizes: Vec<SizeRules>,
    pub(super) params: Vec<Param>,
    /// Parts of schemes, for the schemes of this family and of those that extend it.
    pub(super) fragments: Vec<Scheme>,
    /// The dialects.
    pub schemes: Vec<Scheme>,
}

/// The deepest chain of names in the sizes of a family.
const DEEPEST: u32 = 16;

impl Family {
    /// Reads a family file. `base`: finds the family that it extends.
    ///
    /// # Errors
    /// What is wrong, and in which line or entry.
    pub fn read(file: &str, text: &str, base: &dyn Fn(&str) -> Option<Family>) -> Result<Self, FamilyFileError> {
        file::read(file, text, base)
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
        let resolved = Resolved { rules: self.rules(kind), configuration };
        let mut sizes = Vec::with_capacity(self.axes.len());
        for (at, info) in self.axes.iter().enumerate() {
            let used = || {
                self.params
                    .iter()
                    .any(|p| p.axes().any(|a| usize::from(a.0) == at) && resolved.present(p) != Some(false))
            };
            sizes.push(match resolved.value(&info.name, 0) {
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
        let resolved = Resolved { rules: self.rules(kind), configuration };
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
            let all = layers(resolved.value(template, 0))
                .ok_or_else(|| self.not_stated(template, resolved.text(template)))?;
            let bound = |rule: &Expression| {
                let bound = layers(resolved.of(rule, 0)).map(|bound| bound.min(all));
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

    fn rules(&self, kind: &str) -> &[(String, Expression)] {
        self.sizes.iter().find(|rules| rules.kind == kind).map_or(&[], |rules| &rules.rules)
    }
}

/// A positive whole number below which products of a few fit 64 bits.
fn whole(number: f64) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, positive and below 2^32")]
    let whole = |n: f64| n as u64;
    (number.fract() == 0.0 && (1.0..4_294_967_296.0).contains(&number)).then(|| whole(number))
}

/// A configuration read by the rules of a family.
struct Resolved<'a> {
    rules: &'a [(String, Expression)],
    configuration: &'a Configuration,
}

impl Resolved<'_> {
    fn rule(&self, name: &str) -> Option<&Expression> {
        self.rules.iter().find(|(known, _)| known == name).map(|(_, rule)| rule)
    }

    fn text(&self, name: &str) -> String {
        self.rule(name).map_or_else(|| name.to_owned(), Expression::to_string)
    }

    fn value(&self, name: &str, depth: u32) -> Option<Value> {
        if depth > DEEPEST {
            return None;
        }
        match self.rule(name) {
            Some(rule) => self.of(rule, depth + 1),
            None => self.configuration.get(name).cloned(),
        }
    }

    fn of(&self, rule: &Expression, depth: u32) -> Option<Value> {
        // A rule that has the name of a field means the field by it.
        rule.value(&|name| match self.rule(name) {
            Some(other) if std::ptr::eq(other, rule) => self.configuration.get(name).cloned(),
            _ => self.value(name, depth),
        })
    }

    /// Whether the model has a parameter; `None` where the configuration does not say so.
    fn present(&self, param: &Param) -> Option<bool> {
        let When::If(condition) = &param.when else { return Some(true) };
        match self.of(condition, 0)? {
            Value::Flag(flag) => Some(flag),
            Value::Number(_) => None,
        }
    }
}

/// A number of layers, which may be none.
fn layers(value: Option<Value>) -> Option<u32> {
    match value? {
        Value::Number(0.0) => Some(0),
        Value::Number(number) => u32::try_from(whole(number)?).ok(),
        Value::Flag(_) => None,
    }
}

/// The files: a family is added by adding one.
static FILES: include_dir::Dir<'_> = include_dir::include_dir!("$CARGO_MANIFEST_DIR/src/model/families");
/// The one file there that is no family.
const COMPANIONS: &str = "companions.yaml";

/// The text of the file beside the families.
pub(super) fn companions_text() -> &'static str {
    FILES.get_file(COMPANIONS).and_then(include_dir::File::contents_utf8).unwrap_or_default()
}

/// The families of the files, bases before those that extend them, and what is wrong with the others.
fn read_all() -> (Vec<Family>, Vec<FamilyFileError>) {
    let texts = FILES.files().filter_map(|file| Some((file.path().to_str()?, file.contents_utf8()?)));
    let mut left: Vec<(&str, &str)> = texts.filter(|(name, _)| *name != COMPANIONS).collect();
    let mut read: Vec<Family> = Vec::new();
    loop {
        let before = left.len();
        let mut errors = Vec::new();
        for (name, text) in std::mem::take(&mut left) {
            match file::read(name, text, &|base| read.iter().find(|family| family.name == base).cloned()) {
                Ok(family) => read.push(family),
                Err(error) => {
                    errors.push(error);
                    left.push((name, text));
                }
            }
        }
        if left.len() == before {
            return (read, errors);
        }
    }
}

fn all() -> &'static [Family] {
    static ALL: OnceLock<Vec<Family>> = OnceLock::new();
    // A test shows what is wrong with a file.
    ALL.get_or_init(|| read_all().0)
}

/// The families that are compiled in, bases before those that extend them. A base of others has no `model_types`.
pub fn builtin_families() -> &'static [Family] {
    all()
}

/// A family that is compiled in.
pub fn builtin_family(name: &str) -> Option<&'static Family> {
    all().iter().find(|family| family.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_a_family_of_its_name() {
        let (read, errors) = read_all();
        assert!(errors.is_empty(), "{}", errors[0]);
        assert_eq!(read.len() + 1, FILES.files().count());
        for family in read {
            assert!(FILES.get_file(format!("{}.yaml", family.name)).is_some(), "{}", family.name);
        }
    }

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
