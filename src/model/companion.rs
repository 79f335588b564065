//! What goes with a linear layer: quantised forms of its weight, scales, zero points, adapters. Their axes are those of the
//! layer's weight, whatever the family, so that they need no rows of their own.

use std::sync::OnceLock;

use serde::Deserialize;

use super::error::FamilyFileError;
use super::in_order::InOrder;
use super::quantity::Quantity;
use super::texts::companions_text;

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
    /// Blocks of rows; the last may be smaller.
    OutBlocks,
    /// Blocks of columns; the last may be smaller.
    InBlocks,
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
    /// Its dimensions. The rows are only ever the first.
    pub dims: Vec<Of>,
}

/// Sizes that are a checkpoint's, not a model's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnSizes {
    /// Columns that share a scale.
    pub group: u64,
    /// Rows and columns of a block that shares a scale.
    pub block: (u64, u64),
    /// The rank of adapters.
    pub lora_rank: u64,
}

impl OwnSizes {
    /// Those of a checkpoint in which nothing is in groups or blocks.
    pub const NONE: Self = Self { group: 1, block: (1, 1), lora_rank: 1 };
}

impl Of {
    /// Whether it is of the rows of the layer's weight.
    pub const fn is_rows(self) -> bool {
        matches!(self, Self::Out | Self::OutBlocks)
    }
}

impl Companion {
    /// Whether it belongs to the input alone: then one for several layers with the same input serves each of them.
    pub fn is_of_input(&self) -> bool {
        !self.dims.iter().any(|of| of.is_rows())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_a_table() {
        assert_eq!(read(companions_text()).unwrap().len(), companions().len());
        assert!(companions().len() > 20);
        assert!(companions().iter().all(|companion| companion.dims[1..].iter().all(|of| !of.is_rows())));
    }
}
