//! Low-rank adapters (`LoRA`) beside the weights that they change.
//!
//! Sources of the names: `mindpet_delta_lora_a` and `_b` of mindformers' adapters, `lora_A` and `lora_B` of PEFT, which keeps
//! `A` as `[r, in]` and `B` as `[out, r]` like mindpet.

/// Which factor of `W + (alpha / r) B A` an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoraFactor {
    /// `[r, in]`.
    A,
    /// `[out, r]`.
    B,
}

const FACTORS: &[(&str, LoraFactor)] = &[
    ("mindpet_delta_lora_a", LoraFactor::A),
    ("mindpet_delta_lora_b", LoraFactor::B),
    ("lora_a", LoraFactor::A),
    ("lora_b", LoraFactor::B),
    ("lora_A", LoraFactor::A),
    ("lora_B", LoraFactor::B),
];

/// Whether an entry belongs to an adapter. Wider than [`lora_factor`]: what is not understood is refused, not kept.
pub fn is_lora(name: &str) -> bool {
    name.split('.').any(|component| component.to_ascii_lowercase().contains("lora"))
}

/// Which factor the last part of a name says (`mindpet_delta_lora_b`, `lora_B.weight`).
pub(super) fn factor_of(tail: &str) -> Option<LoraFactor> {
    let tail = tail.strip_suffix(".weight").unwrap_or(tail);
    let tail = tail.strip_suffix(".default").unwrap_or(tail);
    FACTORS.iter().find(|(known, _)| *known == tail).map(|&(_, factor)| factor)
}

/// The weight that a factor changes, and which factor it is. `None` for names that are none, or not known.
pub fn lora_factor(name: &str) -> Option<(String, LoraFactor)> {
    let plain = name.strip_suffix(".weight").unwrap_or(name);
    let plain = plain.strip_suffix(".default").unwrap_or(plain);
    let (base, last) = plain.rsplit_once('.')?;
    Some((format!("{base}.weight"), factor_of(last)?))
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
