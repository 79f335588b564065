//! What is quantised, and how.

use crate::model::naming::{fused, linear_weight};
use crate::model::{Model, QuantNames};
use crate::plan::{Statistics, Width};
use crate::tensor::Dtype;

/// What is quantised, and how.
#[derive(Clone, Copy, Debug)]
pub struct QuantOptions<'a> {
    /// What the linear layers' weights become, where they do not stay as they are.
    pub weights: Option<Width>,
    /// How many neighbouring columns of a row have one scale, where not all of them do. Our own extension.
    pub group: Option<u64>,
    /// Whether their inputs do too, which needs statistics.
    pub inputs: bool,
    /// Whether keys and values do, which needs statistics.
    pub caches: bool,
    /// How much of the inputs' outliers goes to the weights, in 1/1000; `None`: nothing is smoothed.
    pub alpha_milli: Option<u32>,
    /// Layers that stay as they are: those whose names hold one of these.
    pub keep: &'a [String],
    /// Whose names and arithmetic. Only [`QuantNames::Extension`] has names for int4 and for groups.
    pub names: QuantNames,
    /// Whether the target is fused: what is fused has one input, so its smoothing is one.
    pub fused: bool,
    /// The precision of the norms.
    pub norms: Dtype,
    /// The target's ranks. Where it is one, its cache cell has another name.
    pub ranks: u64,
    /// The model, for the heads.
    pub spec: Option<&'a Model>,
    /// What was observed.
    pub statistics: Option<&'a Statistics>,
}

impl QuantOptions<'_> {
    /// The name (without `.weight`) of the layer that a weight is quantised with: its own, or the fused one's.
    pub(super) fn group_of(self, name: &str) -> Option<String> {
        let layer = linear_weight(name).filter(|_| self.weights.is_some())?;
        let group = match fused(name).filter(|_| self.fused) {
            Some(info) => info.name.trim_end_matches(".weight").to_owned(),
            None => layer.to_owned(),
        };
        (!self.keep.iter().any(|kept| group.contains(kept.as_str()))).then_some(group)
    }
}
