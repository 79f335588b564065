//! Family files: the text of a table, and what it says.

use std::collections::BTreeMap;

use serde::Deserialize;
use smallvec::SmallVec;

use super::error::FamilyFileError;
use super::family::{AxisInfo, Family, Row, Scheme, SizeRules};
use super::pack::{Pack, PackPart};
use super::param::{Axis, Cut, Dims, Mesh, Param, Role, When};
use super::pattern::Pattern;
use super::row_check;
use super::size::Expression;

/// The largest file that is read.
const MAX_BYTES: usize = 1 << 20;

type Map<T> = BTreeMap<String, T>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FamilyText {
    family: String,
    #[serde(default)]
    extends: Option<String>,
    #[serde(default)]
    model_types: Vec<String>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    usual: bool,
    #[serde(default)]
    base_prefix: Option<String>,
    #[serde(default)]
    buffers: Vec<String>,
    #[serde(default)]
    replicated: Vec<String>,
    #[serde(default)]
    sizes: Map<Map<SizeText>>,
    #[serde(default)]
    params: Map<Map<ParamText>>,
    #[serde(default)]
    fragments: Map<Rows>,
    #[serde(default)]
    schemes: Map<SchemeText>,
}

/// Prefix of the names -> rest of the name -> what it is.
type Rows = Map<Map<RowText>>;

#[derive(Deserialize)]
#[serde(untagged)]
enum SizeText {
    Number(u64),
    Flag(bool),
    Rule(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ParamText {
    dims: Vec<Vec<String>>,
    #[serde(default)]
    cut: Option<CutText>,
    #[serde(default = "linear")]
    role: Role,
    #[serde(default)]
    when: Option<WhenText>,
    #[serde(default)]
    optional: bool,
}

fn linear() -> Role {
    Role::Linear
}

#[derive(Deserialize)]
#[serde(untagged)]
enum CutText {
    Tensor(String),
    Meshes(MeshText),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MeshText {
    #[serde(default)]
    tensor: Option<String>,
    #[serde(default)]
    expert: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhenText {
    #[serde(default, rename = "if")]
    condition: Option<String>,
    #[serde(default)]
    layers_below: Option<String>,
    #[serde(default)]
    layers_from: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SchemeText {
    #[serde(default)]
    extends: Vec<String>,
    #[serde(default)]
    names: Rows,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum RowText {
    Part(PartText),
    Join(JoinText),
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum PartText {
    Param(String),
    Laid(LaidText),
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct LaidText {
    is: String,
    dims: Vec<Vec<String>>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct JoinText {
    join: Vec<PartText>,
    #[serde(default)]
    outer: Vec<String>,
    #[serde(default)]
    dim: usize,
}

/// Reads a file. `base`: finds the family that it extends.
pub(super) fn read(file: &str, text: &str, base: &dyn Fn(&str) -> Option<Family>) -> Result<Family, FamilyFileError> {
    let unreadable = |why: String| FamilyFileError::Unreadable { file: file.to_owned(), why };
    if text.len() > MAX_BYTES {
        return Err(unreadable(format!("{} bytes, more than {MAX_BYTES}", text.len())));
    }
    let text: FamilyText = serde_yaml::from_str(text).map_err(|e| unreadable(e.to_string()))?;
    let base = match &text.extends {
        None => None,
        Some(name) => {
            let unknown = || FamilyFileError::UnknownBase { file: file.to_owned(), base: name.clone() };
            Some(base(name).ok_or_else(unknown)?)
        }
    };
    Builder::new(file, base).build(text)
}

struct Builder<'a> {
    file: &'a str,
    family: Family,
}

impl<'a> Builder<'a> {
    fn new(file: &'a str, base: Option<Family>) -> Self {
        let empty = Family {
            name: String::new(),
            model_types: Vec::new(),
            architectures: Vec::new(),
            usual: false,
            base_prefix: String::new(),
            buffers: Vec::new(),
            axes: Vec::new(),
            sizes: Vec::new(),
            params: Vec::new(),
            fragments: Vec::new(),
            schemes: Vec::new(),
        };
        Self { file, family: base.unwrap_or(empty) }
    }

    fn error(&self, place: impl Into<String>, why: impl Into<String>) -> FamilyFileError {
        FamilyFileError::Entry { file: self.file.to_owned(), place: place.into(), why: why.into() }
    }

    fn build(mut self, text: FamilyText) -> Result<Family, FamilyFileError> {
        self.family.name = text.family;
        self.family.model_types = text.model_types;
        self.family.architectures = text.architectures;
        self.family.usual = text.usual;
        if let Some(prefix) = text.base_prefix {
            self.family.base_prefix = prefix;
        }
        self.family.buffers.extend(text.buffers);
        for (template, params) in text.params {
            for (id, param) in params {
                let param = self.param(&template, &id, param)?;
                match self.family.params.iter_mut().find(|known| known.id == id) {
                    Some(known) => *known = param,
                    None => self.family.params.push(param),
                }
            }
        }
        for axis in text.replicated {
            let place = format!("replicated {axis}");
            let at = self.known_axis(&axis).ok_or_else(|| self.error(place, "no parameter has this axis"))?;
            self.family.axes[usize::from(at.0)].replicates = true;
        }
        self.sizes(text.sizes)?;
        self.fragments(text.fragments)?;
        self.schemes(text.schemes)?;
        self.check()?;
        Ok(self.family)
    }

    /// Rows that this file inherits too: it may have given a parameter other axes.
    fn check(&self) -> Result<(), FamilyFileError> {
        for (kind, schemes) in [("fragments", &self.family.fragments), ("schemes", &self.family.schemes)] {
            for scheme in schemes {
                for row in &scheme.rows {
                    let place = || format!("{kind} {} {}", scheme.name, row.pattern);
                    row_check::check(&self.family, row).map_err(|why| self.error(place(), why))?;
                }
            }
        }
        Ok(())
    }

    fn known_axis(&self, name: &str) -> Option<Axis> {
        let at = self.family.axes.iter().position(|axis| axis.name == name)?;
        u8::try_from(at).ok().map(Axis)
    }

    fn axis(&mut self, place: &str, name: &str) -> Result<Axis, FamilyFileError> {
        if let Some(known) = self.known_axis(name) {
            return Ok(known);
        }
        if !name.starts_with(|c: char| c.is_ascii_uppercase()) {
            return Err(
                self.error(place, format!("`{name}` is no name of an axis, which begins with a capital letter"))
            );
        }
        let too_many = || self.error(place, "a family has at most 256 axes");
        let at = u8::try_from(self.family.axes.len()).map_err(|_| too_many())?;
        self.family.axes.push(AxisInfo { name: name.to_owned(), replicates: false });
        Ok(Axis(at))
    }

    fn dims(&mut self, place: &str, dims: &[Vec<String>]) -> Result<Dims, FamilyFileError> {
        let dims = dims
            .iter()
            .map(|dim| dim.iter().map(|axis| self.axis(place, axis)).collect())
            .collect::<Result<Dims, _>>()?;
        let mut flat: Vec<Axis> = dims.iter().flatten().copied().collect();
        flat.sort_unstable();
        if dims.iter().any(Vec::is_empty) {
            return Err(self.error(place, "a dimension has no axis"));
        }
        match flat.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(self.error(place, format!("the axis {} is there twice", self.family.axis_name(pair[0])))),
            None => Ok(dims),
        }
    }

    fn expression(&self, place: &str, text: &str) -> Result<Expression, FamilyFileError> {
        Expression::parse(text).map_err(|why| self.error(place, why))
    }

    fn param(&mut self, template: &str, id: &str, text: ParamText) -> Result<Param, FamilyFileError> {
        let place = format!("params {id}");
        let dims = self.dims(&place, &text.dims)?;
        let meshes = match text.cut {
            None => MeshText { tensor: None, expert: None },
            Some(CutText::Tensor(axis)) => MeshText { tensor: Some(axis), expert: None },
            Some(CutText::Meshes(meshes)) => meshes,
        };
        let mut cut = SmallVec::new();
        for (mesh, axis) in [(Mesh::Tensor, meshes.tensor), (Mesh::Expert, meshes.expert)] {
            let Some(name) = axis else { continue };
            match self.known_axis(&name).filter(|axis| dims.iter().flatten().any(|a| a == axis)) {
                Some(axis) => cut.push(Cut { mesh, axis }),
                None => return Err(self.error(place, format!("it is cut over {name}, which is none of its axes"))),
            }
        }
        let inside = |cut: &Cut| dims.iter().skip(1).any(|dim| dim.iter().skip(1).any(|axis| *axis == cut.axis));
        if let Some(cut) = cut.iter().find(|cut| inside(cut)) {
            let axis = self.family.axis_name(cut.axis);
            let why = format!("it is cut over {axis}, which is not the first axis of its dimension");
            return Err(self.error(place, why));
        }
        let when = self.when(&place, text.when)?;
        let template = (template != "once").then(|| template.to_owned());
        Ok(Param { id: id.to_owned(), dims, cut, role: text.role, when, optional: text.optional, template })
    }

    fn when(&self, place: &str, text: Option<WhenText>) -> Result<When, FamilyFileError> {
        let Some(text) = text else { return Ok(When::Always) };
        match (text.condition, text.layers_below, text.layers_from) {
            (Some(rule), None, None) => Ok(When::If(self.expression(place, &rule)?)),
            (None, Some(rule), None) => Ok(When::LayersBelow(self.expression(place, &rule)?)),
            (None, None, Some(rule)) => Ok(When::LayersFrom(self.expression(place, &rule)?)),
            _ => Err(self.error(place, "`when` is one of `if`, `layers_below` and `layers_from`")),
        }
    }

    fn sizes(&mut self, sizes: Map<Map<SizeText>>) -> Result<(), FamilyFileError> {
        for (kind, rules) in sizes {
            let mut read = Vec::with_capacity(rules.len());
            for (name, rule) in rules {
                let text = match rule {
                    SizeText::Number(number) => number.to_string(),
                    SizeText::Flag(flag) => flag.to_string(),
                    SizeText::Rule(text) => text,
                };
                read.push((name.clone(), self.expression(&format!("sizes {kind} {name}"), &text)?));
            }
            let known = self.family.sizes.iter().position(|rules| rules.kind == kind);
            let at = known.unwrap_or_else(|| {
                self.family.sizes.push(SizeRules { kind, rules: Vec::new() });
                self.family.sizes.len() - 1
            });
            let known = &mut self.family.sizes[at].rules;
            known.retain(|(name, _)| read.iter().all(|(new, _)| new != name));
            known.extend(read);
        }
        Ok(())
    }

    fn fragments(&mut self, fragments: Map<Rows>) -> Result<(), FamilyFileError> {
        for (name, text) in fragments {
            let mut rows = Vec::new();
            self.rows(&format!("fragments {name}"), &text, &mut rows)?;
            self.family.fragments.retain(|fragment| fragment.name != name);
            self.family.fragments.push(Scheme { name, rows });
        }
        Ok(())
    }

    /// A scheme replaces the one of its name; what it extends are fragments, or schemes of the family that this one extends.
    fn schemes(&mut self, schemes: Map<SchemeText>) -> Result<(), FamilyFileError> {
        let inherited = self.family.schemes.clone();
        for (name, text) in schemes {
            let mut rows: Vec<Row> = Vec::new();
            for base in &text.extends {
                let known = self.family.fragments.iter().chain(&inherited).find(|scheme| scheme.name == *base);
                let Some(known) = known else {
                    let why = format!("`{base}` is neither a fragment nor an inherited scheme");
                    return Err(self.error(format!("schemes {name}"), why));
                };
                known.rows.iter().for_each(|row| put(&mut rows, row.clone()));
            }
            self.rows(&format!("schemes {name}"), &text.names, &mut rows)?;
            self.family.schemes.retain(|scheme| scheme.name != name);
            self.family.schemes.push(Scheme { name, rows });
        }
        Ok(())
    }

    fn rows(&mut self, place: &str, text: &Rows, rows: &mut Vec<Row>) -> Result<(), FamilyFileError> {
        for (prefix, names) in text {
            for (rest, row) in names {
                let name = format!("{prefix}{rest}");
                let place = format!("{place} {name}");
                let pattern = Pattern::parse(&name).map_err(|why| self.error(&place, why))?;
                let pack = self.pack(&place, row)?;
                put(rows, Row { pattern, pack });
            }
        }
        Ok(())
    }

    fn pack(&mut self, place: &str, row: &RowText) -> Result<Pack, FamilyFileError> {
        let (parts, outer, dim) = match row {
            RowText::Part(part) => (std::slice::from_ref(part), &[][..], 0),
            RowText::Join(text) => (&text.join[..], &text.outer[..], text.dim),
        };
        let parts = parts.iter().map(|part| self.part(place, part)).collect::<Result<Vec<_>, _>>()?;
        let outer = outer.iter().map(|axis| self.axis(place, axis)).collect::<Result<_, _>>()?;
        Ok(Pack { outer, dim, parts })
    }

    fn part(&mut self, place: &str, text: &PartText) -> Result<PackPart, FamilyFileError> {
        let (id, dims) = match text {
            PartText::Param(id) => (id, None),
            PartText::Laid(laid) => (&laid.is, Some(self.dims(place, &laid.dims)?)),
        };
        let param = self.family.param(id).ok_or_else(|| self.error(place, format!("`{id}` is not a parameter")))?;
        Ok(PackPart { param, dims })
    }
}

/// A row of the same names replaces another.
fn put(rows: &mut Vec<Row>, row: Row) {
    rows.retain(|known| known.pattern != row.pattern);
    rows.push(row);
}
