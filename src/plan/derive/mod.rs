//! What is made of a catalog, beside it: adapters merged, weights quantised.

mod lora;
pub(super) mod quantise;
