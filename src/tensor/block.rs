//! Types whose elements are quantised block by block, as ggml has them.

/// A type of ggml's whose elements are stored in blocks of a fixed number of bytes, each with the scale of its elements. A row is
/// whole blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockType {
    /// 4 bits an element, symmetric: `d * (q - 8)`.
    Q4_0,
    /// 4 bits an element with a minimum: `d * q + m`.
    Q4_1,
    /// 5 bits an element, symmetric: `d * (q - 16)`.
    Q5_0,
    /// 5 bits an element with a minimum: `d * q + m`.
    Q5_1,
    /// 8 bits an element, symmetric: `d * q`.
    Q8_0,
    /// 4 bits an element in 8 groups of 32, each with a scale and a minimum of 6 bits.
    Q4K,
    /// 5 bits an element in 8 groups of 32, each with a scale and a minimum of 6 bits.
    Q5K,
    /// 6 bits an element in 16 groups of 16, each with a scale of 8 bits.
    Q6K,
}

impl BlockType {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Q4_0, Self::Q4_1, Self::Q5_0, Self::Q5_1, Self::Q8_0, Self::Q4K, Self::Q5K, Self::Q6K];

    /// The most elements of a block.
    pub const MOST: usize = 256;

    /// Elements of a block.
    pub const fn elements(self) -> u64 {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Q4_0 => 2 + 16,
            Self::Q4_1 => 2 + 2 + 16,
            Self::Q5_0 => 2 + 4 + 16,
            Self::Q5_1 => 2 + 2 + 4 + 16,
            Self::Q8_0 => 2 + 32,
            Self::Q4K => 2 + 2 + 12 + 128,
            Self::Q5K => 2 + 2 + 12 + 32 + 128,
            Self::Q6K => 128 + 64 + 16 + 2,
        }
    }

    /// ggml's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }
}
