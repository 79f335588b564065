//! The models whose sizes the program knows by name.
//!
//! Source: the models' published `config.json` (and mindformers' yamls, which agree).

use super::configuration::CONFIG_JSON;
use super::error::SpecError;
use super::model::Model;
use super::registry::family;
use super::size::{Configuration, Value};

/// The sizes of a dense model.
#[derive(Clone, Copy, Debug)]
pub struct Dense {
    /// The family.
    pub family: &'static str,
    /// The model's width.
    pub hidden: u64,
    /// Decoder layers.
    pub layers: u32,
    /// Query heads.
    pub heads: u64,
    /// Key/value heads.
    pub kv_heads: u64,
    /// Rows of a head.
    pub head_dim: u64,
    /// Rows of the gate and of the up projection.
    pub ffn: u64,
    /// Rows of the embedding.
    pub vocab: u64,
    /// Whether the output projection shares the embedding's weight.
    pub tied: bool,
}

impl Dense {
    /// Llama 2 7B.
    pub const LLAMA: Self = Self {
        family: "llama",
        hidden: 4096,
        layers: 32,
        heads: 32,
        kv_heads: 32,
        head_dim: 128,
        ffn: 11008,
        vocab: 32000,
        tied: false,
    };

    /// The model.
    ///
    /// # Errors
    /// A family that is not there; sizes that make no model.
    pub fn model(&self) -> Result<Model, SpecError> {
        let family = family(self.family).ok_or_else(|| SpecError::Unsupported(self.family.to_owned()))?;
        let numbers = [
            ("hidden_size", self.hidden),
            ("num_hidden_layers", self.layers.into()),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("intermediate_size", self.ffn),
            ("vocab_size", self.vocab),
        ];
        #[expect(clippy::cast_precision_loss, reason = "sizes are below 2^32, and what is not is refused")]
        let numbers = numbers.map(|(name, n)| (name.to_owned(), Value::Number(n as f64)));
        let tied = ("tie_word_embeddings".to_owned(), Value::Flag(self.tied));
        let fields: Configuration = numbers.into_iter().chain([tied]).collect();
        Model::read(family, CONFIG_JSON, &fields)
    }
}

#[rustfmt::skip]
const MODELS: &[(&str, Dense)] = &[
    ("llama2_7b",  Dense::LLAMA),
    ("llama2_13b", Dense { hidden: 5120, layers: 40, heads: 40, kv_heads: 40, ffn: 13824, ..Dense::LLAMA }),
    ("llama2_70b", Dense { hidden: 8192, layers: 80, heads: 64, kv_heads: 8, ffn: 28672, ..Dense::LLAMA }),
    ("llama3_8b",  Dense { kv_heads: 8, ffn: 14336, vocab: 128_256, ..Dense::LLAMA }),
    ("llama3_70b", Dense { hidden: 8192, layers: 80, heads: 64, kv_heads: 8, ffn: 28672, vocab: 128_256, ..Dense::LLAMA }),
    ("qwen2_7b",   Dense { family: "qwen2", hidden: 3584, layers: 28, heads: 28, kv_heads: 4, ffn: 18944, vocab: 152_064, ..Dense::LLAMA }),
];

/// A built-in model. Its name may have hyphens and capitals, as in `Llama2-7B`.
pub fn builtin(name: &str) -> Option<Model> {
    let name = builtin_name(name)?;
    let (_, sizes) = MODELS.iter().find(|(known, _)| *known == name)?;
    // A test reads each.
    sizes.model().ok()
}

/// The name of a built-in model, from one that is written with hyphens or capitals.
pub(super) fn builtin_name(written: &str) -> Option<&'static str> {
    let plain = written.to_ascii_lowercase().replace('-', "_");
    builtin_names().find(|name| *name == plain)
}

/// The names that [`builtin`] knows.
pub fn builtin_names() -> impl Iterator<Item = &'static str> {
    MODELS.iter().map(|(name, _)| *name)
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

    #[test]
    fn a_name_may_be_written_as_people_write_it() {
        assert_eq!(builtin("Llama2-7B"), builtin("llama2_7b"));
        assert!(builtin("llama3-8b").is_some() && builtin("llama2").is_none());
    }
}
