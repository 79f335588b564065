//! Names, shapes and splits of a llama-shaped model.

use clap::ValueEnum;

use crate::values::{Dtype, Source};

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Preset {
    #[value(name = "tiny")]
    Tiny,
    #[value(name = "llama2_7b")]
    Llama2_7b,
    #[value(name = "llama2_13b")]
    Llama2_13b,
    #[value(name = "llama2_70b")]
    Llama2_70b,
    #[value(name = "llama3_8b")]
    Llama3_8b,
}

#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) layers: u64,
    pub(crate) hidden: u64,
    pub(crate) heads: u64,
    pub(crate) kv_heads: u64,
    pub(crate) ffn: u64,
    pub(crate) vocab: u64,
}

/// One checkpoint to write; the same for all ranks.
#[derive(Clone, Copy)]
pub(crate) struct Job {
    pub(crate) sizes: Sizes,
    pub(crate) ranks: u64,
    pub(crate) fused: bool,
    pub(crate) bias: bool,
    pub(crate) dtype: Dtype,
    pub(crate) seed: u64,
    pub(crate) record: u64,
}

impl Preset {
    pub(crate) fn sizes(self) -> Sizes {
        let (layers, hidden, heads, kv_heads, ffn, vocab) = match self {
            Self::Tiny => (2, 64, 16, 16, 96, 64),
            Self::Llama2_7b => (32, 4096, 32, 32, 11008, 32000),
            Self::Llama2_13b => (40, 5120, 40, 40, 13824, 32000),
            Self::Llama2_70b => (80, 8192, 64, 8, 28672, 32000),
            Self::Llama3_8b => (32, 4096, 32, 8, 14336, 128_256),
        };
        Sizes { layers, hidden, heads, kv_heads, ffn, vocab }
    }
}

/// One rank's slice of a full tensor.
pub(crate) struct Part {
    pub(crate) source: Source,
    /// Bytes of a full row; of the whole tensor if it has one axis.
    pub(crate) row: u64,
    /// First byte of the slice.
    pub(crate) start: u64,
    /// Bytes of one contiguous run, and the number of runs, each `row` further on.
    pub(crate) run: u64,
    pub(crate) runs: u64,
}

impl Part {
    pub(crate) fn len(&self) -> u64 {
        self.run * self.runs
    }
}

/// One parameter of a rank's file: its slices one after the other.
pub(crate) struct Param {
    pub(crate) name: String,
    pub(crate) dims: Vec<u64>,
    pub(crate) parts: Vec<Part>,
}

impl Param {
    pub(crate) fn len(&self) -> u64 {
        self.parts.iter().map(Part::len).sum()
    }
}

impl Job {
    pub(crate) fn check(&self) -> Result<(), String> {
        let s = &self.sizes;
        if self.ranks == 0 || s.heads == 0 || !s.hidden.is_multiple_of(s.heads) {
            return Err("ranks and heads must be positive and heads must divide hidden".into());
        }
        for (what, n) in [("heads", s.heads), ("kv-heads", s.kv_heads), ("ffn", s.ffn), ("hidden", s.hidden)] {
            if n == 0 || n % self.ranks != 0 {
                return Err(format!("{} ranks do not divide {what} = {n}", self.ranks));
            }
        }
        Ok(())
    }

    /// The slice of `rank` of the tensor `name`, split on `axis`, and its dims.
    pub(crate) fn slice(&self, name: &str, dims: &[u64], axis: Option<usize>, rank: u64) -> (Vec<u64>, Part) {
        let mut local = dims.to_vec();
        let row = dims[1..].iter().product::<u64>() * self.dtype.size();
        let all = row * dims[0];
        let source = Source::new(self.seed, name, self.dtype);
        if let Some(axis) = axis {
            local[axis] /= self.ranks;
        }
        let part = match axis {
            None => Part { source, row, start: 0, run: all, runs: 1 },
            Some(0) => {
                let run = all / self.ranks;
                Part { source, row, start: rank * run, run, runs: 1 }
            }
            Some(_) => {
                let run = row / self.ranks;
                Part { source, row, start: rank * run, run, runs: dims[0] }
            }
        };
        (local, part)
    }

    pub(crate) fn one(&self, name: String, dims: &[u64], axis: Option<usize>, rank: u64) -> Param {
        let (dims, part) = self.slice(&name, dims, axis, rank);
        Param { name, dims, parts: vec![part] }
    }

    /// Parameters split on axis 0, fused into `fused` if so wanted.
    pub(crate) fn group(&self, prefix: &str, fused: &str, members: &[(&str, Vec<u64>)], rank: u64) -> Vec<Param> {
        let names = members.iter().map(|(n, dims)| (format!("{prefix}{n}"), dims));
        let mut params: Vec<_> = names.map(|(n, dims)| self.one(n, dims, Some(0), rank)).collect();
        if self.fused {
            let mut all = params.remove(0);
            all.name = format!("{prefix}{fused}");
            for p in params {
                all.dims[0] += p.dims[0];
                all.parts.extend(p.parts);
            }
            params = vec![all];
        }
        params
    }

    /// [`Self::params`] under names with this before them: another tensor each.
    pub(crate) fn states(&self, rank: u64, prefix: &str) -> Vec<Param> {
        let mut params = self.params(rank);
        for param in params.iter_mut().filter(|_| !prefix.is_empty()) {
            param.name.insert_str(0, prefix);
            for part in &mut param.parts {
                part.source = Source::new(self.seed, &param.name, self.dtype);
            }
        }
        params
    }

    /// All parameters of one rank's file, in file order.
    pub(crate) fn params(&self, rank: u64) -> Vec<Param> {
        let Sizes { layers, hidden, heads, kv_heads, ffn, vocab } = self.sizes;
        let kv = hidden / heads * kv_heads;
        let by_vocab = (vocab % self.ranks == 0).then_some(0);
        let mut out = vec![self.one("model.tok_embeddings.embedding_weight".into(), &[vocab, hidden], by_vocab, rank)];
        for i in 0..layers {
            let layer = format!("model.layers.{i}.");
            for norm in ["attention_norm", "ffn_norm"] {
                out.push(self.one(format!("{layer}{norm}.weight"), &[hidden], None, rank));
            }
            let attention = format!("{layer}attention.");
            let (q, k) = (vec![hidden, hidden], vec![kv, hidden]);
            let qkv = [("wq.weight", q), ("wk.weight", k.clone()), ("wv.weight", k)];
            out.extend(self.group(&attention, "w_qkv.weight", &qkv, rank));
            if self.bias {
                let qkv = [("wq.bias", vec![hidden]), ("wk.bias", vec![kv]), ("wv.bias", vec![kv])];
                out.extend(self.group(&attention, "w_qkv.bias", &qkv, rank));
            }
            out.push(self.one(format!("{attention}wo.weight"), &[hidden, hidden], Some(1), rank));
            let feed = format!("{layer}feed_forward.");
            let gate = [("w1.weight", vec![ffn, hidden]), ("w3.weight", vec![ffn, hidden])];
            out.extend(self.group(&feed, "w_gate_hidden.weight", &gate, rank));
            out.push(self.one(format!("{feed}w2.weight"), &[hidden, ffn], Some(1), rank));
        }
        out.push(self.one("model.norm_out.weight".into(), &[hidden], None, rank));
        out.push(self.one("lm_head.weight".into(), &[vocab, hidden], by_vocab, rank));
        out
    }
}
