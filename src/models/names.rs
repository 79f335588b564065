//! mindformers' parameter names and the axis over which each is split.
//!
//! Source: `mindformers/models/llama`, versions 1.0 to 1.6, where the split of these names never changed.

/// How tensor parallelism splits a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// Every rank holds it whole.
    Whole,
    /// Axis 0, over all ranks.
    Rows,
    /// Axis 1, over all ranks.
    Columns,
    /// Axis 0 where the model splits its vocabulary and the ranks divide it, else whole.
    Vocabulary,
}

/// What a name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role<'a> {
    /// The decoder layer, for the parameters of one.
    pub layer: Option<u32>,
    /// The name without `model.layers.<n>.`.
    pub suffix: &'a str,
    /// How it is split.
    pub split: Split,
}

const LAYER: &[(&str, Split)] = &[
    ("attention_norm.weight", Split::Whole),
    ("ffn_norm.weight", Split::Whole),
    ("attention.wq.weight", Split::Rows),
    ("attention.wk.weight", Split::Rows),
    ("attention.wv.weight", Split::Rows),
    ("attention.wq.bias", Split::Rows),
    ("attention.wk.bias", Split::Rows),
    ("attention.wv.bias", Split::Rows),
    ("attention.wo.weight", Split::Columns),
    ("feed_forward.w1.weight", Split::Rows),
    ("feed_forward.w3.weight", Split::Rows),
    ("feed_forward.w2.weight", Split::Columns),
];

/// More layers than any model has. Names beyond are not taken for layers.
pub(super) const MAX_LAYERS: u32 = 10_000;

/// The embedding.
pub const EMBEDDING: &str = "model.tok_embeddings.embedding_weight";
/// `lm_head`, which a model may share with the embedding.
pub const HEAD: &str = "lm_head.weight";

const TOP: &[(&str, Split)] =
    &[(EMBEDDING, Split::Vocabulary), ("model.norm_out.weight", Split::Whole), (HEAD, Split::Vocabulary)];

/// The parameters outside the layers.
pub const TRANSFORMER_TOP: [&str; 3] = [TOP[0].0, TOP[1].0, TOP[2].0];

/// The parameters of a layer that every model has, or only those with biases in the attention have, unfused.
pub fn layer_suffixes(bias: bool) -> impl Iterator<Item = &'static str> {
    LAYER.iter().map(|(suffix, _)| *suffix).filter(move |s| bias || s.ends_with("weight"))
}

/// What an unfused parameter's name says, or `None` for a name that the llama family does not have.
pub fn role(name: &str) -> Option<Role<'_>> {
    if let Some(&(suffix, split)) = TOP.iter().find(|(top, _)| *top == name) {
        return Some(Role { layer: None, suffix, split });
    }
    let (layer, suffix) = layer_of(name)?;
    let known = LAYER.iter().find(|(known, _)| *known == suffix).map(|&(_, split)| split);
    Some(Role { layer: Some(layer), suffix, split: known.or_else(|| super::quantised::split(suffix))? })
}

/// The layer number and the rest of `model.layers.<n>.<rest>`.
pub(super) fn layer_of(name: &str) -> Option<(u32, &str)> {
    numbered_layer(name.strip_prefix("model.layers.")?)
}

/// The layer number and the rest of `<n>.<rest>`.
pub(super) fn numbered_layer(text: &str) -> Option<(u32, &str)> {
    let (number, suffix) = text.split_once('.')?;
    let canonical = number == "0" || !number.starts_with('0');
    if !canonical || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((number.parse().ok().filter(|&n| n < MAX_LAYERS)?, suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_family_are_known_and_others_are_not() {
        assert_eq!(role("model.layers.31.attention.wo.weight").unwrap().split, Split::Columns);
        assert_eq!(role("model.layers.31.attention.wo.weight").unwrap().layer, Some(31));
        assert_eq!(role("lm_head.weight").unwrap().split, Split::Vocabulary);
        for unknown in
            ["adam_m.lm_head.weight", "model.layers.01.ffn_norm.weight", "model.layers.-1.ffn_norm.weight", "w"]
        {
            assert_eq!(role(unknown), None, "{unknown}");
        }
    }
}
