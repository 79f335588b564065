//! The schemes of a family file, row by row.

use super::tree::{Entry, Fault, Faults, Tree};
use super::{FamilyFileError, Reader, Rows, sorted};
use crate::model::pattern::Pattern;
use crate::model::row_check;
use crate::model::scheme::{Pack, PackPart, Row, Scheme};

/// What a row is made of.
const FORMS: &str = "it is neither a parameter, nor {is, dims}, nor {join, outer, dim}";

impl Reader<'_> {
    pub(super) fn fragments(&mut self, tree: Option<&Tree>) {
        for entry in self.entries("fragments", tree) {
            let mut rows = Vec::new();
            self.rows(&format!("fragments {}", entry.key), &entry.value, &mut rows);
            self.family.fragments.retain(|fragment| fragment.name != entry.key);
            self.family.fragments.push(Scheme::new(entry.key.clone(), rows));
        }
    }

    /// A scheme replaces the one of its name; what it extends are fragments, or schemes of the family that this one extends.
    pub(super) fn schemes(&mut self, tree: Option<&Tree>) {
        let inherited = self.family.schemes.clone();
        let mut own: Vec<&str> = Vec::new();
        for Entry { key: name, value, .. } in self.entries("schemes", tree) {
            let place = format!("schemes {name}");
            let Some([extends, names]) = self.noted(&place, value.keys(["extends", "names"])) else { continue };
            let mut rows: Vec<Row> = Vec::new();
            for base in extends.and_then(|bases| self.noted(&place, bases.list())).into_iter().flatten() {
                let base_name = base.scalar().unwrap_or_default();
                let known = self.family.fragments.iter().chain(&inherited).find(|scheme| scheme.name == base_name);
                if let Some(known) = known {
                    known.rows.iter().for_each(|row| put(&mut rows, row.clone()));
                } else {
                    let why = format!("`{base_name}` is neither a fragment nor an inherited scheme");
                    self.note(&place, base.fault(why));
                }
            }
            if let Some(names) = names {
                self.rows(&place, names, &mut rows);
            }
            self.family.schemes.retain(|scheme| scheme.name != *name);
            self.family.schemes.push(Scheme::new(name.clone(), rows));
            own.push(name);
        }
        // One that was complete and has no name for what this family has beside is none of its models.
        let (family, was_complete) = (&self.family, &self.complete);
        let kept = |scheme: &Scheme| {
            own.contains(&scheme.name.as_str()) || !was_complete.contains(&scheme.name) || family.is_complete(scheme)
        };
        let kept: Vec<Scheme> = family.schemes.iter().filter(|scheme| kept(scheme)).cloned().collect();
        self.family.schemes = kept;
    }

    /// An inherited scheme that has no name for a parameter which the family has beside its base's is not one of the family.
    pub(super) fn leave_out_schemes_of_bases(&mut self, own: Option<&Tree>) {
        let own: Vec<&Entry> = own.and_then(|tree| tree.entries().ok()).map_or_else(Vec::new, sorted);
        let complete: Vec<bool> = self.family.schemes.iter().map(|scheme| self.family.is_complete(scheme)).collect();
        let mut complete = complete.into_iter();
        self.family.schemes.retain(|scheme| {
            let is_complete = complete.next().unwrap_or(true);
            is_complete || own.iter().any(|entry| entry.key == scheme.name)
        });
    }

    /// Beginnings of names, and for each the ends, in the order of the file.
    fn rows(&mut self, place: &str, tree: &Tree, rows: &mut Vec<Row>) {
        let Some(beginnings) = self.noted(place, tree.entries()) else { return };
        for beginning in beginnings {
            let Some(ends) = self.noted(place, beginning.value.entries()) else { continue };
            for end in ends {
                let name = format!("{}{}", beginning.key, end.key);
                let row = self.row(&name, end);
                // What an inherited row that is wrong now may have been given its parameters by is not known: this is.
                let row = row.and_then(|row| match self.check_row(&row) {
                    Ok(()) => Ok(row),
                    Err(why) => Err(vec![Fault { line: end.line, why }]),
                });
                if let Some(row) = self.noted(&format!("{place} {name}"), row) {
                    put(rows, row);
                }
            }
        }
    }

    fn row(&mut self, name: &str, end: &Entry) -> Result<Row, Faults> {
        let pattern = Pattern::parse(name).map_err(|why| vec![Fault { line: end.line, why }])?;
        Ok(Row { pattern, pack: self.pack(&end.value)? })
    }

    fn pack(&mut self, tree: &Tree) -> Result<Pack, Faults> {
        let joins =
            tree.scalar().is_none() && tree.entries().is_ok_and(|entries| entries.iter().any(|e| e.key == "join"));
        if !joins {
            return Ok(Pack { outer: Vec::new(), dim: 0, parts: vec![self.part(tree)?] });
        }
        let [join, outer, dim] = tree.keys(["join", "outer", "dim"])?;
        let parts = join.map_or(Ok(&[][..]), Tree::list)?;
        let parts = parts.iter().map(|part| self.part(part)).collect::<Result<Vec<_>, _>>()?;
        let outer = outer.map_or(Ok(&[][..]), Tree::list)?;
        let outer = outer.iter().map(|axis| self.axis(axis)).collect::<Result<_, _>>()?;
        let number = |tree: &Tree| {
            tree.scalar()
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| tree.fault("it is not the number of a dimension"))
        };
        Ok(Pack { outer, dim: dim.map_or(Ok(0), number)?, parts })
    }

    fn part(&mut self, tree: &Tree) -> Result<PackPart, Faults> {
        let (id, dims) = if tree.scalar().is_some() {
            (tree, None)
        } else {
            let [id, dims] = tree.keys(["is", "dims"]).map_err(|_| tree.fault(FORMS))?;
            let (Some(id), Some(dims)) = (id, dims) else { return Err(tree.fault(FORMS)) };
            (id, Some(self.dims(dims)?))
        };
        let name = id.text()?;
        if self.broken.contains(name) {
            return Err(Faults::new());
        }
        let param = self.family.param(name).ok_or_else(|| id.fault(format!("`{name}` is not a parameter")))?;
        Ok(PackPart { param, dims })
    }

    fn check_row(&self, row: &Row) -> Result<(), String> {
        if self.rows == Rows::Trusted { Ok(()) } else { row_check::check(&self.family, row) }
    }

    /// Rows that this file inherits too: it may have given a parameter other axes.
    pub(super) fn check_rows(&mut self) {
        let kinds = [("fragments", &self.family.fragments), ("schemes", &self.family.schemes)];
        let rows = kinds.into_iter().flat_map(|(kind, schemes)| schemes.iter().map(move |scheme| (kind, scheme)));
        let of = |(kind, scheme): (&str, &Scheme)| {
            let broken = scheme.rows.iter().find_map(|row| Some((row, self.check_row(row).err()?)));
            broken.map(|(row, why)| FamilyFileError::Inherited {
                file: self.file.to_owned(),
                place: format!("{kind} {} {}", scheme.name, row.pattern),
                why,
            })
        };
        let faults: Vec<FamilyFileError> = rows.filter_map(of).collect();
        self.faults.extend(faults);
    }
}

/// A row of the same names replaces another.
fn put(rows: &mut Vec<Row>, row: Row) {
    rows.retain(|known| known.pattern != row.pattern);
    rows.push(row);
}
