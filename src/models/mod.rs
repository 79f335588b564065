//! What the names mean: how each parameter of a model family is split, which are fused, and a model's dimensions.
//!
//! Tables and rules only: no I/O, no formats. The rules are mindformers' for the llama family (llama, llama2, llama3,
//! qwen1.5, qwen2, yi and others that share its names), versions 1.0 to 1.6, where the axis split of every name is the same.
//! What the same models are called elsewhere is in [`foreign`].

pub mod foreign;
mod running;
mod spec;
mod version;
mod yaml;

// Until the sizes are the tables' too, this module is one of their users.
use super::model::naming;

pub use crate::model::{MAX_CONFIG_BYTES, builtin_names, lora_alpha};
pub use running::RunFacts;
pub use spec::{ModelSpec, SpecError, builtin};
pub use version::{VersionSign, version_sign};
pub use yaml::from_yaml;
