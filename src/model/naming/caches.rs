//! The cell that keeps keys and values: its names in the networks for one card and for several.

use super::table::table;
use crate::model::pattern::Captures;

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
