//! What goes with a linear layer: quantised forms of its weight, scales, zero points, adapters. Their axes are those of the
//! layer's weight, whatever the family, so that they need no rows of their own.

use std::sync::OnceLock;

use serde::Deserialize;

use super::error::{FamilyFileError, ModelError};
use super::family::{Family, Row, Scheme, companions_text};
use super::in_order::InOrder;
use super::pack::{PartSlots, Share, Slot, StoredTensor};
use super::param::{Axis, Dims, Role, Sizes};
use super::pattern::Captures;
use super::quantity::Quantity;

/// A dimension of a companion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub enum Of {
    /// The rows of the layer's weight.
    Out,
    /// Its columns.
    In,
    /// Pairs of columns.
    #[serde(rename = "In/2")]
    InPairs,
    /// Groups of columns.
    InGroups,
    /// The rank of an adapter.
    LoraRank,
}

/// A parameter that goes with a linear layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Companion {
    /// Whose names these are: `gs-0.6`, `lora`.
    pub generation: String,
    /// The name after that of the layer.
    pub tail: String,
    /// What it is.
    pub quantity: Quantity,
    /// Its dimensions.
    pub dims: Vec<Of>,
}

/// Sizes that are a checkpoint's, not a model's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnSizes {
    /// Columns that share a scale.
    pub group: u64,
    /// The rank of adapters.
    pub lora_rank: u64,
}

impl Companion {
    /// Whether it belongs to the input alone: then one for several layers with the same input serves each of them.
    pub fn is_of_input(&self) -> bool {
        !self.dims.contains(&Of::Out)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompanionText {
    is: Quantity,
    dims: Vec<Of>,
    #[serde(default = "no_more")]
    ends: Vec<String>,
}

fn no_more() -> Vec<String> {
    vec![String::new()]
}

fn read(text: &str) -> Result<Vec<Companion>, FamilyFileError> {
    let generations: InOrder<InOrder<CompanionText>> = serde_yaml::from_str(text)
        .map_err(|e| FamilyFileError::Unreadable { file: "companions".to_owned(), why: e.to_string() })?;
    let mut read = Vec::new();
    for (generation, tails) in generations.0 {
        for (tail, CompanionText { is, dims, ends }) in tails.0 {
            read.extend(ends.iter().map(|end| Companion {
                generation: generation.clone(),
                tail: format!("{tail}{end}"),
                quantity: is,
                dims: dims.clone(),
            }));
        }
    }
    Ok(read)
}

/// All that are known.
pub fn companions() -> &'static [Companion] {
    static ALL: OnceLock<Vec<Companion>> = OnceLock::new();
    // A test reads the file and shows what is wrong with it.
    ALL.get_or_init(|| read(companions_text()).unwrap_or_default())
}

impl Scheme {
    /// The layer's row, the captures and the companion that a name is of; several where generations share the name.
    pub fn companions<'a>(
        &'a self,
        family: &Family,
        name: &str,
    ) -> Option<(&'a Row, Captures, Vec<&'static Companion>)> {
        let is_linear = |param: u16| family.params()[usize::from(param)].role == Role::Linear;
        let mut found: Option<(&Row, Captures, Vec<&'static Companion>)> = None;
        for (row, captures, companion) in self.companions_by_index(name) {
            match &mut found {
                Some((known, _, all)) if std::ptr::eq(*known, row) => all.push(companion),
                Some(_) => {}
                None if row.params().all(is_linear) => found = Some((row, captures, vec![companion])),
                None => {}
            }
        }
        found
    }
}

impl Family {
    /// What a rank's file holds of a companion of this row's layer. Where it belongs to the input of several layers, all of
    /// them are parts, each of which is the whole tensor.
    ///
    /// # Errors
    /// Ranks that do not divide an axis or leave no whole blocks; dimensions beyond 64 bits.
    pub fn stored_companion(
        &self,
        row: &Row,
        at: Captures,
        companion: &Companion,
        own: OwnSizes,
        sizes: &Sizes,
        share: Share,
    ) -> Result<StoredTensor, ModelError> {
        let slots = |part: &super::pack::PackPart| {
            let param = &self.params()[usize::from(part.param)];
            let stored = part.dims.as_ref().unwrap_or(&param.dims);
            let of = |dims: &Dims| {
                companion.dims.iter().map(|&of| dimension(of, dims, &param.dims, own)).collect::<Vec<_>>()
            };
            PartSlots { param: part.param, stored: of(stored), canonical: of(&param.dims).concat() }
        };
        let parts: Vec<PartSlots> = row.pack.parts.iter().map(slots).collect();
        if !companion.is_of_input() {
            return self.join(row, at, &parts, row.pack.outer.len(), sizes, share);
        }
        let mut tensors = parts.iter().map(|part| self.join(row, at, std::slice::from_ref(part), 0, sizes, share));
        let mut first = tensors.next().transpose()?.unwrap_or(StoredTensor { dims: Vec::new(), parts: Vec::new() });
        for other in tensors {
            first.parts.extend(other?.parts);
        }
        Ok(first)
    }
}

/// The axes of a dimension, in the order of `dims`; the columns are the last canonical dimension.
fn dimension(of: Of, dims: &Dims, canonical: &Dims, own: OwnSizes) -> Vec<Slot> {
    let columns = canonical.last().map_or(&[][..], |columns| &columns[..]);
    let of_columns = |wanted: bool| -> Vec<Axis> {
        dims.iter().flatten().copied().filter(|axis| columns.contains(axis) == wanted).collect()
    };
    match of {
        Of::Out => of_columns(false).into_iter().map(Slot::Axis).collect(),
        Of::In => of_columns(true).into_iter().map(Slot::Axis).collect(),
        Of::InPairs => vec![Slot::Blocks(of_columns(true), 2)],
        Of::InGroups => vec![Slot::Blocks(of_columns(true), own.group)],
        Of::LoraRank => vec![Slot::Own(own.lora_rank)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_a_table() {
        assert_eq!(read(companions_text()).unwrap().len(), companions().len());
        assert!(companions().len() > 20);
    }
}
