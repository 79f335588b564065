//! Is `lm_head` the embedding?

use super::Catalog;
use crate::model::Role;
use crate::model::naming::lora_factor;

impl Catalog {
    /// Whether the model has an `lm_head` of its own.
    pub fn has_head(&self) -> bool {
        self.of_role(Role::Head).is_some()
    }

    /// The embedding under the name of `lm_head`, and `lm_head`: equal where [`compare`](crate::plan::compare) finds no
    /// difference. `None` where they cannot be equal, or one of them is not there.
    pub fn embedding_and_head(&self) -> Option<(Self, Self)> {
        let (embedding, head) =
            (&self.tensors[self.of_role(Role::Embedding)?], &self.tensors[self.of_role(Role::Head)?]);
        // What an adapter makes of them is not what the files hold.
        let adapted =
            |name: &str| lora_factor(name).is_some_and(|(weight, _)| weight == *head.name || weight == *embedding.name);
        if embedding.shape != head.shape
            || embedding.dtype != head.dtype
            || self.tensors.iter().any(|t| adapted(&t.name))
        {
            return None;
        }
        let (mut a, mut b) = (Self::default(), Self::default());
        a.put(super::LogicalTensor { name: head.name.clone(), ..embedding.clone() });
        b.put(head.clone());
        Some((a, b))
    }

    /// Leaves `lm_head` out. Adapters must not be merged yet.
    pub fn leave_head_out(&mut self) {
        debug_assert!(self.merged.is_empty(), "they are known by their index");
        if let Some(head) = self.of_role(Role::Head) {
            self.remove(head);
        }
    }
}
