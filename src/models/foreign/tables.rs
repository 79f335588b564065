//! The names of each family beside mindformers'.

use super::{Family, Join, Reorder};

/// A family's names. Suffixes follow `<prefix>layers.<n>.` there and `model.layers.<n>.` here.
pub(super) struct Table {
    /// A layer's parameters: theirs, ours.
    pub layer: &'static [&'static [(&'static str, &'static str)]],
    /// The parameter that holds q, k and v, and how.
    pub joined: Option<(&'static str, Join)>,
    /// The embedding and the last norm, both below the prefix.
    pub embedding: &'static str,
    pub norm: &'static str,
    /// The output projection, never below the prefix.
    pub head: &'static str,
    /// The prefix of whole models.
    pub prefix: &'static str,
}

/// What [`Table::joined`] is made of, in order.
pub(super) const JOINED_PARTS: [&str; 3] = ["attention.wq.weight", "attention.wk.weight", "attention.wv.weight"];

/// Ours, outside the layers.
pub(super) const EMBEDDING: &str = "model.tok_embeddings.embedding_weight";
pub(super) const NORM: &str = "model.norm_out.weight";
pub(super) const HEAD: &str = "lm_head.weight";

const HF_COMMON: &[(&str, &str)] = &[
    ("input_layernorm.weight", "attention_norm.weight"),
    ("post_attention_layernorm.weight", "ffn_norm.weight"),
    ("self_attn.o_proj.weight", "attention.wo.weight"),
    ("mlp.gate_proj.weight", "feed_forward.w1.weight"),
    ("mlp.up_proj.weight", "feed_forward.w3.weight"),
    ("mlp.down_proj.weight", "feed_forward.w2.weight"),
];

const HF_QKV: &[(&str, &str)] = &[
    ("self_attn.q_proj.weight", JOINED_PARTS[0]),
    ("self_attn.k_proj.weight", JOINED_PARTS[1]),
    ("self_attn.v_proj.weight", JOINED_PARTS[2]),
];

const HF_QKV_BIAS: &[(&str, &str)] = &[
    ("self_attn.q_proj.bias", "attention.wq.bias"),
    ("self_attn.k_proj.bias", "attention.wk.bias"),
    ("self_attn.v_proj.bias", "attention.wv.bias"),
];

/// Meta's names are those that mindformers took over, and so did InternLM 2.
const META_COMMON: &[(&str, &str)] = &[
    ("attention_norm.weight", "attention_norm.weight"),
    ("ffn_norm.weight", "ffn_norm.weight"),
    ("attention.wo.weight", "attention.wo.weight"),
    ("feed_forward.w1.weight", "feed_forward.w1.weight"),
    ("feed_forward.w3.weight", "feed_forward.w3.weight"),
    ("feed_forward.w2.weight", "feed_forward.w2.weight"),
];

const META_QKV: &[(&str, &str)] =
    &[(JOINED_PARTS[0], JOINED_PARTS[0]), (JOINED_PARTS[1], JOINED_PARTS[1]), (JOINED_PARTS[2], JOINED_PARTS[2])];

const LLAMA: Table = Table {
    layer: &[HF_COMMON, HF_QKV],
    joined: None,
    embedding: "embed_tokens.weight",
    norm: "norm.weight",
    head: "lm_head.weight",
    prefix: "model.",
};

static LLAMA_TABLE: Table = LLAMA;

static QWEN2: Table = Table { layer: &[HF_COMMON, HF_QKV, HF_QKV_BIAS], ..LLAMA };

static BAICHUAN2: Table =
    Table { layer: &[HF_COMMON], joined: Some(("self_attn.W_pack.weight", Join::Concat)), ..LLAMA };

static INTERNLM2: Table = Table {
    layer: &[META_COMMON],
    joined: Some(("attention.wqkv.weight", Join::Grouped)),
    embedding: "tok_embeddings.weight",
    head: "output.weight",
    ..LLAMA
};

static META: Table = Table {
    layer: &[META_COMMON, META_QKV],
    embedding: "tok_embeddings.weight",
    head: "output.weight",
    prefix: "",
    ..LLAMA
};

pub(super) fn table(family: Family) -> &'static Table {
    match family {
        Family::Llama => &LLAMA_TABLE,
        Family::Qwen2 => &QWEN2,
        Family::Baichuan2 => &BAICHUAN2,
        Family::InternLm2 => &INTERNLM2,
        Family::Meta => &META,
    }
}

impl Table {
    /// Our suffix for a suffix of theirs.
    pub(super) fn ours(&self, theirs: &str) -> Option<&'static str> {
        self.layer.iter().copied().flatten().find(|(there, _)| *there == theirs).map(|&(_, here)| here)
    }

    /// Their suffix for a suffix of ours: of the parameter itself, or of the one that holds it.
    pub(super) fn theirs(&self, ours: &str) -> Option<&'static str> {
        let own = self.layer.iter().copied().flatten().find(|(_, here)| *here == ours).map(|&(there, _)| there);
        own.or_else(|| self.joined.filter(|_| JOINED_PARTS.contains(&ours)).map(|(name, _)| name))
    }
}

/// How the rows of one of our layer parameters stand in the foreign one. Meta's q and k have the two halves of every
/// head interleaved; Hugging Face undid that, and mindformers wants it undone too.
pub(super) fn reorder(family: Family, ours: &str) -> Reorder {
    match (family, ours) {
        (Family::Meta, "attention.wq.weight") => Reorder::MetaQuery,
        (Family::Meta, "attention.wk.weight") => Reorder::MetaKey,
        _ => Reorder::Plain,
    }
}

/// Buffers that some versions saved and that every network computes by itself; as last components of a name. `bias` is the
/// causal mask: no family here has a bias of the whole attention.
const BUFFERS: [&str; 9] = [
    "rotary_emb.inv_freq",
    "rotary_emb.cos_cached",
    "rotary_emb.sin_cached",
    "rope.freqs",
    "masked_bias",
    "position_ids",
    "causal_mask",
    "attn.bias",
    "self_attn.bias",
];

/// Whether a name is of a buffer that holds nothing of the model.
pub(super) fn is_buffer(name: &str) -> bool {
    BUFFERS
        .iter()
        .any(|buffer| name.strip_suffix(buffer).is_some_and(|before| before.is_empty() || before.ends_with('.')))
}
