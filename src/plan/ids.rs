//! What the parts of a plan are called by: indices that cannot be taken for one another.

/// Defines an index into one of the lists of a plan.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl $name {
            /// The id of what is at an index. A plan has no list of 2^32 entries.
            pub fn new(index: usize) -> Self {
                Self(u32::try_from(index).unwrap_or(u32::MAX))
            }

            /// The index.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id! {
    /// A source file, by its index among the sources of a plan; the one after the last is the memory of the plan.
    SourceId
}
id! {
    /// A tensor of a source file, by its index among the tensors of a plan.
    StoredId
}
id! {
    /// A matrix or vector that ops take beside the elements, by its index among the operands of a plan.
    OperandId
}
id! {
    /// A pipeline of ops, by its index among the pipelines of a plan, plus one.
    OpsId
}

impl OpsId {
    /// No ops: the bytes are moved as they are.
    pub const COPY: Self = Self(0);
}
