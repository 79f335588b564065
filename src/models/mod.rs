//! What the names mean: how each parameter of a model family is split, which are fused, and a model's dimensions.
//!
//! Tables and rules only: no I/O, no formats. The rules are mindformers' for the llama family (llama, llama2, llama3,
//! qwen1.5, qwen2, yi and others that share its names), versions 1.0 to 1.6, where the axis split of every name is the same.
//! What the same models are called elsewhere is in [`foreign`].

mod builtin;
pub mod foreign;
mod fusion;
mod lora;
mod names;
mod quantised;
mod running;
mod signs;
mod spec;
mod state;
mod version;
mod yaml;
mod yaml_text;

pub use builtin::{builtin, builtin_names};
pub use fusion::{Fused, FusionLayout, Grouping, fused};
pub use lora::{LoraFactor, is_lora, lora_factor};
pub use names::{EMBEDDING, HEAD, Role, Split, TRANSFORMER_TOP, layer_suffixes, role};
#[cfg(test)]
pub use quantised::KV_CELL_ALONE;
pub use quantised::{
    AlsoQuantised, GROUP_SIZES, QuantNames, Quantity, also_quantised, before, cache_name, columns_in_one, companion_of,
    copy_of, group_scale_of, is_copy, is_not_loaded, is_quantised, known_integers, kv_names, linear_weight,
    quantity_name, scale_names, scales_of_layer, weight_names,
};
pub use running::RunFacts;
pub use signs::{QuantSigns, QuantTool};
pub use spec::{ModelSpec, SpecError};
pub use state::{
    OTHER_COUNTERS, SAVE_MARKS, is_counter, is_model_name, is_network_buffer, is_training_state, training_rule,
};
pub use version::{VersionSign, version_sign};
pub use yaml::{from_yaml, lora_alpha};
pub use yaml_text::MAX_CONFIG_BYTES;
