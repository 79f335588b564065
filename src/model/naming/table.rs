//! All rows of MindSpore's dialects, each name once.

use std::sync::OnceLock;

use super::cells::{Cells, cells};
use super::fused_layers::{FusedLayer, fused_layers};
use super::plain::{Plain, in_every_layer};
use super::schemes::{PLAIN, is_linear, schemes};
use crate::model::FusionLayout;
use crate::model::companion::Companion;
use crate::model::family::Family;
use crate::model::index::Key;
use crate::model::lookup::{Hit, Patterns};
use crate::model::pattern::{Captures, Pattern};
use crate::model::registry::families;
use crate::model::scheme::Row;

/// A name, and what it is in the dialects.
#[derive(Debug)]
pub(super) struct Known {
    pub pattern: &'static Pattern,
    /// The parameter, in the dialect where each has a name of its own.
    pub plain: Option<Plain>,
    /// Whether it is several parameters in one, in a dialect with fused parameters.
    pub fused: bool,
}

/// What a name is.
pub(super) struct Found {
    pub known: &'static Known,
    pub captures: Captures,
    /// The companion of its layer, where it is not the parameter itself.
    pub companion: Option<&'static Companion>,
}

#[derive(Debug)]
pub(super) struct Table {
    known: Vec<Known>,
    patterns: Patterns,
    pub fused: Vec<FusedLayer>,
    pub cells: Vec<Cells>,
    /// Parameters of every layer of the usual models: without biases, and with them.
    pub in_every_layer: [Vec<&'static Pattern>; 2],
}

/// The table of all families that are known.
pub(super) fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| Table::new(families()))
}

impl Table {
    fn new(families: &[&'static Family]) -> Self {
        let mut known: Vec<Known> = Vec::new();
        let mut add = |family: &'static Family, row: &'static Row, plain: bool| {
            let at = known.iter().position(|known| *known.pattern == row.pattern).unwrap_or_else(|| {
                known.push(Known { pattern: &row.pattern, plain: None, fused: false });
                known.len() - 1
            });
            let params: Vec<u16> = row.params().collect();
            match params[..] {
                [one] if plain => {
                    known[at].plain.get_or_insert_with(|| Plain::new(family, one));
                }
                [_] => {}
                _ => known[at].fused |= !plain && is_linear(family, row),
            }
        };
        for name in [PLAIN].into_iter().chain(FusionLayout::ALL.map(FusionLayout::scheme)) {
            for (family, scheme) in schemes(families, name) {
                scheme.rows.iter().for_each(|row| add(family, row, name == PLAIN));
            }
        }
        Self {
            patterns: Patterns::new(known.iter().map(|known| known.pattern)),
            fused: fused_layers(families),
            cells: cells(families),
            in_every_layer: [false, true].map(|bias| in_every_layer(families, bias)),
            known,
        }
    }

    /// The names of a parameter, by its name in the families' files, in the dialect where each has one of its own.
    pub(super) fn param(&'static self, id: &str) -> Option<&'static Pattern> {
        let of = |known: &&Known| known.plain.is_some_and(|plain| plain.param.id == id);
        self.known.iter().find(of).map(|known| known.pattern)
    }

    /// What a name is; `None` for one that no family has.
    pub(super) fn find(&'static self, name: &str) -> Option<Found> {
        let key = Key::of(name);
        if let Some(hit) = self.patterns.hits(key, name).next() {
            return Some(Found { known: &self.known[hit.row], captures: hit.captures, companion: None });
        }
        let of = |(hit, companion): (Hit, _)| {
            Some(Found { known: &self.known[hit.row], captures: hit.captures, companion: Some(companion) })
        };
        let linear = |found: &Found| found.known.fused || found.known.plain.is_some_and(|plain| plain.is_linear());
        let hits = self.patterns.companion_hits(key, name).filter(|(_, companion)| companion.quantity.is_converted());
        hits.filter_map(of).find(linear)
    }
}
