//! What of a checkpoint is quantised already.

use std::fmt;

use super::Catalog;
use crate::model::naming::{AlsoQuantised, also_quantised, columns_in_one};
use crate::plan::Width;

/// What of a model is quantised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct QuantisedAs {
    /// The linear layers' weights, and to what.
    pub weights: Option<Width>,
    /// Their inputs.
    pub inputs: bool,
    /// Keys and values.
    pub caches: bool,
}

impl fmt::Display for QuantisedAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weights = self.weights.map(|width| match width {
            Width::Int8 => "int8 weights",
            Width::Int4 => "int4 weights",
        });
        let inputs = self.inputs.then_some("int8 activations");
        let caches = self.caches.then_some("int8 KV cache");
        let parts: Vec<&str> = weights.into_iter().chain(inputs).chain(caches).collect();
        f.write_str(&parts.join(", "))
    }
}

impl Catalog {
    /// Whether any weight is quantised.
    pub fn is_quantised(&self) -> bool {
        !self.quantised.is_empty()
    }

    /// What is quantised. `None`: nothing.
    pub fn quantised_as(&self) -> Option<QuantisedAs> {
        let any = |what| self.tensors.iter().any(|t| also_quantised(&t.name) == Some(what));
        let (inputs, caches) = (any(AlsoQuantised::Inputs), any(AlsoQuantised::Caches));
        let packed = || self.tensors.iter().any(|t| columns_in_one(&t.name) > 1);
        let weights = self.is_quantised().then(|| if packed() { Width::Int4 } else { Width::Int8 });
        let what = QuantisedAs { weights, inputs, caches };
        (what != QuantisedAs::default()).then_some(what)
    }
}
