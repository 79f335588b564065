//! A small random model as whole tensors, whose elements are numbered through, and the rows of its fused parameters.

use std::ops::Range;

use super::random::Random;
use crate::tensor::Dtype;

/// The dimensions of a model.
#[derive(Clone, Debug)]
pub(super) struct Dims {
    pub(super) kv_heads: usize,
    /// Query heads of one kv head.
    pub(super) repeat: usize,
    pub(super) head_dim: usize,
    pub(super) hidden: usize,
    pub(super) ffn: usize,
    pub(super) vocab: usize,
    pub(super) layers: usize,
    pub(super) bias: bool,
    pub(super) tied: bool,
    /// Norms of q and k, and the names of mindformers' later networks, whose fused parameters are grouped.
    pub(super) qwen3: bool,
}

impl Dims {
    /// `square`: as many rows of q as the model is wide.
    pub(super) fn random(random: &mut Random, square: bool) -> Self {
        let kv_heads = *random.pick(&[1, 2, 2, 3, 4, 4, 6, 8]);
        let repeat = *random.pick(if kv_heads > 4 { &[1, 1, 2] } else { &[1, 1, 2, 3] });
        let head_dim = *random.pick(if kv_heads * repeat > 6 { &[1, 2] } else { &[1, 2, 2, 3, 4] });
        let hidden = if square { kv_heads * repeat * head_dim } else { *random.pick(&[1, 2, 3, 4, 6, 8]) };
        let qwen3 = random.one_in(5);
        Self {
            kv_heads,
            repeat,
            head_dim,
            hidden,
            ffn: kv_heads * *random.pick(&[1, 1, 2, 3]),
            vocab: *random.pick(&[5, 6, 8, 9, 12, 16]),
            layers: *random.pick(&[1, 1, 1, 1, 2, 3]),
            bias: !qwen3 && random.one_in(2),
            tied: random.one_in(3),
            qwen3,
        }
    }

    pub(super) fn heads(&self) -> usize {
        self.kv_heads * self.repeat
    }

    pub(super) fn query_rows(&self) -> usize {
        self.heads() * self.head_dim
    }

    pub(super) fn key_rows(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// What a parameter is to the ranks of tensor parallelism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Whole,
    Rows,
    Columns,
    Vocabulary,
}

/// What a parameter is to the heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fusion {
    /// Scheme itself in every file.
    No,
    /// A part of `w_qkv`: 0, 1, 2.
    Attention,
    /// A part of `w_gate_hidden`: 0, 1.
    GateUp,
}

/// A parameter, unfused.
#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) layer: Option<usize>,
    pub(super) dims: Vec<usize>,
    pub(super) cut: Cut,
    pub(super) fused: Fusion,
    /// The number of its first element; the others follow in row-major order.
    pub(super) first: u32,
}

/// What files hold as one tensor: a parameter, or several that are fused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Item {
    pub(super) name: String,
    /// Indices of parameters.
    pub(super) parts: Vec<usize>,
}

/// A model.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) dims: Dims,
    pub(super) dtype: Dtype,
    pub(super) parameters: Vec<Parameter>,
}

/// Numbers begin here: no element's bytes are all alike, so that no tensor looks as if it had never been filled.
const FIRST: u32 = 0x0102;

pub(super) const EMBEDDING: &str = "model.tok_embeddings.embedding_weight";

impl Model {
    pub(super) fn new(dims: &Dims, dtype: Dtype) -> Self {
        let mut model = Self { dims: dims.clone(), dtype, parameters: Vec::new() };
        let (d, q, kv, ffn) = (dims.hidden, dims.query_rows(), dims.key_rows(), dims.ffn);
        model.add(None, EMBEDDING, &[dims.vocab, d], Cut::Vocabulary, Fusion::No);
        for layer in 0..dims.layers {
            let layer = Some(layer);
            model.add(layer, "attention_norm.weight", &[d], Cut::Whole, Fusion::No);
            for (name, rows) in [("wq", q), ("wk", kv), ("wv", kv)] {
                model.add(layer, &format!("attention.{name}.weight"), &[rows, d], Cut::Rows, Fusion::Attention);
            }
            for (name, rows) in [("wq", q), ("wk", kv), ("wv", kv)].into_iter().filter(|_| dims.bias) {
                model.add(layer, &format!("attention.{name}.bias"), &[rows], Cut::Rows, Fusion::Attention);
            }
            for name in ["q_norm", "k_norm"].into_iter().filter(|_| dims.qwen3) {
                model.add(layer, &format!("attention.{name}.weight"), &[dims.head_dim], Cut::Whole, Fusion::No);
            }
            model.add(layer, "attention.wo.weight", &[d, q], Cut::Columns, Fusion::No);
            model.add(layer, "ffn_norm.weight", &[d], Cut::Whole, Fusion::No);
            model.add(layer, "feed_forward.w1.weight", &[ffn, d], Cut::Rows, Fusion::GateUp);
            model.add(layer, "feed_forward.w3.weight", &[ffn, d], Cut::Rows, Fusion::GateUp);
            model.add(layer, "feed_forward.w2.weight", &[d, ffn], Cut::Columns, Fusion::No);
        }
        model.add(None, "model.norm_out.weight", &[d], Cut::Whole, Fusion::No);
        if !dims.tied {
            model.add(None, "lm_head.weight", &[dims.vocab, d], Cut::Vocabulary, Fusion::No);
        }
        assert!(model.end() < 1 << 16, "two bytes number all elements");
        model
    }

    fn end(&self) -> u32 {
        self.parameters.last().map_or(FIRST, |p| p.first + count(&p.dims))
    }

    fn add(&mut self, layer: Option<usize>, name: &str, dims: &[usize], cut: Cut, fused: Fusion) {
        let first = self.end();
        let name = layer.map_or_else(|| name.to_owned(), |layer| format!("model.layers.{layer}.{name}"));
        self.parameters.push(Parameter { name, layer, dims: dims.to_vec(), cut, fused, first });
    }

    /// How many parameters, from this one on, can be fused to one. It must not be a later part.
    pub(super) fn parts(&self, index: usize) -> usize {
        match self.parameters[index].fused {
            Fusion::No => 1,
            Fusion::Attention => 3,
            Fusion::GateUp => 2,
        }
    }

    /// What a name of llama's is in the model's files.
    fn in_files(&self, name: &str) -> String {
        let table = [
            ("model.tok_embeddings.embedding_weight", "embedding.word_embeddings.weight"),
            ("model.norm_out", "decoder.final_layernorm"),
            ("lm_head", "output_layer"),
            ("model.layers", "decoder.layers"),
            ("attention_norm", "input_layernorm"),
            ("ffn_norm", "pre_mlp_layernorm"),
            ("attention.q_norm", "self_attention.q_layernorm"),
            ("attention.k_norm", "self_attention.k_layernorm"),
            ("attention.w_qkv", "self_attention.linear_qkv"),
            ("attention.wq", "self_attention.linear_q"),
            ("attention.wk", "self_attention.linear_k"),
            ("attention.wv", "self_attention.linear_v"),
            ("attention.wo", "self_attention.linear_proj"),
            ("feed_forward.w_gate_hidden", "mlp.linear_fc1"),
            ("feed_forward.w1", "mlp.gating"),
            ("feed_forward.w3", "mlp.hidden"),
            ("feed_forward.w2", "mlp.linear_fc2"),
        ];
        let table = table.iter().filter(|_| self.dims.qwen3);
        table.fold(name.to_owned(), |name, (llama, own)| name.replace(llama, own))
    }

    /// A parameter by itself.
    pub(super) fn plain(&self, index: usize) -> Item {
        Item { name: self.in_files(&self.parameters[index].name), parts: vec![index] }
    }

    /// A parameter and those that follow it, fused.
    pub(super) fn fused(&self, index: usize) -> Item {
        let one = &self.parameters[index];
        let name = match one.fused {
            Fusion::No => one.name.clone(),
            Fusion::Attention => one.name.replacen(".wq.", ".w_qkv.", 1),
            Fusion::GateUp => one.name.replacen(".w1.", ".w_gate_hidden.", 1),
        };
        Item { name: self.in_files(&name), parts: (index..index + self.parts(index)).collect() }
    }

    /// The rows of what is item, each as part and row, in the order in which a file of the whole model holds them.
    pub(super) fn rows(&self, item: &Item, grouped: bool) -> Vec<(usize, usize)> {
        let rows_of = |part: usize| self.parameters[item.parts[part]].dims.first().copied().unwrap_or(1);
        let each = |part: usize, range: Range<usize>| range.map(move |row| (part, row));
        let mut rows = Vec::new();
        match self.parameters[item.parts[0]].fused {
            // For each kv head its query heads, its key, its value.
            Fusion::Attention if grouped && item.parts.len() > 1 => {
                let head = self.dims.head_dim;
                for group in 0..self.dims.kv_heads {
                    let repeat = self.dims.repeat;
                    rows.extend(each(0, group * repeat * head..(group + 1) * repeat * head));
                    rows.extend(each(1, group * head..(group + 1) * head));
                    rows.extend(each(2, group * head..(group + 1) * head));
                }
            }
            Fusion::GateUp if grouped && item.parts.len() > 1 => {
                rows.extend((0..rows_of(0)).flat_map(|row| [(0, row), (1, row)]));
            }
            _ => rows.extend((0..item.parts.len()).flat_map(|part| each(part, 0..rows_of(part)))),
        }
        rows
    }
}

fn count(dims: &[usize]) -> u32 {
    u32::try_from(dims.iter().product::<usize>()).expect("small")
}
