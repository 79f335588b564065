//! On which stored dimension tensor-parallel ranks share a tensor.

use super::companion::{Companion, Of, OwnSizes};
use super::companion_pack::{axes_of_companion, product};
use super::dialect::Stored;
use super::family::Family;
use super::param::{Axis, Dims, Mesh, Param, Role, Sizes};
use super::scheme::{EXPERT, PackPart, Row};

/// The axis of key/value heads: what is cut over it must not be cut through a head.
const KV_HEAD: &str = "KvHead";
/// The axis of the rows of a head.
const HEAD_DIM: &str = "HeadDim";
/// The rows and columns of a block that shares a scale, in the checkpoints that have such blocks.
const BLOCK: u64 = 128;
/// The axis of the query heads that share a key/value head.
const QUERY: &str = "Query";

impl Family {
    fn dims_of<'a>(&'a self, part: &'a PackPart) -> &'a Dims {
        part.dims.as_ref().unwrap_or(&self.params()[usize::from(part.param)].dims)
    }

    /// The stored dimension that tensor-parallel ranks share; `None`: each holds the tensor whole.
    pub fn cut_dim(&self, stored: &Stored) -> Option<usize> {
        let part = stored.row.pack.parts.first()?;
        let param = self.params().get(usize::from(part.param))?;
        let axis = tensor_axis(param)?;
        let dims = self.dims_of(part);
        match stored.companion {
            None => {
                // A name that numbers the experts is of one: its file does not have their axis.
                let of_experts = |axis: &Axis| stored.row.pattern.has_expert() && self.axis_name(*axis) == EXPERT;
                dims.iter().filter(|dim| !dim.iter().all(of_experts)).position(|dim| dim.contains(&axis))
            }
            Some(companion) => companion.dims.iter().position(|&of| {
                let slots = axes_of_companion(of, &param.dims, OwnSizes::NONE, &Sizes(Vec::new()));
                slots.iter().any(|slot| slot.axes().contains(&axis))
            }),
        }
    }

    /// Whether what a rank holds is a slice of the whole stored tensor, or, where parts follow one another, of each part. Where it
    /// is not, as of several experts in one matrix, only the rank's share says what it holds.
    pub fn is_sliced(&self, row: &Row) -> bool {
        row.pack.parts.iter().all(|part| {
            let param = &self.params()[usize::from(part.param)];
            let Some(axis) = tensor_axis(param) else { return true };
            match row.pack.outer.first() {
                Some(first) => *first == axis,
                None => self.dims_of(part).iter().all(|dim| !dim.contains(&axis) || dim.first() == Some(&axis)),
            }
        })
    }

    /// Whether there are more tensor-parallel ranks than the first axis that they share is long, and it is an axis that they may
    /// share further or hold alike: then only a rank's share says what it holds.
    pub fn exceeds(&self, row: &Row, sizes: &Sizes, ranks: u64) -> bool {
        row.params().any(|param| {
            let param = &self.params()[usize::from(param)];
            let mut axes = param.cut.iter().filter(|cut| cut.mesh == Mesh::Tensor).map(|cut| cut.axis);
            let Some(first) = axes.next() else { return false };
            let size = sizes.of(first);
            ranks > size && ranks.is_multiple_of(size) && (axes.next().is_some() || self.replicates(first))
        })
    }

    /// Into how many different shares tensor-parallel ranks cut what a row stores, where several hold the same of a parameter. `None`:
    /// not as many of each of its parameters.
    pub fn shares(&self, row: &Row, sizes: &Sizes, ranks: u64) -> Option<u64> {
        let mut ways = row.params().map(|param| self.ways(param, sizes, ranks));
        let first = ways.next()?;
        ways.all(|ways| ways == first).then_some(first)
    }

    /// Whether several ranks may hold the same of an axis that they share.
    pub fn has_replicated_axes(&self) -> bool {
        self.params().iter().flat_map(|param| &param.cut).any(|cut| self.replicates(cut.axis))
    }

    /// Whether the rows of a parameter are those of heads: of q, k and v.
    pub fn has_rows_of_heads(&self, param: u16) -> bool {
        self.params().get(usize::from(param)).is_some_and(|param| {
            matches!(param.role, Role::Linear | Role::Bias)
                && param.dims.first().is_some_and(|rows| rows.iter().any(|axis| self.axis_name(*axis) == KV_HEAD))
        })
    }

    /// The weights of the query and of the key projection; `None` where the family has no such two.
    pub fn query_and_key(&self) -> Option<(u16, u16)> {
        let of = |query: bool| {
            let is = |param: &Param| {
                let rows = param.dims.first().is_some_and(|rows| {
                    let has = |name: &str| rows.iter().any(|axis| self.axis_name(*axis) == name);
                    has(KV_HEAD) && has(QUERY) == query
                });
                param.role == Role::Linear && rows
            };
            self.params().iter().position(is).and_then(|at| u16::try_from(at).ok())
        };
        Some((of(true)?, of(false)?))
    }

    /// The sizes of the axes of heads: as many key/value heads, of as many rows.
    pub fn heads(&self, kv_heads: u64, head_dim: u64) -> Vec<(Axis, u64)> {
        [(KV_HEAD, kv_heads), (HEAD_DIM, head_dim)]
            .into_iter()
            .filter_map(|(name, size)| Some((self.axis(name)?, size)))
            .collect()
    }

    /// Sizes that are the checkpoint's own, by the full dimensions of a companion. `None`: they are none that it can have.
    pub fn own_sizes(&self, param: u16, companion: &Companion, dims: &[u64], sizes: &Sizes) -> Option<OwnSizes> {
        let mut own = OwnSizes::NONE;
        let param = self.params().get(usize::from(param))?;
        for (of, &len) in companion.dims.iter().zip(dims) {
            match of {
                Of::LoraRank => own.lora_rank = len,
                // As many blocks may be of several sizes: only the usual one is looked for.
                Of::InBlocks if product(param.dims.last()?, sizes)?.div_ceil(BLOCK) == len => {
                    own.block = (BLOCK, BLOCK);
                }
                Of::InBlocks => return None,
                Of::InGroups => {
                    let columns = product(param.dims.last()?, sizes)?;
                    own.group = columns.checked_div(len).filter(|group| group * len == columns)?;
                }
                Of::Out | Of::In | Of::InPairs | Of::OutBlocks => {}
            }
        }
        Some(own)
    }
}

fn tensor_axis(param: &Param) -> Option<Axis> {
    param.cut.iter().find(|cut| cut.mesh == Mesh::Tensor).map(|cut| cut.axis)
}

#[cfg(test)]
mod tests {
    use crate::model::{Dialect, Place, builtin_family};

    #[test]
    fn tensors_are_cut_where_their_axis_is() {
        let cut = |family: &str, scheme: &str, name: &str| {
            let family = builtin_family(family).unwrap();
            let Place::Stored(stored) = Dialect::of(family, scheme).unwrap().place(name) else { panic!("{name}") };
            (family.cut_dim(&stored), family.is_sliced(stored.row))
        };
        for (name, dim) in [
            ("model.layers.0.attention.wq.weight", Some(0)),
            ("model.layers.0.attention.wo.weight", Some(1)),
            ("model.layers.0.ffn_norm.weight", None),
            ("model.layers.0.attention.wo.lora_A.weight", Some(1)),
            ("model.layers.0.attention.wo.lora_B.weight", None),
            ("model.layers.0.attention.wq.mindpet_delta_lora_b", Some(0)),
            ("model.layers.0.attention.wo._layer.matmul.t_scale", None),
            ("model.layers.0.attention.wo.input_scale", Some(0)),
            ("lm_head.weight", Some(0)),
        ] {
            assert_eq!(cut("llama", "mindformers", name), (dim, true), "{name}");
        }
        assert_eq!(cut("llama", "mindformers/grouped", "model.layers.0.attention.w_qkv.weight"), (Some(0), true));
        let of_expert =
            |name: &str| cut("qwen3_moe", "mcore/split", &format!("decoder.layers.0.mlp.experts.3.{name}.weight"));
        assert_eq!((of_expert("gating").0, of_expert("linear_fc2").0), (Some(0), Some(1)));
        assert_eq!(cut("mixtral", "hf", "model.layers.0.mlp.experts.gate_up_proj"), (Some(1), false));
        assert_eq!(cut("qwen3_moe", "mcore", "decoder.layers.0.mlp.experts.weight2"), (Some(0), false));
    }

    #[test]
    fn query_and_key_are_known_by_their_axes() {
        let family = builtin_family("qwen2").unwrap();
        let (query, key) = family.query_and_key().unwrap();
        assert_eq!(
            (family.params()[usize::from(query)].id.as_str(), family.params()[usize::from(key)].id.as_str()),
            ("q", "k")
        );
    }
}
