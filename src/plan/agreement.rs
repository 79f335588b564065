//! Do ranks hold the same?

use super::SourceFile;
use super::evidence::{Evidence, InFile, Unread};

/// Headers, and the evidence of what their tensors hold.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    pub files: &'a [SourceFile<'a>],
    pub evidence: &'a dyn Evidence,
}

impl Sources<'_> {
    /// Whether no two of these tensors are equal.
    pub(super) fn all_differ(self, holders: &[InFile]) -> Result<bool, Unread> {
        for (i, &one) in holders.iter().enumerate() {
            for &other in &holders[i + 1..] {
                if self.same(one, other)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Whether all these tensors are equal in dtype, shape and content.
    pub(super) fn agree(self, holders: &[InFile]) -> Result<bool, Unread> {
        let Some((&first, others)) = holders.split_first() else { return Ok(true) };
        for &other in others {
            if !self.same(first, other)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn same(self, a: InFile, b: InFile) -> Result<bool, Unread> {
        let (of_a, of_b) = (&self.files[a.0].entries[a.1], &self.files[b.0].entries[b.1]);
        let alike = of_a.dtype == of_b.dtype && of_a.shape == of_b.shape && of_a.extents.len() == of_b.extents.len();
        Ok(alike && self.evidence.same(a, b)?)
    }
}
