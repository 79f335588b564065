//! The models whose dimensions the program knows by name.
//!
//! Source: the models' published `config.json` (and mindformers' yamls, which agree).

use super::ModelSpec;

struct Row {
    name: &'static str,
    hidden: u64,
    layers: u32,
    heads: u64,
    kv_heads: u64,
    ffn: u64,
    vocab: u64,
    qkv_bias: bool,
}

#[rustfmt::skip]
const MODELS: &[Row] = &[
    Row { name: "llama2_7b",  hidden: 4096, layers: 32, heads: 32, kv_heads: 32, ffn: 11008, vocab: 32000,  qkv_bias: false },
    Row { name: "llama2_13b", hidden: 5120, layers: 40, heads: 40, kv_heads: 40, ffn: 13824, vocab: 32000,  qkv_bias: false },
    Row { name: "llama2_70b", hidden: 8192, layers: 80, heads: 64, kv_heads: 8,  ffn: 28672, vocab: 32000,  qkv_bias: false },
    Row { name: "llama3_8b",  hidden: 4096, layers: 32, heads: 32, kv_heads: 8,  ffn: 14336, vocab: 128_256, qkv_bias: false },
    Row { name: "llama3_70b", hidden: 8192, layers: 80, heads: 64, kv_heads: 8,  ffn: 28672, vocab: 128_256, qkv_bias: false },
    Row { name: "qwen2_7b",   hidden: 3584, layers: 28, heads: 28, kv_heads: 4,  ffn: 18944, vocab: 152_064, qkv_bias: true },
];

/// The dimensions of a built-in model.
pub fn builtin(name: &str) -> Option<ModelSpec> {
    let row = MODELS.iter().find(|row| row.name == name)?;
    Some(ModelSpec {
        hidden: row.hidden,
        layers: row.layers,
        heads: row.heads,
        kv_heads: row.kv_heads,
        head_dim: row.hidden / row.heads,
        ffn: row.ffn,
        vocab: row.vocab,
        qkv_bias: row.qkv_bias,
        tied: false,
        fused: None,
        vocabulary_whole: false,
    })
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
            let spec = builtin(name).unwrap();
            spec.required().map(|p| spec.shape(&p).unwrap().elements()).sum()
        };
        assert_eq!(count("llama2_7b"), 6_738_415_616);
        assert_eq!(count("llama2_13b"), 13_015_864_320);
        assert_eq!(count("llama2_70b"), 68_976_648_192);
        assert_eq!(count("llama3_8b"), 8_030_261_248);
        assert_eq!(count("llama3_70b"), 70_553_706_496);
        assert_eq!(count("qwen2_7b"), 7_615_616_512);
    }
}
