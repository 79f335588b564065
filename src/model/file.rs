//! Family files: the text of a table, and what it says.

mod rows;
mod tree;

use std::collections::BTreeSet;

use smallvec::SmallVec;

use super::error::{FamilyFileError, FamilyFileErrors};
use super::family::{Architecture, AxisInfo, Family, Refusals, SizeRules};
use super::param::{Axis, Cut, Dims, Mesh, Param, Role, When};
use super::size::Expression;
use super::yaml_text;
use tree::{Entry, Faults, Tree, Unplaced};

/// The largest file that is read.
const MAX_BYTES: usize = 1 << 20;

/// What a file may say of a family.
const KEYS: [&str; 15] = [
    "family",
    "extends",
    "model_types",
    "architectures",
    "usual",
    "base_prefix",
    "buffers",
    "replicated",
    "sizes",
    "between",
    "refuses",
    "other_layers",
    "params",
    "fragments",
    "schemes",
];

impl Family {
    /// Reads a family file. `base`: finds the family that it extends.
    ///
    /// # Errors
    /// What is wrong, and in which line or entry.
    pub fn read(file: &str, text: &str, base: &dyn Fn(&str) -> Option<Family>) -> Result<Self, FamilyFileErrors> {
        Self::read_with(file, text, base, Rows::Checked)
    }

    /// As [`Self::read`], with or without the check that every row, those of bases too, fits the parameters: half of the time, which
    /// each run would spend on files that are compiled in and that a test checks.
    pub(super) fn read_with(
        file: &str,
        text: &str,
        base: &dyn Fn(&str) -> Option<Family>,
        rows: Rows,
    ) -> Result<Self, FamilyFileErrors> {
        let unreadable = |why: String| FamilyFileError::Unreadable { file: file.to_owned(), why };
        if text.len() > MAX_BYTES {
            return Err(unreadable(format!("{} bytes, more than {MAX_BYTES}", text.len())).into());
        }
        let tree: Tree = match rows {
            Rows::Checked => yaml_text::read_as(text),
            Rows::Trusted => yaml_text::read_as::<Unplaced>(text).map(Tree::from),
        }
        .map_err(unreadable)?;
        let mut reader = Reader {
            file,
            family: Self::empty(),
            faults: Vec::new(),
            broken: BTreeSet::new(),
            complete: BTreeSet::new(),
            rows,
        };
        reader.family(&tree, base);
        reader.faults.sort_by_key(FamilyFileError::line);
        if reader.faults.is_empty() { Ok(reader.family) } else { Err(FamilyFileErrors(reader.faults)) }
    }
}

/// The entries of a mapping by their keys: the order of all but rows is the same however a file is written.
fn sorted(entries: &[Entry]) -> Vec<&Entry> {
    let mut entries: Vec<&Entry> = entries.iter().collect();
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    entries
}

/// Whether the rows of a file are held against the parameters that they name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// All: the file is a user's, or a test's.
    Checked,
    /// None: the file is compiled in.
    Trusted,
}

struct Reader<'a> {
    file: &'a str,
    family: Family,
    faults: Vec<FamilyFileError>,
    /// Parameters that are wrong: rows that name them are not.
    broken: BTreeSet<String>,
    /// The inherited schemes that have a name for every parameter of their own family.
    complete: BTreeSet<String>,
    rows: Rows,
}

impl Reader<'_> {
    /// Notes what is wrong at a place, and goes on.
    fn note(&mut self, place: &str, faults: Faults) {
        self.faults.extend(faults.into_iter().map(|fault| FamilyFileError::Entry {
            file: self.file.to_owned(),
            line: fault.line,
            place: place.to_owned(),
            why: fault.why,
        }));
    }

    /// The value, or what is wrong with it noted.
    fn noted<T>(&mut self, place: &str, read: Result<T, Faults>) -> Option<T> {
        read.map_err(|faults| self.note(place, faults)).ok()
    }

    /// The entries of a mapping at a place, sorted.
    fn entries<'t>(&mut self, place: &str, tree: Option<&'t Tree>) -> Vec<&'t Entry> {
        let Some(tree) = tree else { return Vec::new() };
        self.noted(place, tree.entries()).map_or_else(Vec::new, sorted)
    }

    fn family(&mut self, tree: &Tree, base: &dyn Fn(&str) -> Option<Family>) {
        let all = match tree.keys(KEYS) {
            Ok(all) => all,
            Err(faults) => {
                self.note("the file", faults);
                let Ok(entries) = tree.entries() else { return };
                // The rest is read all the same.
                KEYS.map(|key| entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value))
            }
        };
        let [
            family,
            extends,
            model_types,
            architectures,
            usual,
            base_prefix,
            buffers,
            replicated,
            sizes,
            between,
            refuses,
            other_layers,
            params,
            fragments,
            schemes,
        ] = all;
        if let Some(name) = extends.and_then(|name| self.noted("extends", name.text())) {
            let Some(base) = base(name) else {
                // What is wrong with the rest is not known without it.
                let (file, line) = (self.file.to_owned(), extends.map_or(0, |name| name.line));
                self.faults.push(FamilyFileError::UnknownBase { file, line, base: name.to_owned() });
                return;
            };
            let complete = base.schemes.iter().filter(|scheme| base.is_complete(scheme));
            self.complete = complete.map(|scheme| scheme.name.clone()).collect();
            self.family = base;
            self.family.bases.insert(0, name.to_owned());
        }
        let name = family.ok_or_else(|| tree.fault("the name is missing")).and_then(Tree::text);
        self.family.name = self.noted("family", name).unwrap_or_default().to_owned();
        // These are a family's own.
        let types = model_types.map(Tree::texts).transpose();
        self.family.model_types = self.noted("model_types", types).flatten().unwrap_or_default();
        self.family.architectures = architectures.map_or_else(Vec::new, |tree| self.architectures(tree));
        self.family.usual = self.noted("usual", usual.map(Tree::flag).transpose()).flatten().unwrap_or_default();
        if let Some(prefix) = base_prefix.and_then(|prefix| self.noted("base_prefix", prefix.text())) {
            prefix.clone_into(&mut self.family.base_prefix);
        }
        let buffers = self.noted("buffers", buffers.map(Tree::texts).transpose()).flatten();
        self.family.buffers.extend(buffers.unwrap_or_default());
        self.params(params);
        self.replicated(replicated);
        self.sizes(sizes);
        self.between(between);
        self.refusals(refuses);
        self.other_layers(other_layers);
        self.fragments(fragments);
        self.schemes(schemes);
        if self.faults.is_empty() {
            self.check_rows();
        }
        self.leave_out_schemes_of_bases(schemes);
    }

    fn known_axis(&self, name: &str) -> Option<Axis> {
        self.family.axis(name)
    }

    fn axis(&mut self, tree: &Tree) -> Result<Axis, Faults> {
        let name = tree.text()?;
        if let Some(known) = self.known_axis(name) {
            return Ok(known);
        }
        if !name.starts_with(|c: char| c.is_ascii_uppercase()) {
            return Err(tree.fault(format!("`{name}` is no name of an axis, which begins with a capital letter")));
        }
        let at = u8::try_from(self.family.axes.len()).map_err(|_| tree.fault("a family has at most 256 axes"))?;
        self.family.axes.push(AxisInfo { name: name.to_owned(), replicates: false });
        Ok(Axis(at))
    }

    fn dims(&mut self, tree: &Tree) -> Result<Dims, Faults> {
        let mut dims = Dims::new();
        for dim in tree.list()? {
            let axes = dim.list()?.iter().map(|axis| self.axis(axis)).collect::<Result<Vec<_>, _>>()?;
            if axes.is_empty() {
                return Err(dim.fault("a dimension has no axis"));
            }
            dims.push(axes);
        }
        let mut flat: Vec<Axis> = dims.iter().flatten().copied().collect();
        flat.sort_unstable();
        match flat.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(tree.fault(format!("the axis {} is there twice", self.family.axis_name(pair[0])))),
            None => Ok(dims),
        }
    }

    fn params(&mut self, tree: Option<&Tree>) {
        for template in self.entries("params", tree) {
            for entry in self.entries(&format!("params {}", template.key), Some(&template.value)) {
                let read = self.param(&template.key, &entry.key, &entry.value);
                match self.noted(&format!("params {}", entry.key), read) {
                    None => _ = self.broken.insert(entry.key.clone()),
                    Some(param) => match self.family.params.iter_mut().find(|known| known.id == param.id) {
                        Some(known) => *known = param,
                        None => self.family.params.push(param),
                    },
                }
            }
        }
    }

    fn param(&mut self, template: &str, id: &str, tree: &Tree) -> Result<Param, Faults> {
        let [dims, cut, role, when, optional, loaded] =
            tree.keys(["dims", "cut", "role", "when", "optional", "loaded"])?;
        let dims_tree = dims.ok_or_else(|| tree.fault("`dims` is missing"))?;
        let dims = self.dims(dims_tree)?;
        let cut = cut.map_or_else(|| Ok(SmallVec::new()), |cut| self.cut(cut, &dims))?;
        let role = role.map_or(Ok(Role::Linear), |role| {
            let known = || Role::ALL.map(|(name, _)| name).join(", ");
            let found = role.scalar().and_then(|text| Role::ALL.iter().find(|(name, _)| *name == text));
            found.map(|(_, role)| *role).ok_or_else(|| role.fault(format!("its role is one of {}", known())))
        })?;
        let flag = |tree: Option<&Tree>, default: bool| tree.map_or(Ok(default), Tree::flag);
        Ok(Param {
            id: id.to_owned(),
            dims,
            cut,
            role,
            when: when.map_or(Ok(When::Always), when_of)?,
            optional: flag(optional, false)?,
            loaded: flag(loaded, true)?,
            template: (template != "once").then(|| template.to_owned()),
        })
    }

    /// An axis, which tensor-parallel ranks share, or one for each kind of ranks. Of several the ranks share the first; those that
    /// have the same index of it share the next.
    fn cut(&self, tree: &Tree, dims: &Dims) -> Result<SmallVec<[Cut; 2]>, Faults> {
        let [tensor, expert] =
            if tree.entries().is_ok() { tree.keys(["tensor", "expert"])? } else { [Some(tree), None] };
        let meshes = [(Mesh::Tensor, tensor), (Mesh::Expert, expert)];
        let mut cut = SmallVec::new();
        for (mesh, tree) in meshes.into_iter().filter_map(|(mesh, tree)| Some((mesh, tree?))) {
            let axes = if tree.scalar().is_some() { std::slice::from_ref(tree) } else { tree.list()? };
            let mut outer = None;
            for axis in axes {
                let found = self.cut_axis(axis, dims, outer)?;
                if cut.iter().any(|cut: &Cut| cut.axis == found) {
                    return Err(axis.fault(format!("it is cut over {} twice", self.family.axis_name(found))));
                }
                cut.push(Cut { mesh, axis: found });
                outer = Some(found);
            }
        }
        Ok(cut)
    }

    /// An axis that ranks share. `outer`: the one that they share before it.
    fn cut_axis(&self, tree: &Tree, dims: &Dims, outer: Option<Axis>) -> Result<Axis, Faults> {
        let name = tree.text()?;
        let known = self.known_axis(name).filter(|axis| dims.iter().flatten().any(|a| a == axis));
        let found = known.ok_or_else(|| tree.fault(format!("it is cut over {name}, which is none of its axes")))?;
        match outer {
            Some(outer) if !dims.iter().any(|dim| dim.windows(2).any(|pair| pair == [outer, found])) => {
                let outer = self.family.axis_name(outer);
                Err(tree.fault(format!("it is cut over {outer} and then {name}, which is not the next axis")))
            }
            None if dims.iter().skip(1).any(|dim| dim.iter().skip(1).any(|axis| *axis == found)) => {
                Err(tree.fault(format!("it is cut over {name}, which is not the first axis of its dimension")))
            }
            _ => Ok(found),
        }
    }

    fn replicated(&mut self, tree: Option<&Tree>) {
        let axes = tree.and_then(|tree| self.noted("replicated", tree.list()));
        for tree in axes.into_iter().flatten() {
            match tree.scalar().and_then(|name| self.known_axis(name)) {
                Some(axis) => self.family.axes[usize::from(axis.0)].replicates = true,
                None => self.note("replicated", tree.fault("no parameter has this axis")),
            }
        }
    }

    /// Names, or names and when a model of that architecture is of this family.
    fn architectures(&mut self, tree: &Tree) -> Vec<Architecture> {
        if let Ok(names) = tree.texts() {
            return names.into_iter().map(|name| Architecture { name, when: None }).collect();
        }
        let entries = self.entries("architectures", Some(tree));
        let of = |entry: &Entry| {
            let when = if entry.value.is_nothing() { None } else { Some(expression(&entry.value)) };
            let when = self.noted(&format!("architectures {}", entry.key), when.transpose())?;
            Some(Architecture { name: entry.key.clone(), when })
        };
        entries.into_iter().filter_map(of).collect()
    }

    fn sizes(&mut self, tree: Option<&Tree>) {
        for kind in self.entries("sizes", tree) {
            let mut read = Vec::new();
            for rule in self.entries(&format!("sizes {}", kind.key), Some(&kind.value)) {
                let place = format!("sizes {} {}", kind.key, rule.key);
                read.extend(self.noted(&place, expression(&rule.value)).map(|read| (rule.key.clone(), read)));
            }
            let known = self.family.sizes.iter().position(|rules| rules.kind == kind.key);
            let at = known.unwrap_or_else(|| {
                self.family.sizes.push(SizeRules { kind: kind.key.clone(), rules: Vec::new() });
                self.family.sizes.len() - 1
            });
            let known = &mut self.family.sizes[at].rules;
            known.retain(|(name, _)| read.iter().all(|(new, _)| new != name));
            known.extend(read);
        }
    }

    fn between(&mut self, tree: Option<&Tree>) {
        for entry in self.entries("between", tree) {
            let why = "it is not a list of the smallest and the largest number";
            let number =
                |tree: &Tree| tree.scalar().and_then(|text| text.parse::<f64>().ok()).filter(|n| n.is_finite());
            let bounds = entry.value.list().and_then(|list| {
                match list {
                    [from, to] => number(from).zip(number(to)).filter(|(from, to)| from <= to),
                    _ => None,
                }
                .ok_or_else(|| entry.value.fault(why))
            });
            if let Some(bounds) = self.noted(&format!("between {}", entry.key), bounds) {
                self.family.between.retain(|(known, _)| *known != entry.key);
                self.family.between.push((entry.key.clone(), bounds));
            }
        }
    }

    /// A refusal without a reason takes back an inherited one.
    fn refusals(&mut self, tree: Option<&Tree>) {
        for kind in self.entries("refuses", tree) {
            for entry in self.entries(&format!("refuses {}", kind.key), Some(&kind.value)) {
                let place = format!("refuses {} {}", kind.key, entry.key);
                let rule = Expression::parse(&entry.key).map_err(|why| entry.value.fault(why));
                let why = if entry.value.is_nothing() { None } else { Some(entry.value.text()) };
                let (Some(rule), Some(why)) = (self.noted(&place, rule), self.noted(&place, why.transpose())) else {
                    continue;
                };
                let known = self.family.refusals.iter().position(|refusals| refusals.kind == kind.key);
                let at = known.unwrap_or_else(|| {
                    self.family.refusals.push(Refusals { kind: kind.key.clone(), refused: Vec::new() });
                    self.family.refusals.len() - 1
                });
                let refused = &mut self.family.refusals[at].refused;
                refused.retain(|(known, _)| *known != rule);
                refused.extend(why.map(|why| (rule, why.to_owned())));
            }
        }
    }

    fn other_layers(&mut self, tree: Option<&Tree>) {
        for entry in self.entries("other_layers", tree) {
            let Some(fields) = self.noted(&format!("other_layers {}", entry.key), entry.value.texts()) else {
                continue;
            };
            match self.family.other_layers.iter_mut().find(|(known, _)| *known == entry.key) {
                // No fields take back those that are inherited.
                Some((_, known)) if fields.is_empty() => known.clear(),
                Some((_, known)) => known.extend(fields),
                None => self.family.other_layers.push((entry.key.clone(), fields)),
            }
        }
    }
}

fn expression(tree: &Tree) -> Result<Expression, Faults> {
    Expression::parse(tree.text()?).map_err(|why| tree.fault(why))
}

fn when_of(tree: &Tree) -> Result<When, Faults> {
    match tree.keys(["if", "layers_below", "layers_from"])? {
        [Some(rule), None, None] => expression(rule).map(When::If),
        [None, Some(rule), None] => expression(rule).map(When::LayersBelow),
        [None, None, Some(rule)] => expression(rule).map(When::LayersFrom),
        _ => Err(tree.fault("`when` is one of `if`, `layers_below` and `layers_from`")),
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
