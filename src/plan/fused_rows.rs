//! The rows of a fused parameter's parts, and what a checkpoint's shapes say about its model.

use super::catalog::{Catalog, LogicalTensor};
use super::pieces::Part;
use crate::model::naming::{Fused, Grouping, before, columns_in_one, role};
use crate::models::{ModelSpec, builtin, builtin_names};

/// The axes as which a parameter's rows are read, so that every grouped piece of it is a box: one axis unless `refine`
/// gives the model's heads and the parameter is part of a fused one.
pub(super) fn radices(fused: Option<&Fused>, name: &str, rows: u64, refine: Option<&ModelSpec>) -> Vec<u64> {
    let (Some(spec), Some(fused)) = (refine, fused.filter(|f| !f.shared)) else { return vec![rows] };
    let Some(index) = fused.parts.iter().position(|part| part == name) else { return vec![rows] };
    let grouping = grouping(fused, spec);
    vec![grouping.groups, grouping.slots[index], grouping.height]
}

/// How the parts of a grouped parameter alternate.
pub(super) fn grouping(fused: &Fused, spec: &ModelSpec) -> Grouping {
    if fused.query_rows_of.is_some() {
        Grouping { groups: spec.kv_heads, slots: vec![spec.heads / spec.kv_heads, 1, 1], height: spec.head_dim }
    } else {
        Grouping { groups: spec.ffn, slots: vec![1, 1], height: 1 }
    }
}

/// The rows of each part of a fused parameter that has `total` rows over all ranks, or what was expected instead.
/// `query_rows`: the rows of q, known from the model or from the output projection.
pub(super) fn parts(
    fused: &Fused,
    total: u64,
    query_rows: Option<u64>,
    refine: Option<&ModelSpec>,
) -> Result<Vec<Part>, String> {
    let rows = if fused.query_rows_of.is_some() {
        let Some(query) = query_rows else {
            return Err("known without the output projection `attention.wo`: name the model with -y".to_owned());
        };
        let rest = total.checked_sub(query).filter(|rest| *rest > 0 && rest % 2 == 0);
        let key = rest.map(|rest| rest / 2).filter(|&key| key <= query && query % key == 0);
        let Some(key) = key else {
            return Err(format!("{query} rows of q plus equally many of k and v"));
        };
        vec![query, key, key]
    } else if total.is_multiple_of(2) {
        vec![total / 2; 2]
    } else {
        return Err("twice the rows of gate".to_owned());
    };
    let part = |(name, rows): (&String, u64)| Part { rows, radices: radices(Some(fused), name, rows, refine) };
    Ok(fused.parts.iter().zip(rows).map(part).collect())
}

/// The full dimensions of a parameter, quantised or not, in the first layer that has it.
pub(super) fn full_dims(catalog: &Catalog, suffix: &str) -> Option<Vec<u64>> {
    let of = |t: &&LogicalTensor| {
        let plain = before(&t.name);
        role(plain.as_deref().unwrap_or(&t.name)).is_some_and(|r| r.suffix == suffix)
    };
    let tensor = catalog.tensors().iter().find(of)?;
    let mut dims = tensor.shape.dims().to_vec();
    *dims.last_mut()? *= columns_in_one(&tensor.name);
    Some(dims)
}

/// What a checkpoint's shapes say about its model. The number of heads cannot be seen; it is known only where the shapes
/// are those of a built-in model.
pub fn infer_spec(catalog: &Catalog) -> Option<(ModelSpec, Option<&'static str>)> {
    let dims = |suffix: &str| full_dims(catalog, suffix);
    let query = dims("attention.wq.weight")?;
    let key = dims("attention.wk.weight")?;
    let gate = dims("feed_forward.w1.weight")?;
    let embedding = dims("model.tok_embeddings.embedding_weight")?;
    let (&[query_rows, hidden], &[key_rows, _], &[ffn, _], &[vocab, _]) =
        (query.as_slice(), key.as_slice(), gate.as_slice(), embedding.as_slice())
    else {
        return None;
    };
    let layers = catalog.tensors().iter().filter_map(|t| role(&t.name)?.layer).max()? + 1;
    let known = builtin_names().find_map(|name| {
        let spec = builtin(name)?;
        let same = (spec.hidden, spec.query_rows(), spec.key_rows(), spec.ffn, spec.vocab);
        (same == (hidden, query_rows, key_rows, ffn, vocab)).then_some((name, spec))
    });
    let (heads, kv_heads, head_dim) =
        known.as_ref().map_or((query_rows, key_rows, 1), |(_, s)| (s.heads, s.kv_heads, s.head_dim));
    let spec = ModelSpec {
        hidden,
        layers,
        heads,
        kv_heads,
        head_dim,
        ffn,
        vocab,
        qkv_bias: dims("attention.wq.bias").is_some(),
        tied: !catalog.has_head(),
        fused: None,
        vocabulary_whole: false,
    };
    Some((spec, known.map(|(name, _)| name)))
}
