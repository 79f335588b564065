//! The parameters that have names of their own: how each is split, and which of them every layer has.

use super::schemes::{PLAIN, schemes};
use crate::model::pattern::Pattern;
use crate::model::scheme::{Row, Scheme};
use crate::model::{Companion, Family, Mesh, Of, Param, Role as Purpose};

/// How tensor parallelism splits a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Split {
    /// Every rank holds it whole.
    Whole,
    /// Axis 0, over all ranks.
    Rows,
    /// Axis 1, over all ranks.
    Columns,
    /// Axis 0 where the model splits its vocabulary and the ranks divide it, else whole.
    Vocabulary,
}

/// A parameter that has a name of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain {
    pub param: &'static Param,
    pub split: Split,
}

impl Plain {
    pub(super) fn new(family: &'static Family, param: u16) -> Self {
        let param = &family.params()[usize::from(param)];
        let split = match param.role {
            Purpose::Embedding | Purpose::Head if !param.cut.is_empty() => Split::Vocabulary,
            _ => Split::on(cut_dim(param)),
        };
        Self { param, split }
    }

    pub(super) fn is_linear(&self) -> bool {
        self.param.role == Purpose::Linear
    }

    /// How a companion of it is split: what belongs to a row goes with the rows, what belongs to a column with the columns.
    pub(super) fn split_of(&self, companion: &Companion) -> Split {
        let cut = |of: &Of| match of {
            Of::Out | Of::OutBlocks => self.split == Split::Rows,
            Of::In | Of::InPairs | Of::InGroups | Of::InBlocks => self.split == Split::Columns,
            Of::LoraRank => false,
        };
        Split::on(companion.dims.iter().position(cut))
    }
}

impl Split {
    fn on(dim: Option<usize>) -> Self {
        match dim {
            None => Self::Whole,
            Some(0) => Self::Rows,
            Some(_) => Self::Columns,
        }
    }
}

/// The dimension that tensor parallelism cuts.
fn cut_dim(param: &Param) -> Option<usize> {
    let cut = param.cut.iter().find(|cut| cut.mesh == Mesh::Tensor)?;
    param.dims.iter().position(|dim| dim.contains(&cut.axis))
}

/// Those rows of layers that the usual families have, and biases of families that have all of these; cell by cell, in each the layers that are cut by rows before those
/// that are cut by columns.
pub(super) fn in_every_layer(families: &[&'static Family], bias: bool) -> Vec<&'static Pattern> {
    let has = |scheme: &Scheme, row: &Row| scheme.rows.iter().any(|r| r.pattern == row.pattern);
    let needed = |family: &Family, row: &Row| row.params().all(|at| !family.params()[usize::from(at)].optional);
    let usual: Vec<_> = schemes(families, PLAIN).filter(|(family, _)| family.usual).collect();
    let is_alike = |scheme: &Scheme| {
        usual.iter().all(|(family, usual)| usual.rows.iter().all(|row| !needed(family, row) || has(scheme, row)))
    };
    let all: Vec<_> = schemes(families, PLAIN).filter(|(_, scheme)| is_alike(scheme)).collect();
    let mut found: Vec<(&'static Pattern, Plain)> = Vec::new();
    for &(family, scheme) in &all {
        for row in &scheme.rows {
            let (Some(param), Some(_)) = (row.params().next(), row.pattern.in_layer()) else { continue };
            let plain = Plain::new(family, param);
            let is_bias = plain.param.role == Purpose::Bias;
            let is_usual = || usual.iter().all(|(_, other)| has(other, row));
            let wanted = !plain.param.optional && if is_bias { bias } else { is_usual() };
            if wanted && found.iter().all(|(pattern, _)| **pattern != row.pattern) {
                found.push((&row.pattern, plain));
            }
        }
    }
    let cell = |pattern: &Pattern| pattern.in_layer().and_then(|name| name.split('.').next()).map(str::to_owned);
    let mut cells: Vec<Option<String>> = found.iter().map(|(pattern, _)| cell(pattern)).collect();
    let mut seen = std::collections::HashSet::new();
    cells.retain(|cell| seen.insert(cell.clone()));
    let place = |pattern: &Pattern| cells.iter().position(|known| *known == cell(pattern));
    found.sort_by_key(|(pattern, plain)| (place(pattern), plain.split, !plain.is_linear()));
    found.into_iter().map(|(pattern, _)| pattern).collect()
}
