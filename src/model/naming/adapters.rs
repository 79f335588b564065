//! Low-rank adapters (`LoRA`) beside the weights that they change.

use crate::model::LoraFactor;
use crate::model::companion::companions;

/// Whether an entry belongs to an adapter. Wider than [`lora_factor`]: what is not understood is refused, not kept.
pub fn is_lora(name: &str) -> bool {
    name.split('.').any(|component| component.to_ascii_lowercase().contains("lora"))
}

/// The weight that a factor changes, and which factor it is. `None` for names that are none, or not known.
pub fn lora_factor(name: &str) -> Option<(String, LoraFactor)> {
    companions().iter().find_map(|companion| {
        let factor = companion.quantity.factor()?;
        let layer = name.strip_suffix(companion.tail.as_str())?.strip_suffix('.')?;
        Some((format!("{layer}.weight"), factor))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_name_the_weight_that_they_change() {
        let weight = "model.layers.0.attention.wq.weight".to_owned();
        for (name, factor) in [
            ("model.layers.0.attention.wq.mindpet_delta_lora_a", LoraFactor::A),
            ("model.layers.0.attention.wq.lora_B.default.weight", LoraFactor::B),
        ] {
            assert_eq!(lora_factor(name), Some((weight.clone(), factor)));
            assert!(is_lora(name));
        }
        assert!(is_lora("model.tok_embeddings.lora_embedding_A") && lora_factor("model.x.lora_embedding_A").is_none());
        assert!(!is_lora(&weight) && lora_factor(&weight).is_none());
    }
}
