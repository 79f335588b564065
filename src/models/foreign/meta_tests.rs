//! The axes of Meta's shards.

use super::*;

fn shape(dims: &[u64]) -> Shape {
    Shape::new(dims).unwrap()
}

#[test]
fn each_parameter_is_cut_over_its_axis_and_the_embedding_over_the_one_that_its_shape_tells() {
    let axis = |name: &str, dims: &[u64], shards| shard_axis(name, &shape(dims), shards, 64);
    assert_eq!(axis("tok_embeddings.weight", &[96, 32], 2), Ok(Some(1)), "llama 2");
    assert_eq!(axis("tok_embeddings.weight", &[48, 64], 2), Ok(Some(0)), "llama 3");
    assert_eq!(axis("tok_embeddings.weight", &[96, 64], 1), Ok(None), "one shard");
    for (dims, shards) in
        [(&[96, 16][..], 2), (&[96, 64, 1], 2), (&[64], 2), (&[96, 0], 2), (&[96, 32], 1), (&[96, u64::MAX / 100], 2)]
    {
        let Ok(shape) = Shape::new(dims) else { continue };
        let error = shard_axis("tok_embeddings.weight", &shape, shards, 64).unwrap_err();
        assert!(matches!(error, ShardError::Embedding { .. }), "{dims:?}: {error}");
    }
    // As the shards of the original's own reader (`fairscale`): column-parallel layers by rows, row-parallel by columns.
    for (name, expected) in [
        ("output.weight", Some(0)),
        ("layers.1.attention.wq.weight", Some(0)),
        ("layers.1.attention.wk.weight", Some(0)),
        ("layers.1.attention.wv.weight", Some(0)),
        ("layers.1.attention.wo.weight", Some(1)),
        ("layers.1.feed_forward.w1.weight", Some(0)),
        ("layers.1.feed_forward.w2.weight", Some(1)),
        ("layers.1.feed_forward.w3.weight", Some(0)),
        ("layers.1.attention_norm.weight", None),
        ("layers.1.ffn_norm.weight", None),
        ("norm.weight", None),
        ("rope.freqs", None),
    ] {
        assert_eq!(axis(name, &[32, 32], 2), Ok(expected), "{name}");
        assert_eq!(axis(name, &[32, 32], 1), Ok(None), "{name}");
    }
    for name in ["layers.1.attention.wq.bias", "layers.x.attention.wq.weight", "model.norm.weight", ""] {
        assert_eq!(axis(name, &[32, 32], 2), Err(ShardError::Unknown(name.to_owned())));
    }
}
