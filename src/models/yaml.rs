//! mindformers' yaml files: the model's dimensions and how it is arranged.

use super::{ModelSpec, SpecError};

/// Reads a mindformers yaml.
pub fn from_yaml(text: &str) -> Result<ModelSpec, SpecError> {
    crate::model::from_yaml(text).map(|model| ModelSpec::of(&model))
}
