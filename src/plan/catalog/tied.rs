//! Is `lm_head` the embedding?

use super::Catalog;
use crate::model::naming::{EMBEDDING, HEAD, lora_factor};

impl Catalog {
    /// Whether the model has an `lm_head` of its own.
    pub fn has_head(&self) -> bool {
        self.get(HEAD).is_some()
    }

    /// The embedding under the name of `lm_head`, and `lm_head`: equal where [`compare`](crate::plan::compare) finds no
    /// difference. `None` where they cannot be equal, or one of them is not there.
    pub fn embedding_and_head(&self) -> Option<(Self, Self)> {
        let (embedding, head) = (&self.tensors[self.get(EMBEDDING)?], &self.tensors[self.get(HEAD)?]);
        // What an adapter makes of them is not what the files hold.
        let adapted = |name: &str| lora_factor(name).is_some_and(|(weight, _)| weight == HEAD || weight == EMBEDDING);
        if embedding.shape != head.shape
            || embedding.dtype != head.dtype
            || self.tensors.iter().any(|t| adapted(&t.name))
        {
            return None;
        }
        let (mut a, mut b) = (Self::default(), Self::default());
        a.push(super::LogicalTensor { name: head.name.clone(), ..embedding.clone() });
        b.push(head.clone());
        Some((a, b))
    }

    /// Leaves `lm_head` out. Adapters must not be merged yet.
    pub fn leave_head_out(&mut self) {
        debug_assert!(self.merged.is_empty(), "they are known by their index");
        if let Some(head) = self.get(HEAD) {
            self.remove(head);
        }
    }
}
