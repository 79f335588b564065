//! Are the names of a checkpoint those of a known family of models?
//!
//! What a family demands of a checkpoint (its layers, its head) is asked only of its own: anything else is another model, which may
//! lack any parameter.

use crate::model::naming::is_training_state;
use crate::model::{Dialect, Place, families};

/// Whether these are names of one known family: some are, and every name of a layer is. Beside the layers there may be anything,
/// such as counters and buffers.
pub fn are_of_a_family<'a>(names: impl Iterator<Item = &'a str>) -> bool {
    let names: Vec<&str> = names.filter(|name| !is_training_state(name)).collect();
    families().iter().any(|&family| {
        let dialect = Dialect::mindspore(family, "rank-concat");
        let known = |name: &str| !matches!(dialect.place(name), Place::Unknown);
        names.iter().any(|name| known(name)) && names.iter().all(|name| known(name) || !is_of_a_layer(name))
    })
}

/// Whether a part of the name is a number.
fn is_of_a_layer(name: &str) -> bool {
    name.split('.').any(|part| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(names: &[&str]) -> bool {
        are_of_a_family(names.iter().copied())
    }

    #[test]
    fn a_layer_tells_the_family() {
        let llama = ["model.layers.0.attention.wq.weight", "model.layers.0.attention_norm.weight"];
        assert!(known(&llama));
        assert!(known(&[&llama[..], &["epoch_num", "a.buffer", "adam_m.model.layers.0.attention.wq.weight"]].concat()));
        let quantised =
            ["model.layers.0.attention.wq._handler.weight", "model.layers.0.attention.wq._weight_quantizer.scale"];
        assert!(known(&[&llama[1..], &quantised[..]].concat()));
        assert!(!known(&[&llama[..], &["model.layers.0.attention.gate.weight"]].concat()));
        assert!(!known(&["bert.encoder.layer.0.attention.self.query.weight", "bert.pooler.dense.weight"]));
        assert!(!known(&["epoch_num"]) && !known(&[]));
    }
}
