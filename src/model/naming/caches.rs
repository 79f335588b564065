//! The cell that keeps keys and values: its names in the networks for one card and for several.

use super::table::{PLAIN, schemes, table};
use crate::model::family::{Row, Scheme};
use crate::model::pattern::{Captures, Pattern};
use crate::model::{Family, Role};

/// The names of the cell in a decoder layer, and of what it holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cells {
    /// In the network for several cards.
    several: String,
    /// In that for one.
    alone: String,
    /// What it holds, with the parameters' names in the families' files: for several cards, and for one.
    entries: [Vec<(&'static Pattern, &'static str)>; 2],
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

/// The name that an entry of the caches' cell has in the network for one card, or for several. Other names stay.
pub fn cache_name(name: &str, alone: bool) -> String {
    for cells in &table().cells {
        let (from, to) = if alone { (&cells.several, &cells.alone) } else { (&cells.alone, &cells.several) };
        let (from, to) = (format!(".{from}."), format!(".{to}."));
        if name.contains(&from) {
            return name.replacen(&from, &to, 1);
        }
    }
    name.to_owned()
}

/// The names of what keys and values of a layer need, in the network for one card or for several, and the parameters' names in
/// the families' files.
pub fn cache_names(layer: u32, alone: bool) -> impl Iterator<Item = (String, &'static str)> {
    let captures = Captures { layer: Some(layer), expert: None };
    let entries = table().cells.iter().take(1).flat_map(move |cells| &cells.entries[usize::from(alone)]);
    entries.filter_map(move |(pattern, id)| Some((pattern.name(captures)?, *id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cell_for_one_card_has_another_name() {
        let several = "model.layers.3.attention.paged_attention_mgr.key_t_scale";
        let alone = "model.layers.3.attention.infer_attention.paged_attention_mgr.key_t_scale";
        assert_eq!((cache_name(several, true), cache_name(alone, false)), (alone.to_owned(), several.to_owned()));
        for stays in [alone, "model.layers.3.attention.wq.weight"] {
            assert_eq!(cache_name(stays, true), stays);
        }
        assert_eq!(cache_names(3, false).next().unwrap(), (several.to_owned(), "key_scale"));
        assert_eq!(cache_names(3, true).next().unwrap(), (alone.to_owned(), "key_scale"));
        assert_eq!(cache_names(3, true).count(), 10);
    }
}
