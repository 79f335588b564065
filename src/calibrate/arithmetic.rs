//! The numbers that decide what a layer computes.

use super::CalibrateError;
use crate::model::Model;

/// The numbers that decide what a layer computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arithmetic {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Channels of a head; even.
    pub head_dim: usize,
    /// What is added to the mean square in a norm.
    pub norm_eps: f64,
    /// The base of the rotary embedding's wavelengths.
    pub rope_theta: f64,
}

impl Arithmetic {
    /// That of a model's heads.
    ///
    /// # Errors
    /// Heads that cannot be rotated or grouped.
    pub fn new(spec: &Model, norm_eps: f64, rope_theta: f64) -> Result<Self, CalibrateError> {
        let whole =
            spec.kv_heads() > 0 && spec.heads().is_multiple_of(spec.kv_heads()) && spec.head_dim().is_multiple_of(2);
        if spec.ffn().is_none() {
            let family = &spec.family().name;
            return Err(CalibrateError::Model(format!(
                "{family} has no dense feed-forward layers, which is all that is built"
            )));
        }
        let count = |n: u64| usize::try_from(n).ok().filter(|n| *n > 0);
        match (count(spec.heads()), count(spec.kv_heads()), count(spec.head_dim())) {
            (Some(heads), Some(kv_heads), Some(head_dim)) if whole => {
                Ok(Self { heads, kv_heads, head_dim, norm_eps, rope_theta })
            }
            _ => Err(CalibrateError::Model(format!(
                "{} heads of {} channels, {} of keys",
                spec.heads(),
                spec.head_dim(),
                spec.kv_heads()
            ))),
        }
    }
}
