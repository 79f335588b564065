//! Heading *Model and layout*: which model it is, and how its parameters are laid out.
#![expect(clippy::doc_markdown, reason = "these comments are the text of --help, where backticks would show")]

use std::path::PathBuf;

use clap::Args;

use crate::job::{Fusion, Precision};

/// The model, and how its parameters are laid out.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Model and layout")]
pub(in crate::cli) struct LayoutArgs {
    /// Model: a mindformers yaml or a built-in name
    ///
    /// Built-in models: llama2_7b, llama2_13b, llama2_70b, llama3_8b, llama3_70b, qwen2_7b.
    #[arg(short = 'y', long = "yaml_path", alias = "yaml-path", value_name = "YAML|MODEL")]
    pub(crate) yaml_path: Option<String>,
    /// File of a model family, beside the built-in ones
    ///
    /// How such a file is written: docs/en/families.md. A family with the name of a built-in one takes its place.
    #[arg(long = "family", value_name = "FILE", hide_short_help = true)]
    pub(crate) family: Vec<PathBuf>,
    /// Whether the target is fused
    ///
    /// Fused: q, k, v in one parameter, gate and up in another. Overrides the yaml's qkv_concat. Default without a yaml: as the
    /// source.
    #[arg(long = "qkv_concat", aliases = ["qkv-concat", "is_qkv_concat"], value_name = "BOOL")]
    pub(in crate::cli) qkv_concat: Option<bool>,
    /// Whether embedding and lm_head are whole on every rank
    ///
    /// Overrides the yaml's vocab_emb_dp.
    #[arg(long = "vocab_emb_dp", alias = "vocab-emb-dp", value_name = "BOOL", hide_short_help = true)]
    pub(in crate::cli) vocab_emb_dp: Option<bool>,
    /// Order of rows in the source's fused parameters
    ///
    /// Default: as the manifest.json of the conversion that made the source says, else rank-concat.
    #[arg(long = "src-fusion", value_enum, value_name = "ORDER", hide_short_help = true)]
    pub(in crate::cli) src_fusion: Option<Fusion>,
    /// Order of rows in the target's fused parameters
    ///
    /// Default: grouped where the yaml is for mindformers 1.4 or later, else as the manifest of the source says, else
    /// rank-concat.
    #[arg(long = "dst-fusion", value_enum, value_name = "ORDER", hide_short_help = true)]
    pub(in crate::cli) dst_fusion: Option<Fusion>,
    /// Let --src-fusion and --dst-fusion overrule a manifest or a yaml
    #[arg(long = "force-fusion", hide_short_help = true)]
    pub(in crate::cli) force_fusion: bool,
    /// Number of attention heads
    ///
    /// Needed where -y, a configuration and the shapes do not show it. --heads or --kv-heads alone is often enough.
    #[arg(long, value_name = "N", hide_short_help = true)]
    pub(in crate::cli) heads: Option<u64>,
    /// Number of key/value heads; see --heads
    #[arg(long = "kv-heads", alias = "kv_heads", value_name = "N", hide_short_help = true)]
    pub(in crate::cli) kv_heads: Option<u64>,
    /// Whether lm_head shares the weights of the embedding
    ///
    /// Needed where neither -y nor a config.json says so.
    #[arg(long = "tie-word-embeddings", alias = "tie_word_embeddings", value_name = "BOOL", hide_short_help = true)]
    pub(in crate::cli) tie_word_embeddings: Option<bool>,
    /// Precision of the norms, where it differs from -p
    #[arg(long = "norm-dtype", value_enum, value_name = "PRECISION", hide_short_help = true)]
    pub(in crate::cli) norm_dtype: Option<Precision>,
}
