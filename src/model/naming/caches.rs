//! The cell that keeps keys and values: its names in the networks for one card and for several.

use super::table::{PLAIN, schemes, table};
use crate::model::family::{Row, Scheme};
use crate::model::{Family, Role};

/// The names of the cell in a decoder layer, and of what it holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cells {
    /// In the network for several cards.
    several: String,
    /// In that for one.
    alone: String,
    /// The names in the cell.
    entries: Vec<String>,
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

fn cells_of(family: &Family, scheme: &Scheme) -> Option<Cells> {
    let is_cache = |row: &&Row| row.params().all(|param| family.params()[usize::from(param)].role == Role::Cache);
    let rows: Vec<&Row> = scheme.rows.iter().filter(is_cache).collect();
    let name = |row: &Row| row.pattern.in_layer().map(str::to_owned);
    // Each parameter has two names: the first is that for several cards.
    let is_first = |at: usize| rows[..at].iter().all(|row| !row.params().eq(rows[at].params()));
    let (first, second): (Vec<usize>, Vec<usize>) = (0..rows.len()).partition(|&at| is_first(at));
    let names = |of: &[usize]| of.iter().map(|&at| name(rows[at])).collect::<Option<Vec<String>>>();
    let (first, second) = (names(&first)?, names(&second)?);
    let (several, alone) = (common_cell(&first)?, common_cell(&second)?);
    let entries = first.iter().map(|name| name[several.len() + 1..].to_owned()).collect();
    Some(Cells { several, alone, entries })
}

/// The longest cell that all names begin with.
fn common_cell(names: &[String]) -> Option<String> {
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

/// The names in a decoder layer of what keys and values need, in the network for one card or for several, and in the cell.
pub fn kv_names(alone: bool) -> impl Iterator<Item = (String, &'static str)> {
    table().cells.iter().take(1).flat_map(move |cells| {
        let cell = if alone { &cells.alone } else { &cells.several };
        cells.entries.iter().map(move |entry| (format!("{cell}.{entry}"), entry.as_str()))
    })
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
        assert_eq!(
            kv_names(false).next().unwrap(),
            ("attention.paged_attention_mgr.key_t_scale".to_owned(), "key_t_scale")
        );
        assert_eq!(kv_names(true).count(), 10);
    }
}
