//! Which parameter a name is of, and on which axis it is cut.

use super::plain::Split;
use super::table::table;
use crate::model::pattern::{Captures, number};
use crate::model::{Companion, Param};

/// What a name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role<'a> {
    /// The decoder layer, for the parameters of one.
    pub layer: Option<u32>,
    /// The name in the layer; the whole name outside of one.
    pub suffix: &'a str,
    /// How it is split.
    pub split: Split,
    /// The parameter. Of a companion, the weight that it goes with.
    pub param: &'static Param,
    /// What it is of a quantised layer.
    pub companion: Option<&'static Companion>,
}

/// The embedding.
pub const EMBEDDING: &str = "model.tok_embeddings.embedding_weight";
/// `lm_head`, which a model may share with the embedding.
pub const HEAD: &str = "lm_head.weight";
/// The layer of [`HEAD`].
pub const HEAD_LAYER: &str = "lm_head";

/// The parameters outside the layers.
pub const TRANSFORMER_TOP: [&str; 3] = [EMBEDDING, "model.norm_out.weight", HEAD];

/// What the name of an unfused parameter says, or `None` for a name that no family has.
pub fn role(name: &str) -> Option<Role<'_>> {
    let found = table().find(name)?;
    let plain = found.known.plain?;
    let (split, companion) = match found.companion {
        None => (plain.split, None),
        // How an adapter is cut follows from its weight.
        Some(companion) if companion.quantity.factor().is_some() => return None,
        Some(companion) => (plain.split_of(companion), Some(companion)),
    };
    let suffix = found.known.pattern.layer_of(name).map_or(name, |(_, rest)| rest);
    Some(Role { layer: found.captures.layer, suffix, split, param: plain.param, companion })
}

/// The decoder layer, and what follows it, of a name in one, known or not.
pub fn decoder_layer(name: &str) -> Option<(u32, &str)> {
    table().in_every_layer[0].first()?.layer_of(name)
}

/// The number and the rest of `<n>.<rest>`.
pub fn numbered_layer(text: &str) -> Option<(u32, &str)> {
    let (layer, rest) = number(text)?;
    Some((layer, rest.strip_prefix('.')?))
}

/// The names in a layer of the parameters that every usual model has, or only those with biases in the attention have, unfused.
pub fn layer_suffixes(bias: bool) -> impl Iterator<Item = &'static str> {
    table().in_every_layer[usize::from(bias)].iter().filter_map(|pattern| pattern.in_layer())
}

/// The names of the same parameters of one layer.
pub fn layer_names(layer: u32, bias: bool) -> impl Iterator<Item = String> {
    let captures = Captures { layer: Some(layer), expert: None };
    table().in_every_layer[usize::from(bias)].iter().filter_map(move |pattern| pattern.name(captures))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Role as Purpose;

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

    #[test]
    fn the_names_outside_the_layers_are_those_of_the_tables() {
        for (name, purpose) in TRANSFORMER_TOP.into_iter().zip([Purpose::Embedding, Purpose::Norm, Purpose::Head]) {
            assert_eq!(role(name).map(|role| (role.layer, role.param.role)), Some((None, purpose)), "{name}");
        }
    }

    #[test]
    fn the_parameters_of_a_layer_follow_one_another_cell_by_cell() {
        let layer: Vec<&str> = layer_suffixes(true).collect();
        assert_eq!(
            layer,
            [
                "attention_norm.weight",
                "ffn_norm.weight",
                "attention.wq.weight",
                "attention.wk.weight",
                "attention.wv.weight",
                "attention.wq.bias",
                "attention.wk.bias",
                "attention.wv.bias",
                "attention.wo.weight",
                "feed_forward.w1.weight",
                "feed_forward.w3.weight",
                "feed_forward.w2.weight",
            ]
        );
        assert!(layer_suffixes(false).all(|suffix| suffix.ends_with(".weight")));
        assert_eq!(layer_names(7, false).next().unwrap(), "model.layers.7.attention_norm.weight");
    }

    /// The table of golden-stick 0.6.0's `sharded_state_dict`.
    #[test]
    fn every_quantised_parameter_is_cut_as_its_role_says() {
        let split = |name: &str| role(&format!("model.layers.7.{name}")).map(|r| r.split);
        for (layer, weight, of_row, of_column) in [
            ("attention.wq", Split::Rows, Split::Rows, Split::Whole),
            ("feed_forward.w3", Split::Rows, Split::Rows, Split::Whole),
            ("attention.wo", Split::Columns, Split::Whole, Split::Rows),
            ("feed_forward.w2", Split::Columns, Split::Whole, Split::Rows),
        ] {
            assert_eq!(split(&format!("{layer}._layer.weight")), Some(weight));
            for tail in
                ["_layer.bias", "_layer.matmul.t_scale", "_layer.matmul.t_zp_neg", "_layer.matmul.dequant_scale"]
            {
                assert_eq!(split(&format!("{layer}.{tail}")), Some(of_row), "{layer}.{tail}");
            }
            for tail in ["_layer.grouped_weight", "_layer.int4_weight", "_layer.matmul.group_scale"] {
                assert_eq!(split(&format!("{layer}.{tail}")), Some(weight), "{layer}.{tail}");
            }
            for tail in ["input_scale", "input_zp", "quant_op.input_scale", "_layer.matmul.input_scale"] {
                assert_eq!(split(&format!("{layer}.{tail}")), Some(of_column), "{layer}.{tail}");
            }
        }
        assert_eq!(split("attention.paged_attention_mgr.key_value_t_scale"), Some(Split::Columns));
        assert_eq!(split("attention.infer_attention.paged_attention_mgr.value_t_zp"), Some(Split::Rows));
        assert_eq!(split("attention.wq._layer.unknown"), None);
    }
}
