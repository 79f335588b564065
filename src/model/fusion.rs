//! The two orders in which the rows of mindformers' fused parameters may be.

use std::fmt;

/// In which order the rows of a fused parameter are. Files do not state it: both have the same names and shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum FusionLayout {
    /// mindformers up to 1.3: each rank's own `[q; k; v]` and `[gate; up]`, one part after the other.
    /// Cutting or joining such tensors on axis 0 is wrong; they are taken apart and put together again.
    #[default]
    RankConcat,
    /// mindformers from 1.4 on: for each kv head its q heads, then its k, then its v; gate and up row by row in turn.
    Grouped,
}

impl FusionLayout {
    /// Both.
    pub const ALL: [Self; 2] = [Self::RankConcat, Self::Grouped];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RankConcat => "rank-concat",
            Self::Grouped => "grouped",
        }
    }

    /// The dialect of the families' files that has the fused rows in this order.
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::RankConcat => "mindformers/rank-concat",
            Self::Grouped => "mindformers/grouped",
        }
    }
}

impl fmt::Display for FusionLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
