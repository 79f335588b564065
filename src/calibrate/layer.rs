//! The arithmetic of one decoder layer, in single precision.
//!
//! Source: `transformers`' `modeling_llama.py` and mindformers' `llama_transformer.py`, which agree: RMS norm, rotary embedding
//! of halves, grouped-query causal attention, `down(silu(gate) * up)`.

use candle_core::{Device, Result, Tensor};
use candle_nn::{ops, rotary_emb};

use super::arithmetic::Arithmetic;
use crate::plan::Observed;

/// A matrix, and the bias of its rows.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
}

impl Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let product = x.matmul(&self.weight.t()?)?;
        match &self.bias {
            Some(bias) => product.broadcast_add(bias),
            None => Ok(product),
        }
    }
}

/// A layer's parameters.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) attention_norm: Tensor,
    pub(super) query: Linear,
    pub(super) key: Linear,
    pub(super) value: Linear,
    pub(super) output: Linear,
    pub(super) ffn_norm: Tensor,
    pub(super) gate: Linear,
    pub(super) up: Linear,
    pub(super) down: Linear,
}

/// What depends on the number of tokens only: the rotation of each, and which may look at which.
#[derive(Debug)]
pub(super) struct Positions {
    tokens: usize,
    cos: Tensor,
    sin: Tensor,
    /// 0 where a token may look, else minus infinity.
    mask: Tensor,
}

impl Positions {
    pub(super) fn new(tokens: usize, how: &Arithmetic) -> Result<Self> {
        let half = how.head_dim / 2;
        // In single precision, as the networks themselves do.
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "single precision is meant")]
        let angles: Vec<f32> = (0..tokens)
            .flat_map(|t| {
                let frequency =
                    move |i: usize| 1.0 / (how.rope_theta as f32).powf((2 * i) as f32 / how.head_dim as f32);
                (0..half).map(move |i| t as f32 * frequency(i))
            })
            .collect();
        let angles = Tensor::from_vec(angles, (tokens, half), &Device::Cpu)?;
        let hidden = |i: usize| (0..tokens).map(move |j| if j > i { f32::NEG_INFINITY } else { 0.0 });
        let mask = Tensor::from_vec((0..tokens).flat_map(hidden).collect(), (tokens, tokens), &Device::Cpu)?;
        Ok(Self { tokens, cos: angles.cos()?, sin: angles.sin()?, mask })
    }

    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }
}

impl Layer {
    /// What comes out of the layer, `[tokens, hidden]`, where `x` goes in. `see` receives what is observed, each
    /// `[tokens, channels]`.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        at: &Positions,
        how: &Arithmetic,
        see: &mut impl FnMut(Observed, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        #[expect(clippy::cast_possible_truncation, reason = "single precision is meant")]
        let eps = how.norm_eps as f32;
        let normed = ops::rms_norm(x, &self.attention_norm, eps)?;
        see(Observed::AttentionInput, &normed)?;
        let query = rotated(&heads(&self.query.forward(&normed)?, how.heads, how)?, at)?;
        let key = rotated(&heads(&self.key.forward(&normed)?, how.kv_heads, how)?, at)?;
        let value = self.value.forward(&normed)?;
        see(Observed::Keys, &joined(&key)?)?;
        see(Observed::Values, &value)?;
        let attended = attention(&query, &key, &heads(&value, how.kv_heads, how)?, at, how)?;
        see(Observed::OutputInput, &attended)?;
        let x = (x + self.output.forward(&attended)?)?;
        let normed = ops::rms_norm(&x, &self.ffn_norm, eps)?;
        see(Observed::FeedForwardInput, &normed)?;
        let inner = (ops::silu(&self.gate.forward(&normed)?)? * self.up.forward(&normed)?)?;
        see(Observed::DownInput, &inner)?;
        x + self.down.forward(&inner)?
    }
}

/// `[tokens, heads * head]` to `[heads, tokens, head]`.
fn heads(x: &Tensor, count: usize, how: &Arithmetic) -> Result<Tensor> {
    x.reshape((x.dim(0)?, count, how.head_dim))?.transpose(0, 1)?.contiguous()
}

/// The way back.
fn joined(x: &Tensor) -> Result<Tensor> {
    let (count, tokens, head) = x.dims3()?;
    x.transpose(0, 1)?.reshape((tokens, count * head))
}

fn rotated(x: &Tensor, at: &Positions) -> Result<Tensor> {
    rotary_emb::rope(&x.unsqueeze(0)?, &at.cos, &at.sin)?.squeeze(0)
}

/// Group by group, so that the scores of one group only are in memory.
fn attention(query: &Tensor, key: &Tensor, value: &Tensor, at: &Positions, how: &Arithmetic) -> Result<Tensor> {
    let (group, tokens) = (how.heads / how.kv_heads, at.tokens);
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let scale = 1.0 / (how.head_dim as f64).sqrt();
    let mut groups = Vec::with_capacity(how.kv_heads);
    for head in 0..how.kv_heads {
        let query = query.narrow(0, head * group, group)?.reshape((group * tokens, how.head_dim))?;
        let scores = (query.matmul(&key.get(head)?.t()?)? * scale)?;
        let scores = scores.reshape((group, tokens, tokens))?.broadcast_add(&at.mask)?;
        let shares = ops::softmax_last_dim(&scores)?.reshape((group * tokens, tokens))?;
        groups.push(shares.matmul(&value.get(head)?)?.reshape((group, tokens, how.head_dim))?);
    }
    joined(&Tensor::cat(&groups, 0)?)
}
