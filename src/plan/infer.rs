//! What a checkpoint's shapes say about its model.

use super::PlanError;
use super::catalog::{Catalog, LogicalTensor, Sized};
use super::heads::Heads;
use crate::model::{Model, ParamId, Quantity, Role, builtin, builtin_names};

/// A model as the shapes of a checkpoint show it.
#[derive(Clone, Debug)]
pub struct Inferred {
    /// The model. Without stated heads, and where it is no built-in one, the number of heads is none that it has.
    pub model: Model,
    /// The built-in model that has these shapes.
    pub builtin: Option<&'static str>,
    /// Whether the number of heads is known.
    pub heads_known: bool,
}

/// What a checkpoint's shapes say about its model. The number of heads cannot be seen; it is known where the user states it, and
/// where the shapes are those of a built-in model. `None`: the checkpoint has no layers.
///
/// # Errors
/// Heads that are stated and that the rows of q and k do not have.
pub fn infer(catalog: &Catalog, stated: Heads) -> Result<Option<Inferred>, PlanError> {
    let embedding = catalog.of_role(Role::Embedding);
    let known = catalog.sized.as_ref().zip(catalog.query_and_key_rows()).filter(|_| embedding.is_some());
    let Some((sized, (query, key))) = known else {
        if stated.is_stated() {
            let why = "--heads and --kv-heads: the checkpoint holds no q and k whose rows they could divide";
            return Err(PlanError::Heads(why.to_owned()));
        }
        return Ok(None);
    };
    let seen = catalog.model(sized, sized.sizes.clone());
    let shapes = |model: &Model| {
        (
            model.family(),
            model.hidden(),
            model.query_rows(),
            model.key_rows(),
            model.ffn(),
            model.vocab(),
            model.qkv_bias(),
        )
    };
    let same = builtin_names().find_map(|name| {
        let model = builtin(name)?;
        (shapes(&model) == shapes(&seen)).then_some((name, model))
    });
    let heads = match (&same, stated.is_stated()) {
        (_, true) => stated.of_rows(query, key)?.map(|(_, kv_heads, head_dim)| (kv_heads, head_dim)),
        (Some((_, model)), false) => Some((model.kv_heads(), model.head_dim())),
        (None, false) => None,
    };
    let builtin = same.map(|(name, _)| name);
    Ok(Some(match heads {
        Some((kv_heads, head_dim)) => {
            let sizes = sized.with_heads(kv_heads, head_dim)?;
            Inferred { model: catalog.model(sized, sizes), builtin, heads_known: true }
        }
        None => Inferred { model: seen, builtin, heads_known: sized.open.is_empty() },
    }))
}

impl Catalog {
    fn model(&self, sized: &Sized, sizes: crate::model::Sizes) -> Model {
        let members: Vec<ParamId> = self.tensors().iter().filter_map(is_member).collect();
        Model::with_sizes(sized.family, sizes, members)
    }

    /// The rows of q and of k over all heads, of the first layer that has them, quantised or not.
    pub(super) fn query_and_key_rows(&self) -> Option<(u64, u64)> {
        let (query, key) = self.family()?.query_and_key()?;
        let rows = |param: u16| {
            let of = |t: &&LogicalTensor| t.id.is_some_and(|id| id.param.param == param) && is_member(t).is_some();
            self.tensors().iter().find(of)?.shape.dims().first().copied()
        };
        Some((rows(query)?, rows(key)?))
    }
}

/// The parameter that a tensor is, quantised or not; `None` for what goes with one.
fn is_member(tensor: &LogicalTensor) -> Option<ParamId> {
    let id = tensor.id?;
    let quantity = id.companion().map(|companion| companion.quantity);
    matches!(quantity, None | Some(Quantity::Weight | Quantity::PackedWeight)).then_some(id.param)
}
