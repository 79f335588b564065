//! The parameters of a decoder layer that the program computes with, not only moves.

use super::fused::fused;
use super::role::role;
use super::table::table;
use crate::model::pattern::{Captures, Pattern};

/// A weight of a decoder layer with attention and a gated feed-forward network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerParam {
    /// The norm before the attention.
    AttentionNorm,
    /// The projections of the attention.
    Query,
    /// Its keys.
    Key,
    /// Its values.
    Value,
    /// What comes out of it.
    Output,
    /// The norm before the feed-forward network.
    FfnNorm,
    /// The gate.
    Gate,
    /// What is gated.
    Up,
    /// What comes out of it.
    Down,
}

impl LayerParam {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::AttentionNorm,
        Self::Query,
        Self::Key,
        Self::Value,
        Self::Output,
        Self::FfnNorm,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// The parameter in the families' files.
    pub const fn id(self) -> &'static str {
        match self {
            Self::AttentionNorm => "attention_norm",
            Self::Query => "q",
            Self::Key => "k",
            Self::Value => "v",
            Self::Output => "o",
            Self::FfnNorm => "ffn_norm",
            Self::Gate => "gate",
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    /// The layer, and which weight of it an unfused and unquantised name is.
    pub fn of(name: &str) -> Option<(u32, Self)> {
        let role = role(name).filter(|role| role.companion.is_none())?;
        let which = Self::ALL.into_iter().find(|which| which.id() == role.param.id)?;
        Some((role.layer?, which))
    }

    /// What makes its input: a norm, or a projection, row by row.
    pub const fn input(self) -> Option<Self> {
        match self {
            Self::Query | Self::Key | Self::Value => Some(Self::AttentionNorm),
            Self::Output => Some(Self::Value),
            Self::Gate | Self::Up => Some(Self::FfnNorm),
            Self::Down => Some(Self::Up),
            Self::AttentionNorm | Self::FfnNorm => None,
        }
    }

    // A test shows that each has one.
    fn pattern(self) -> Option<&'static Pattern> {
        table().param(self.id())
    }

    /// Its name in the layer, unfused.
    pub fn in_layer(self) -> &'static str {
        self.pattern().and_then(Pattern::in_layer).unwrap_or_default()
    }

    /// Its name, unfused.
    pub fn name(self, layer: u32) -> String {
        let captures = Captures { layer: Some(layer), expert: None };
        self.pattern().and_then(|pattern| pattern.name(captures)).unwrap_or_default()
    }

    /// The name of its bias, unfused.
    pub fn bias(self, layer: u32) -> String {
        self.name(layer).trim_end_matches("weight").to_owned() + "bias"
    }

    /// The linear layer with the rows of all weights that are fused with it, or by itself, where none are.
    pub fn fused_layer(self, layer: u32) -> String {
        let weight = self.name(layer);
        let whole = fused(&weight).map_or(weight, |fused| fused.name);
        whole.strip_suffix(".weight").map(str::to_owned).unwrap_or(whole)
    }

    /// The cell that its linear layer is in.
    pub fn cell(self, layer: u32) -> String {
        let name = self.name(layer);
        let mut parts = name.rsplitn(3, '.');
        parts.nth(2).unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_in_the_tables() {
        for which in LayerParam::ALL {
            assert_eq!(LayerParam::of(&which.name(12)), Some((12, which)));
            assert_eq!(which.name(12), format!("model.layers.12.{}", which.in_layer()));
        }
        assert_eq!(LayerParam::Key.bias(3), "model.layers.3.attention.wk.bias");
        assert_eq!(LayerParam::Key.fused_layer(3), "model.layers.3.attention.w_qkv");
        assert_eq!(LayerParam::Output.fused_layer(3), "model.layers.3.attention.wo");
        assert_eq!(LayerParam::Value.cell(3), "model.layers.3.attention");
        assert_eq!(LayerParam::of("model.layers.3.attention.wo._layer.weight"), None);
        assert_eq!(LayerParam::of("model.layers.3.attention.wq.bias"), None);
    }
}
