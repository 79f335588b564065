//! Meta's releases: `params.json`, and how `consolidated.<nn>.pth` cut the parameters.

use super::super::{ModelSpec, SpecError};
use super::Reorder;
use super::config::{check_heads, check_sizes, head_dim, layers};
use super::fields::{Fields, bad};
use super::tables::is_buffer;
use crate::tensor::Shape;

/// What a `params.json` says. Llama 2's leaves the size of the vocabulary to the tensor (`"vocab_size": -1`), so that
/// the tensors are looked at before there is a [`ModelSpec`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaParams {
    /// The model's width.
    pub dim: u64,
    /// Rows of the embedding, where the file tells.
    pub vocab: Option<u64>,
    /// Rows of w1 and w3, as the file gives them or by Meta's rule. `None`: neither is possible.
    pub ffn: Option<u64>,
    /// Everything but `vocab` and `ffn`, which are 1 here.
    rest: ModelSpec,
}

/// Fields of releases whose tensors are not those of a plain llama, and what they are.
const OTHER: [(&[&str], &str); 2] =
    [(&["quantization_args", "lora_args"], "a quantised model"), (&["moe", "moe_args"], "a mixture of experts")];

impl MetaParams {
    /// Reads a `params.json`. `json`: all bytes of the file.
    ///
    /// # Errors
    /// No JSON object, a field twice, a value of the wrong kind or out of range; a quantised model or a mixture of experts.
    pub fn read(json: &[u8]) -> Result<Self, SpecError> {
        let fields = Fields::read(json)?;
        for (names, what) in OTHER {
            if let Some(field) = fields.first_of(names) {
                return Err(SpecError::OtherLayers { what, field });
            }
        }
        let dim = fields.required("dim")?;
        let heads = fields.required("n_heads")?;
        let head_dim = head_dim(&fields, "n_heads", dim, heads)?;
        let vocab = match fields.present("vocab_size") {
            Some(value) if value.as_i64() == Some(-1) => None,
            _ => fields.number("vocab_size")?,
        };
        let rest = ModelSpec {
            hidden: dim,
            layers: layers(&fields, "n_layers")?,
            heads,
            kv_heads: fields.number("n_kv_heads")?.unwrap_or(heads),
            head_dim,
            ffn: 1,
            vocab: 1,
            qkv_bias: false,
            tied: false,
            fused: None,
            vocabulary_whole: false,
        };
        check_heads("n_kv_heads", &rest)?;
        Reorder::MetaQuery.rows(&rest)?;
        Ok(Self { dim, vocab, ffn: ffn_rows(&fields, dim)?, rest })
    }

    /// The model. `vocab_rows`, `ffn_rows`: the rows of the embedding and of w1 over all shards, where they are known.
    ///
    /// The tensors' ffn rows count more than the rule, for they are there; a vocabulary that the file gives must be theirs.
    ///
    /// # Errors
    /// A size that neither the file nor the tensors tell, or on which they differ; dimensions that make no tensors.
    pub fn spec(&self, vocab_rows: Option<u64>, ffn_rows: Option<u64>) -> Result<ModelSpec, SpecError> {
        if let (Some(said), Some(found)) = (self.vocab, vocab_rows)
            && said != found
        {
            return Err(bad("vocab_size", &said.into(), "the number of rows of the embedding"));
        }
        let vocab = self.vocab.or(vocab_rows).ok_or(SpecError::Missing("vocab_size"))?;
        let ffn = ffn_rows.or(self.ffn).ok_or(SpecError::Missing("multiple_of"))?;
        let spec = ModelSpec { ffn, vocab, ..self.rest.clone() };
        check_sizes(&spec)?;
        Ok(spec)
    }
}

/// Meta's rule: 2/3 of four times the width, times the multiplier, rounded up to `multiple_of`. (mindformers multiplies
/// first and a little more; for the published models the result is the same.) Mistral's releases give `hidden_dim`.
fn ffn_rows(fields: &Fields, dim: u64) -> Result<Option<u64>, SpecError> {
    if let Some(rows) = fields.number("hidden_dim")? {
        return Ok(Some(rows));
    }
    let multiplier = match fields.present("ffn_dim_multiplier") {
        None => None,
        Some(value) => Some(
            value
                .as_f64()
                .filter(|f| (0.01..=100.0).contains(f))
                .ok_or_else(|| bad("ffn_dim_multiplier", value, "a number between 0.01 and 100"))?,
        ),
    };
    let Some(multiple) = fields.number("multiple_of")? else { return Ok(None) };
    let mut rows = 4 * dim * 2 / 3;
    if let Some(factor) = multiplier {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "as Meta computes it: the product is positive and below 2^45"
        )]
        {
            rows = (factor * rows as f64) as u64;
        }
    }
    Ok(Some(rows.div_ceil(multiple) * multiple))
}

/// Why the shards of a parameter cannot be joined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// The embedding is cut over neither axis.
    #[error(
        "`{name}` has shape {shape} in one of {shards} shards: its columns are neither all {dim} of the model nor a \
         {shards}th of them"
    )]
    Embedding {
        /// The parameter.
        name: String,
        /// Its shape in one shard.
        shape: Shape,
        /// The number of shards.
        shards: u64,
        /// The model's width.
        dim: u64,
    },
    /// A name that Meta's models do not have.
    #[error("`{0}` is no parameter of Meta's llama models")]
    Unknown(String),
}

/// The axis over which model-parallel shards cut a parameter of a Meta release; `None`: every shard has all of it.
///
/// `name`: Meta's name; `shape`: the parameter's shape in one of the `shards` shards; `dim`: the model's width. The
/// embedding is cut over the columns in llama 1 and 2 and over the rows in llama 3: the shape tells which. A single
/// shard cuts nothing, but that of an embedding of another width is an error all the same.
///
/// # Errors
/// An embedding that is cut in no such way; a name that is no parameter.
pub fn shard_axis(name: &str, shape: &Shape, shards: u64, dim: u64) -> Result<Option<usize>, ShardError> {
    let suffix = name.strip_prefix("layers.").and_then(super::super::naming::numbered_layer).map_or(name, |(_, s)| s);
    let axis = match suffix {
        "tok_embeddings.weight" => embedding_axis(name, shape, shards, dim)?,
        "output.weight"
        | "attention.wq.weight"
        | "attention.wk.weight"
        | "attention.wv.weight"
        | "feed_forward.w1.weight"
        | "feed_forward.w3.weight" => Some(0),
        "attention.wo.weight" | "feed_forward.w2.weight" => Some(1),
        "attention_norm.weight" | "ffn_norm.weight" | "norm.weight" => None,
        _ if is_buffer(name) => None,
        _ => return Err(ShardError::Unknown(name.to_owned())),
    };
    Ok(axis.filter(|_| shards > 1))
}

fn embedding_axis(name: &str, shape: &Shape, shards: u64, dim: u64) -> Result<Option<usize>, ShardError> {
    if let &[_, columns] = shape.dims() {
        // More than one shard: not both, for the width is not 0.
        if columns == dim {
            return Ok(Some(0));
        }
        if columns.checked_mul(shards) == Some(dim) {
            return Ok(Some(1));
        }
    }
    Err(ShardError::Embedding { name: name.to_owned(), shape: shape.clone(), shards, dim })
}

#[cfg(test)]
#[path = "meta_tests.rs"]
mod tests;
