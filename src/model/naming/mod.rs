//! What the names of MindSpore's networks say, whichever family they are of: one table of all families' names.
//!
//! A name is looked up in the dialects of mindformers: those without fused parameters say how a parameter is cut, those with
//! them what is fused, in both orders. What goes with a linear layer is known under the name of the layer.

mod adapters;
mod caches;
mod cells;
mod fused;
mod fused_layers;
mod layer_param;
mod plain;
mod quantised;
mod role;
mod schemes;
mod state;
mod table;

pub use adapters::{is_lora, lora_factor};
pub use caches::{cache_name, cache_names};
pub use fused::{FUSED_LAYERS, Fused, Grouping, fused};
pub use layer_param::LayerParam;
pub use plain::Split;
pub use quantised::{
    AlsoQuantised, also_quantised, before, columns_in_one, companion_of, copy_of, group_scale_of, has_known_tail,
    is_copy, is_not_loaded, is_quantised, known_integers, linear_weight, quantity_name, scale_names, scales_of_layer,
    weight_names,
};
pub use role::{
    EMBEDDING, HEAD, HEAD_LAYER, Role, TRANSFORMER_TOP, decoder_layer, layer_names, layer_suffixes, numbered_layer,
    role,
};
pub use state::{
    OTHER_COUNTERS, SAVE_MARKS, is_counter, is_model_name, is_network_buffer, is_training_state, names_parameter,
    training_rule,
};
