//! A small llama as whole tensors, and naive slicing of it, row by row and element by element.

use std::path::Path;

use super::{Float, Tensor, write_ckpt, write_safetensors};

/// The order of rows in fused parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fusion {
    RankConcat,
    Grouped,
}

impl Fusion {
    /// The name on the command line.
    pub(crate) fn option(self) -> &'static str {
        if self == Self::Grouped { "grouped" } else { "rank-concat" }
    }
}

/// What the elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    /// Any bits.
    Bits,
    /// Numbers of all sizes, many at the edges of fp16.
    Numbers,
}

/// How a checkpoint of the model is laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sharding {
    pub(crate) ranks: u64,
    pub(crate) fusion: Option<Fusion>,
    pub(crate) vocabulary_whole: bool,
}

/// A model.
#[derive(Clone, Debug)]
pub(crate) struct Llama {
    pub(crate) kv_heads: u64,
    pub(crate) rep: u64,
    pub(crate) head_dim: u64,
    pub(crate) ffn: u64,
    pub(crate) vocab: u64,
    pub(crate) layers: u64,
    pub(crate) bias: bool,
    pub(crate) float: Float,
    pub(crate) values: Values,
    pub(crate) seed: u64,
}

impl Llama {
    /// 16 heads, 8 kv heads, fp16: what most tests start from.
    pub(crate) fn small() -> Self {
        Self {
            kv_heads: 8,
            rep: 2,
            head_dim: 2,
            ffn: 48,
            vocab: 24,
            layers: 1,
            bias: false,
            float: Float::Fp16,
            values: Values::Bits,
            seed: 7,
        }
    }

    pub(crate) fn hidden(&self) -> u64 {
        self.kv_heads * self.rep * self.head_dim
    }

    /// A mindformers yaml of the model as the target wants it.
    pub(crate) fn yaml(&self, fused: bool, vocabulary_whole: bool) -> String {
        format!(
            "model:\n  arch:\n    type: LlamaForCausalLM\n  model_config:\n    hidden_size: {}\n    num_layers: {}\n    \
             num_heads: {}\n    n_kv_heads: {}\n    intermediate_size: {}\n    vocab_size: {}\n    qkv_has_bias: {}\n    \
             qkv_concat: {}\nparallel_config:\n  vocab_emb_dp: {}\n",
            self.hidden(),
            self.layers,
            self.kv_heads * self.rep,
            self.kv_heads,
            self.ffn,
            self.vocab,
            self.bias,
            fused,
            vocabulary_whole
        )
    }

    /// Names, dims and the axis that ranks share, in the order of a file. Fused parts are where the whole will be.
    fn parameters(&self) -> Vec<(String, Vec<u64>, Option<usize>)> {
        let (d, kv) = (self.hidden(), self.kv_heads * self.head_dim);
        let mut all = vec![("model.tok_embeddings.embedding_weight".to_owned(), vec![self.vocab, d], Some(0))];
        for layer in 0..self.layers {
            let mut add = |name: &str, dims: &[u64], axis| {
                all.push((format!("model.layers.{layer}.{name}"), dims.to_vec(), axis));
            };
            add("attention_norm.weight", &[d], None);
            for (name, rows) in [("wq", d), ("wk", kv), ("wv", kv)] {
                add(&format!("attention.{name}.weight"), &[rows, d], Some(0));
            }
            if self.bias {
                for (name, rows) in [("wq", d), ("wk", kv), ("wv", kv)] {
                    add(&format!("attention.{name}.bias"), &[rows], Some(0));
                }
            }
            add("attention.wo.weight", &[d, d], Some(1));
            add("ffn_norm.weight", &[d], None);
            add("feed_forward.w1.weight", &[self.ffn, d], Some(0));
            add("feed_forward.w3.weight", &[self.ffn, d], Some(0));
            add("feed_forward.w2.weight", &[d, self.ffn], Some(1));
        }
        all.push(("model.norm_out.weight".to_owned(), vec![d], None));
        all.push(("lm_head.weight".to_owned(), vec![self.vocab, d], Some(0)));
        all
    }

    /// The whole tensors.
    pub(crate) fn full(&self) -> Vec<Tensor> {
        let mut random = Random(self.seed);
        let mut tensor = |(name, dims, _): (String, Vec<u64>, Option<usize>)| {
            let elements: u64 = dims.iter().product();
            let bytes = (0..elements).flat_map(|_| random.element(self.float, self.values)).collect();
            Tensor { name, dtype: self.float.dtype().to_owned(), dims, bytes }
        };
        self.parameters().into_iter().map(&mut tensor).collect()
    }

    /// What one rank holds.
    pub(crate) fn rank(&self, full: &[Tensor], rank: u64, sharding: Sharding) -> Vec<Tensor> {
        let size = self.float.size();
        let axes: Vec<_> = self.parameters().into_iter().map(|(_, _, axis)| axis).collect();
        let mut out: Vec<Tensor> = Vec::new();
        for (tensor, axis) in full.iter().zip(axes) {
            if let Some(fusion) = sharding.fusion
                && let Some((name, parts)) = fused_of(&tensor.name)
            {
                if parts[0] == tensor.name {
                    out.push(self.fuse(full, name, &parts, rank, sharding.ranks, fusion));
                }
                continue;
            }
            let vocabulary = tensor.dims[0] == self.vocab && tensor.dims.len() == 2 && !tensor.name.contains("layers");
            let whole = vocabulary && (sharding.vocabulary_whole || !self.vocab.is_multiple_of(sharding.ranks));
            let axis = axis.filter(|_| !whole);
            let mut dims = tensor.dims.clone();
            let columns = if dims.len() > 1 { dims[1] } else { 1 };
            let mut bytes = Vec::new();
            for row in 0..dims[0] {
                for column in 0..columns {
                    let mine = match axis {
                        None => true,
                        Some(0) => row / (dims[0] / sharding.ranks) == rank,
                        Some(_) => column / (columns / sharding.ranks) == rank,
                    };
                    if mine {
                        bytes.extend(element(&tensor.bytes, row * columns + column, size));
                    }
                }
            }
            if let Some(axis) = axis {
                dims[axis] /= sharding.ranks;
            }
            out.push(Tensor { dims, bytes, ..tensor.clone() });
        }
        out
    }

    fn fuse(&self, full: &[Tensor], name: String, parts: &[String], rank: u64, ranks: u64, fusion: Fusion) -> Tensor {
        let part = |name: &String| full.iter().find(|t| t.name == *name).expect("a part");
        let parts: Vec<&Tensor> = parts.iter().map(part).collect();
        let row_bytes = usize::try_from(parts[0].dims[1..].iter().product::<u64>()).expect("small") * self.float.size();
        let rows = self.fused_rows(&parts.iter().map(|t| t.dims[0]).collect::<Vec<_>>(), rank, ranks, fusion);
        let bytes = rows.iter().flat_map(|&(part, row)| element(&parts[part].bytes, row, row_bytes)).collect();
        let mut dims = parts[0].dims.clone();
        dims[0] = rows.len() as u64;
        Tensor { name, dtype: parts[0].dtype.clone(), dims, bytes }
    }

    /// The rows of a fused parameter of one rank: which part, which of its rows.
    pub(crate) fn fused_rows(&self, parts: &[u64], rank: u64, ranks: u64, fusion: Fusion) -> Vec<(usize, u64)> {
        let mut rows = Vec::new();
        if fusion == Fusion::RankConcat {
            for (part, count) in parts.iter().enumerate() {
                let mine = count / ranks;
                rows.extend((rank * mine..(rank + 1) * mine).map(|row| (part, row)));
            }
            return rows;
        }
        // The whole model's order, of which each rank holds a run.
        if let [gate, _] = parts {
            rows.extend((0..*gate).flat_map(|row| [(0, row), (1, row)]));
        } else {
            for group in 0..self.kv_heads {
                let head = self.head_dim;
                rows.extend((group * self.rep * head..(group + 1) * self.rep * head).map(|row| (0, row)));
                rows.extend((group * head..(group + 1) * head).map(|row| (1, row)));
                rows.extend((group * head..(group + 1) * head).map(|row| (2, row)));
            }
        }
        let mine = rows.len() / usize::try_from(ranks).expect("small");
        rows.into_iter().skip(usize::try_from(rank).expect("small") * mine).take(mine).collect()
    }

    /// Writes a checkpoint.
    pub(crate) fn write(&self, dir: &Path, sharding: Sharding, extension: &str) {
        let full = self.full();
        for rank in 0..sharding.ranks {
            let tensors = self.rank(&full, rank, sharding);
            let folder = dir.join(format!("rank_{rank}"));
            std::fs::create_dir_all(&folder).expect("a directory");
            let bytes = if extension == "ckpt" { write_ckpt(&tensors) } else { write_safetensors(&tensors) };
            std::fs::write(folder.join(format!("checkpoint_{rank}.{extension}")), bytes).expect("a file");
        }
    }
}

/// The fused name that a part belongs to, and all its parts.
pub(crate) fn fused_of(name: &str) -> Option<(String, Vec<String>)> {
    let (prefix, whole, parts, tail) = if let Some((prefix, rest)) = name.split_once("attention.w") {
        let tail = rest.strip_prefix(['q', 'k', 'v'])?;
        (prefix, "attention.w_qkv", vec!["attention.wq", "attention.wk", "attention.wv"], tail)
    } else {
        let (prefix, rest) = name.split_once("feed_forward.w")?;
        let tail = rest.strip_prefix(['1', '3'])?;
        (prefix, "feed_forward.w_gate_hidden", vec!["feed_forward.w1", "feed_forward.w3"], tail)
    };
    Some((format!("{prefix}{whole}{tail}"), parts.iter().map(|part| format!("{prefix}{part}{tail}")).collect()))
}

fn element(bytes: &[u8], at: u64, size: usize) -> Vec<u8> {
    let at = usize::try_from(at).expect("small") * size;
    bytes[at..at + size].to_vec()
}

/// Splitmix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn element(&mut self, float: Float, values: Values) -> Vec<u8> {
        let mut bits = self.next().to_le_bytes()[..float.size()].to_vec();
        if values == Values::Bits {
            return bits;
        }
        let edges = [65504f32, 65519.996, 65520.0, -65536.0, 1e30, f32::MAX, f32::INFINITY, -0.0, 6e-8, 2049.0];
        let edge = usize::try_from(self.next() % 20).expect("small");
        if let (Some(value), true) = (edges.get(edge), float != Float::Fp16) {
            let word = value.to_le_bytes();
            // The upper half of an fp32 is a bf16.
            return word[4 - float.size()..].to_vec();
        }
        // No NaN: one exponent bit is kept 0.
        let last = bits.len() - 1;
        bits[last] &= if self.next().is_multiple_of(2) { 0xbf } else { 0xfb };
        bits
    }
}
