//! The cells of the networks that keep keys and values, for one card and for several, as the families' tables name them.

use super::schemes::{PLAIN, schemes};
use crate::model::pattern::Pattern;
use crate::model::scheme::{Row, Scheme};
use crate::model::{Family, Role};

/// The names of the cell in a decoder layer, and of what it holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cells {
    /// In the network for several cards.
    pub several: String,
    /// In that for one.
    pub alone: String,
    /// What it holds, with the parameters' names in the families' files: for several cards, and for one.
    pub entries: [Vec<(&'static Pattern, &'static str)>; 2],
}

/// The cells of the families, each once.
pub(super) fn cells(families: &[&'static Family]) -> Vec<Cells> {
    let mut found: Vec<Cells> = Vec::new();
    for (family, scheme) in schemes(families, PLAIN) {
        let Some(cells) = cells_of(family, scheme) else { continue };
        if !found.contains(&cells) {
            found.push(cells);
        }
    }
    found
}

fn cells_of(family: &'static Family, scheme: &'static Scheme) -> Option<Cells> {
    let param = |row: &Row| row.params().next().map(|param| &family.params()[usize::from(param)]);
    let (mut several, mut alone): (Vec<(&Pattern, &str)>, Vec<_>) = (Vec::new(), Vec::new());
    for row in &scheme.rows {
        let Some(param) = param(row).filter(|param| param.role == Role::Cache) else { continue };
        // Each parameter has two names: the first is that for several cards.
        let second = several.iter().any(|(_, id)| *id == param.id);
        if second { &mut alone } else { &mut several }.push((&row.pattern, param.id.as_str()));
    }
    let names =
        |of: &[(&'static Pattern, _)]| of.iter().map(|(pattern, _)| pattern.in_layer()).collect::<Option<Vec<_>>>();
    let (first, second) = (common_cell(&names(&several)?)?, common_cell(&names(&alone)?)?);
    Some(Cells { several: first, alone: second, entries: [several, alone] })
}

/// The longest cell that all names begin with.
fn common_cell(names: &[&str]) -> Option<String> {
    let mut cell = names.first()?.rsplit_once('.')?.0;
    while !names.iter().all(|name| name.strip_prefix(cell).is_some_and(|rest| rest.starts_with('.'))) {
        cell = cell.rsplit_once('.')?.0;
    }
    Some(cell.to_owned())
}
