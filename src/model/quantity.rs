//! What a companion of a linear layer is, and whose names companions have.

use serde::Deserialize;

/// Which generation of golden-stick the names of a quantised layer are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum QuantNames {
    /// 0.6.0, which mindformers 1.3 goes with.
    #[default]
    Gs06,
    /// 1.0 and later.
    Gs1x,
    /// Round-to-nearest (0.5 and `rtn-a16w8`).
    Rtn,
    /// This program's own: int4, and scales of groups. No network of golden-stick's knows these names, so none takes them for
    /// its own.
    Extension,
}

impl QuantNames {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Gs06, Self::Gs1x, Self::Rtn, Self::Extension];

    /// The name in the table of companions.
    pub const fn generation(self) -> &'static str {
        match self {
            Self::Gs06 => "gs-0.6",
            Self::Gs1x => "gs-1.x",
            Self::Rtn => "rtn",
            Self::Extension => "extension",
        }
    }
}

/// How many neighbouring columns of a row may share a scale.
pub const GROUP_SIZES: [u64; 2] = [64, 128];

/// What a companion of a linear layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// The int8 weight.
    Weight,
    /// The int4 weight, two columns a byte.
    PackedWeight,
    /// The bias, with the zero point's share where activations are quantised.
    Bias,
    /// One scale for each row.
    Scale,
    /// One scale for each group of columns of each row.
    GroupScale,
    /// One scale for each block of rows and columns, by which a weight of 8-bit floating-point numbers is multiplied.
    BlockScale,
    /// The negated zero point of each row.
    ZeroPoint,
    /// The product of weight and input scale of each row, an fp32 in the low half of an int64.
    DequantScale,
    /// The input's scale, one for each column.
    InputScale,
    /// The input's zero point, one for each column.
    InputZeroPoint,
    /// A second copy of the input's scale, which no network loads.
    InputScaleCopy,
    /// A second copy of the input's zero point, which no network loads.
    InputZeroPointCopy,
    /// The factor `A` of an adapter.
    LoraA,
    /// The factor `B` of an adapter.
    LoraB,
}

/// Which factor of `W + (alpha / r) B A` an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoraFactor {
    /// `[r, in]`.
    A,
    /// `[out, r]`.
    B,
}

impl Quantity {
    /// The factor of an adapter; `None`: it belongs to a quantised layer.
    pub const fn factor(self) -> Option<LoraFactor> {
        match self {
            Self::LoraA => Some(LoraFactor::A),
            Self::LoraB => Some(LoraFactor::B),
            _ => None,
        }
    }

    /// Whether it is the layer's weight.
    pub const fn is_weight(self) -> bool {
        matches!(self, Self::Weight | Self::PackedWeight)
    }

    /// Whether conversions read and write it. What belongs to 8-bit floating-point numbers has its place in the tables, but is
    /// refused: no conversion makes numbers of it yet.
    pub const fn is_converted(self) -> bool {
        !matches!(self, Self::BlockScale)
    }

    /// Whether it is a second copy of what belongs to the input. No network loads it, and a tool that did not know it may have
    /// left it uncut, so it is never read: it is made anew from the first copy.
    pub const fn is_copy(self) -> bool {
        matches!(self, Self::InputScaleCopy | Self::InputZeroPointCopy)
    }

    /// The second copy of it, where there is one.
    pub const fn copy(self) -> Option<Self> {
        match self {
            Self::InputScale => Some(Self::InputScaleCopy),
            Self::InputZeroPoint => Some(Self::InputZeroPointCopy),
            _ => None,
        }
    }
}
