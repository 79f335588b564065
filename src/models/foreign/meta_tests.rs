//! Meta's published `params.json`, its rule of the ffn rows, and the axes of its shards.

use super::super::super::builtin;
use super::*;

fn read(json: &str) -> Result<MetaParams, SpecError> {
    MetaParams::read(json.as_bytes())
}

fn shape(dims: &[u64]) -> Shape {
    Shape::new(dims).unwrap()
}

#[test]
fn published_params_give_the_built_in_models() {
    for (name, json, rows) in [
        (
            "llama2_7b",
            r#"{"dim":4096,"multiple_of":256,"n_heads":32,"n_layers":32,"norm_eps":1e-5,"vocab_size":-1}"#,
            32000,
        ),
        (
            "llama2_70b",
            r#"{"dim":8192,"multiple_of":4096,"ffn_dim_multiplier":1.3,"n_heads":64,"n_kv_heads":8,"n_layers":80,
            "norm_eps":1e-5,"vocab_size":-1}"#,
            32000,
        ),
        (
            "llama3_8b",
            r#"{"dim":4096,"n_layers":32,"n_heads":32,"n_kv_heads":8,"vocab_size":128256,"multiple_of":1024,
            "ffn_dim_multiplier":1.3,"norm_eps":1e-5,"rope_theta":500000.0}"#,
            128_256,
        ),
    ] {
        let params = read(json).unwrap();
        assert_eq!(params.spec(Some(rows), None).unwrap(), builtin(name).unwrap(), "{name}");
    }
}

#[test]
fn what_the_file_leaves_open_the_tensors_tell() {
    let open = read(r#"{"dim":64,"n_layers":2,"n_heads":4,"vocab_size":-1}"#).unwrap();
    assert_eq!((open.dim, open.vocab, open.ffn), (64, None, None));
    assert_eq!(open.spec(None, Some(160)).unwrap_err(), SpecError::Missing("vocab_size"));
    assert_eq!(open.spec(Some(96), None).unwrap_err(), SpecError::Missing("multiple_of"));
    let spec = open.spec(Some(96), Some(160)).unwrap();
    assert_eq!((spec.vocab, spec.ffn, spec.kv_heads, spec.head_dim), (96, 160, 4, 16));
    let said = read(r#"{"dim":64,"n_layers":2,"n_heads":4,"vocab_size":97,"multiple_of":32}"#).unwrap();
    assert_eq!(said.ffn, Some(192), "170 rounded up");
    assert_eq!(said.spec(None, Some(160)).unwrap().ffn, 160, "the tensors are there, the rule is only a rule");
    let error = said.spec(Some(96), None).unwrap_err().to_string();
    assert!(error.contains("vocab_size") && error.contains("97"), "{error}");
    assert!(said.spec(Some(97), Some(u64::MAX)).is_err(), "no tensor is that large");
}

#[test]
fn wrong_and_foreign_params_are_refused_by_name() {
    let with = |field: &str| {
        let error = read(&format!(r#"{{{field},"n_layers":2,"n_heads":4,"vocab_size":96}}"#)).unwrap_err();
        error.to_string()
    };
    for (field, name) in [
        (r#""dim":-1"#, "dim"),
        (r#""dim":66"#, "n_heads"),
        (r#""dim":12"#, "head_dim"),
        (r#""dim":64,"n_kv_heads":3"#, "n_kv_heads"),
        (r#""dim":64,"multiple_of":0"#, "multiple_of"),
        (r#""dim":64,"multiple_of":32,"ffn_dim_multiplier":1e9"#, "ffn_dim_multiplier"),
        (r#""dim":64,"ffn_dim_multiplier":"1.3""#, "ffn_dim_multiplier"),
        (r#""dim":64,"moe":{"num_experts":8}"#, "moe"),
        (r#""dim":64,"quantization_args":{}"#, "quantization_args"),
        (r#""dim":64,"dim":64"#, "dim"),
    ] {
        let error = with(field);
        assert!(error.contains(name), "{field}: {error}");
    }
    for json in ["", "[]", "{}", r#"{"dim":64,"n_layers":2,"n_heads":4,"vocab_size":-2}"#] {
        assert!(read(json).is_err(), "{json}");
    }
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
