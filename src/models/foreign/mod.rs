//! Checkpoints that PyTorch programs wrote: Hugging Face's names and Meta's, beside mindformers'.
//!
//! Tables and rules only. A [`Naming`] says for every foreign name which of our unfused parameters it is, or holds parts
//! of, and the other way round.
//!
//! Sources: mindformers' `convert_weight.py` of each family (1.0 to 1.6), the models' own `modeling_*.py`, and Meta's
//! `llama` repository for its names, its shards and its rule of the ffn rows.

mod meta;
mod naming;
mod rows;
mod tables;

pub use crate::model::ConfigText;
pub use crate::model::Origin;
pub use naming::{Naming, Place, Prefix, recognise};
pub use rows::{Join, Reorder};

/// Foreign models by the names of their parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Hugging Face's llama, and all that share its names without biases: llama 2 and 3, mistral, yi, deepseek-llm.
    Llama,
    /// Qwen 1.5 and 2: llama's names, and biases of q, k and v.
    Qwen2,
    /// Baichuan and Baichuan 2: llama's names, but q, k and v in one `W_pack`.
    Baichuan2,
    /// InternLM 2: names of its own, and q, k and v in one `wqkv`, grouped by kv head.
    InternLm2,
    /// Meta's own releases, in `consolidated.<nn>.pth`.
    Meta,
}

impl Family {
    /// The name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Baichuan2 => "baichuan2",
            Self::InternLm2 => "internlm2",
            Self::Meta => "Meta llama",
        }
    }
}
