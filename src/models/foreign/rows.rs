//! In which order the rows of foreign parameters stand, as axes and strides: nothing has to be moved by the row.

use super::super::naming::Grouping;
use super::super::{ModelSpec, SpecError};

/// How q, k and v stand in one parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Join {
    /// One after the other: all rows of q, then of k, then of v (Baichuan's `W_pack`).
    Concat,
    /// For each kv head its q heads, then its k, then its v (InternLM 2's `wqkv`).
    Grouped,
}

impl Join {
    /// Both orders as a [`Grouping`] of whole heads: one group, or one for each kv head.
    pub fn grouping(self, spec: &ModelSpec) -> Grouping {
        let (groups, slots) = match self {
            Self::Concat => (1, vec![spec.heads, spec.kv_heads, spec.kv_heads]),
            Self::Grouped => (spec.kv_heads, vec![spec.heads / spec.kv_heads.max(1), 1, 1]),
        };
        Grouping { groups, slots, height: spec.head_dim }
    }
}

/// How the rows of our parameter stand in the foreign one that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reorder {
    /// As here.
    Plain,
    /// Meta's q: the halves of each head interleaved, over the query heads.
    MetaQuery,
    /// Meta's k: the same over the kv heads.
    MetaKey,
}

/// Rows read as three axes: head, half, row of the half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RopeRows {
    /// The axes' lengths; their product is the number of rows. Our rows are these axes in row-major order.
    pub axes: [u64; 3],
    /// How far apart neighbours of an axis stand in Meta's parameter, in rows.
    pub strides: [u64; 3],
}

impl RopeRows {
    /// The row of Meta's parameter that is our row `row`. `None` behind the end.
    pub fn foreign_row(&self, row: u64) -> Option<u64> {
        let [heads, halves, half] = self.axes;
        let head = row.checked_div(halves * half)?;
        let at = [head, row / half % halves, row % half];
        (head < heads).then(|| at.iter().zip(self.strides).map(|(n, stride)| n * stride).sum())
    }
}

impl Reorder {
    /// The axes for a model, or `None` where the rows stand as here: our row `h*d + c*d/2 + j` is Meta's row
    /// `h*d + 2*j + c`.
    ///
    /// # Errors
    /// Heads with an odd number of rows have no halves.
    pub fn rows(self, spec: &ModelSpec) -> Result<Option<RopeRows>, SpecError> {
        let heads = match self {
            Self::Plain => return Ok(None),
            Self::MetaQuery => spec.heads,
            Self::MetaKey => spec.kv_heads,
        };
        if !spec.head_dim.is_multiple_of(2) {
            let why = "the rows of a head make no two halves, as rotary embeddings want";
            return Err(SpecError::NoPlace { field: "head_dim".to_owned(), why: why.to_owned() });
        }
        Ok(Some(RopeRows { axes: [heads, 2, spec.head_dim / 2], strides: [spec.head_dim, 1, 2] }))
    }
}
