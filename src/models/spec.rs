//! The dimensions of a llama-family model.

use super::naming::{HEAD, Role, Split, TRANSFORMER_TOP, fused, group_scale_of, layer_names, role};
pub use crate::model::SpecError;
use crate::model::{Configuration, GROUP_SIZES, Model, Of, Role as Purpose, Value, family};
use crate::tensor::Shape;

/// The dimensions of a llama-family model and how its parameters are arranged for inference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSpec {
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
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether `lm_head` shares the embedding's weight.
    pub tied: bool,
    /// Whether the network wants `w_qkv` and `w_gate_hidden` (`qkv_concat`). `None`: not said.
    pub fused: Option<bool>,
    /// Whether the embedding and `lm_head` are kept whole on every rank (`vocab_emb_dp`).
    pub vocabulary_whole: bool,
}

/// The dimensions of a built-in model.
pub fn builtin(name: &str) -> Option<ModelSpec> {
    crate::model::builtin(name).map(|model| ModelSpec::of(&model))
}

impl ModelSpec {
    /// The dimensions of a model.
    pub fn of(model: &Model) -> Self {
        Self {
            hidden: model.hidden(),
            layers: model.layers(),
            heads: model.heads(),
            kv_heads: model.kv_heads(),
            head_dim: model.head_dim(),
            ffn: model.ffn().unwrap_or(1),
            vocab: model.vocab(),
            qkv_bias: model.qkv_bias(),
            tied: model.tied(),
            fused: model.fused,
            vocabulary_whole: model.vocabulary_whole,
        }
    }

    /// The model by the tables of its family: llama, or qwen2 where q, k and v have biases.
    ///
    /// # Errors
    /// Sizes that are those of no model, such as heads of one row where their number is not known.
    pub fn model(&self) -> Result<Model, SpecError> {
        let numbers = [
            ("hidden_size", self.hidden),
            ("num_hidden_layers", self.layers.into()),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("intermediate_size", self.ffn),
            ("vocab_size", self.vocab),
        ];
        #[expect(clippy::cast_precision_loss, reason = "sizes are below 2^32")]
        let numbers = numbers.map(|(name, n)| (name.to_owned(), Value::Number(n as f64)));
        let tied = ("tie_word_embeddings".to_owned(), Value::Flag(self.tied));
        let fields: Configuration = numbers.into_iter().chain([tied]).collect();
        let name = if self.qkv_bias { "qwen2" } else { "llama" };
        let family = family(name).ok_or_else(|| SpecError::Unsupported(name.to_owned()))?;
        let mut model = Model::read(family, "config.json", &fields)?;
        model.fused = self.fused;
        model.vocabulary_whole = self.vocabulary_whole;
        Ok(model)
    }

    /// The rows of q over all heads.
    pub fn query_rows(&self) -> u64 {
        self.heads.saturating_mul(self.head_dim)
    }

    /// The rows of k, and of v, over all heads.
    pub fn key_rows(&self) -> u64 {
        self.kv_heads.saturating_mul(self.head_dim)
    }

    /// The full shape of an unfused parameter, or `None` for a name or layer that the model does not have, and for what the
    /// model does not tell: how many columns share a scale.
    pub fn shape(&self, name: &str) -> Option<Shape> {
        let role = role(name)?;
        let Role { layer, suffix, split, .. } = role;
        if layer.is_some_and(|n| n >= self.layers) {
            return None;
        }
        // The size of the groups is the checkpoint's.
        if group_scale_of(name).is_some() {
            return None;
        }
        if let Some(dims) = self.quantised_dims(name, &role) {
            return Shape::new(dims).ok();
        }
        let dims = match suffix {
            "attention.wq.weight" => vec![self.query_rows(), self.hidden],
            "attention.wk.weight" | "attention.wv.weight" => vec![self.key_rows(), self.hidden],
            "attention.wq.bias" => vec![self.query_rows()],
            "attention.wk.bias" | "attention.wv.bias" => vec![self.key_rows()],
            "attention.wo.weight" => vec![self.hidden, self.query_rows()],
            "feed_forward.w1.weight" | "feed_forward.w3.weight" => vec![self.ffn, self.hidden],
            "feed_forward.w2.weight" => vec![self.hidden, self.ffn],
            _ if split == Split::Vocabulary => vec![self.vocab, self.hidden],
            _ => vec![self.hidden],
        };
        Shape::new(dims).ok()
    }

    /// Whether this may be the full shape of an unfused parameter that is the scales of groups: their size is the
    /// checkpoint's, not the model's.
    pub fn fits_groups(&self, name: &str, shape: &Shape) -> bool {
        let weight = group_scale_of(name).and_then(|weight| self.shape(&weight));
        match (weight.as_ref().map(Shape::dims), shape.dims()) {
            (Some(&[rows, columns]), &[found, groups]) => {
                let whole = |size: &u64| groups.checked_mul(*size) == Some(columns);
                found == rows && GROUP_SIZES.iter().any(whole)
            }
            _ => false,
        }
    }

    /// The full shape of a parameter, fused or not; a fused one has the rows of its parts.
    pub fn stored_shape(&self, name: &str) -> Option<Shape> {
        let Some(info) = fused(name).filter(|info| info.name == name) else { return self.shape(name) };
        let parts: Vec<Shape> = info.parts.iter().map(|part| self.shape(part)).collect::<Option<_>>()?;
        let mut dims = parts.first()?.dims().to_vec();
        *dims.first_mut()? = parts.iter().filter_map(|shape| shape.dims().first()).sum();
        Shape::new(dims).ok()
    }

    /// The full dimensions of a quantised parameter; `None` for any other.
    fn quantised_dims(&self, name: &str, role: &Role<'_>) -> Option<Vec<u64>> {
        if role.param.role == Purpose::Cache {
            return Some(if role.param.dims.len() > 1 { vec![2, self.key_rows()] } else { vec![self.key_rows()] });
        }
        let companion = role.companion?;
        let layer = name.strip_suffix(companion.tail.as_str())?;
        let weight = self.shape(&format!("{layer}weight"))?;
        let &[rows, columns] = weight.dims() else { return None };
        let dim = |of: &Of| match of {
            Of::Out => Some(rows),
            Of::In => Some(columns),
            Of::InPairs => Some(columns / 2),
            Of::InGroups | Of::OutBlocks | Of::InBlocks | Of::LoraRank => None,
        };
        companion.dims.iter().map(dim).collect()
    }

    /// The unfused parameters that a checkpoint of the model must hold.
    pub fn required(&self) -> impl Iterator<Item = String> + '_ {
        let layers = (0..self.layers).flat_map(|n| layer_names(n, self.qkv_bias));
        let top = TRANSFORMER_TOP.into_iter().filter(|name| !(self.tied && *name == HEAD));
        layers.chain(top.map(str::to_owned))
    }

    /// Whether `ranks` ranks can share the heads and the ffn rows.
    pub fn check_ranks(&self, ranks: u64) -> Result<(), SpecError> {
        let shared = [("attention heads", self.heads), ("kv heads", self.kv_heads), ("ffn rows", self.ffn)];
        match shared.into_iter().find(|(_, count)| ranks == 0 || count % ranks != 0) {
            None => Ok(()),
            Some((what, count)) => {
                let most = shared.into_iter().fold(0, |common, (_, count)| divisor(common, count));
                Err(SpecError::DoesNotDivide { ranks, count, what: what.to_owned(), most })
            }
        }
    }
}

/// The greatest common divisor; that of 0 and a number is the number.
fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Captures;
    use crate::models::{builtin, builtin_names};

    /// Their size is the checkpoint's, so the model's shapes leave it open.
    #[test]
    fn scales_of_groups_fit_a_model_with_any_size() {
        let spec = super::super::builtin("llama2_7b").unwrap();
        let fits = |layer: &str, dims: [u64; 2]| {
            let name = format!("model.layers.31.{layer}._layer.matmul.group_scale");
            assert_eq!(spec.shape(&name), None);
            spec.fits_groups(&name, &Shape::new(dims).unwrap())
        };
        assert!(fits("attention.wq", [4096, 64]) && fits("attention.wq", [4096, 32]));
        assert!(fits("feed_forward.w2", [4096, 172]) && fits("feed_forward.w1", [11008, 32]));
        for dims in [[4096, 4096], [4096, 16], [4096, 63], [2048, 64]] {
            assert!(!fits("attention.wq", dims), "{dims:?}");
        }
        let packed = spec.shape("model.layers.0.feed_forward.w2._layer.int4_weight").unwrap();
        assert_eq!(packed.dims(), [4096, 5504]);
    }

    #[test]
    fn the_model_by_its_tables_has_the_same_parameters_and_shapes() {
        for tied in [false, true] {
            for name in builtin_names() {
                let spec = ModelSpec { tied, fused: Some(true), vocabulary_whole: true, ..builtin(name).unwrap() };
                let model = spec.model().unwrap();
                let sizes = (model.hidden(), model.layers(), model.heads(), model.kv_heads(), model.head_dim());
                assert_eq!(sizes, (spec.hidden, spec.layers, spec.heads, spec.kv_heads, spec.head_dim), "{name}");
                assert_eq!((model.ffn(), model.vocab()), (Some(spec.ffn), spec.vocab), "{name}");
                let flags = (model.qkv_bias(), model.tied(), model.fused, model.vocabulary_whole);
                assert_eq!(flags, (spec.qkv_bias, tied, Some(true), true), "{name}");
                assert_eq!(model, model.clone().with_tied(!tied).with_tied(tied), "{name}");
                for ranks in 0..=65 {
                    assert_eq!(model.check_ranks(ranks), spec.check_ranks(ranks), "{name}: {ranks}");
                }
                let scheme = model.family().scheme("mindformers").unwrap();
                let mut names: Vec<String> = Vec::new();
                for &id in model.members() {
                    assert!(model.has(id));
                    let row = scheme.row_of(id.param).unwrap();
                    let name = row.pattern.name(Captures { layer: id.layer, expert: None }).unwrap();
                    assert_eq!(model.full_shape(id), spec.shape(&name), "{name}");
                    names.push(name);
                }
                let mut required: Vec<String> = spec.required().collect();
                names.sort();
                required.sort();
                assert_eq!(names, required, "{name}");
            }
        }
    }
}
