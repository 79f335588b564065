//! Meta's releases: how `consolidated.<nn>.pth` cut the parameters.

use super::tables::is_buffer;
use crate::tensor::Shape;

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
