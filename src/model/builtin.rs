//! The models whose sizes the program knows by name.
//!
//! Source: the models' published `config.json` (and mindformers' yamls, which agree).

use super::configuration::CONFIG_JSON;
use super::model::Model;
use super::registry::family;
use super::size::{Configuration, Value};

struct Row {
    name: &'static str,
    family: &'static str,
    hidden: u32,
    layers: u32,
    heads: u32,
    kv_heads: u32,
    ffn: u32,
    vocab: u32,
}

#[rustfmt::skip]
const MODELS: &[Row] = &[
    Row { name: "llama2_7b",  family: "llama", hidden: 4096, layers: 32, heads: 32, kv_heads: 32, ffn: 11008, vocab: 32000 },
    Row { name: "llama2_13b", family: "llama", hidden: 5120, layers: 40, heads: 40, kv_heads: 40, ffn: 13824, vocab: 32000 },
    Row { name: "llama2_70b", family: "llama", hidden: 8192, layers: 80, heads: 64, kv_heads: 8,  ffn: 28672, vocab: 32000 },
    Row { name: "llama3_8b",  family: "llama", hidden: 4096, layers: 32, heads: 32, kv_heads: 8,  ffn: 14336, vocab: 128_256 },
    Row { name: "llama3_70b", family: "llama", hidden: 8192, layers: 80, heads: 64, kv_heads: 8,  ffn: 28672, vocab: 128_256 },
    Row { name: "qwen2_7b",   family: "qwen2", hidden: 3584, layers: 28, heads: 28, kv_heads: 4,  ffn: 18944, vocab: 152_064 },
];

/// A built-in model.
pub fn builtin(name: &str) -> Option<Model> {
    let row = MODELS.iter().find(|row| row.name == name)?;
    let fields = [
        ("hidden_size", row.hidden),
        ("num_hidden_layers", row.layers),
        ("num_attention_heads", row.heads),
        ("num_key_value_heads", row.kv_heads),
        ("intermediate_size", row.ffn),
        ("vocab_size", row.vocab),
    ];
    let fields: Configuration =
        fields.into_iter().map(|(name, n)| (name.to_owned(), Value::Number(n.into()))).collect();
    // A test reads each.
    Model::read(family(row.family)?, CONFIG_JSON, &fields).ok()
}

/// The names that [`builtin`] knows.
pub fn builtin_names() -> impl Iterator<Item = &'static str> {
    MODELS.iter().map(|row| row.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parameter counts as the models' authors publish them.
    #[test]
    fn the_dimensions_add_up_to_the_published_parameter_counts() {
        let count = |name: &str| -> u64 {
            let model = builtin(name).unwrap();
            model.members().iter().map(|&id| model.full_shape(id).unwrap().elements()).sum()
        };
        assert_eq!(count("llama2_7b"), 6_738_415_616);
        assert_eq!(count("llama2_13b"), 13_015_864_320);
        assert_eq!(count("llama2_70b"), 68_976_648_192);
        assert_eq!(count("llama3_8b"), 8_030_261_248);
        assert_eq!(count("llama3_70b"), 70_553_706_496);
        assert_eq!(count("qwen2_7b"), 7_615_616_512);
    }
}
