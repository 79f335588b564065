//! The same models under the names, and in the row orders, of PyTorch programs.

use super::case::FLOATS;
use super::convert::Request;
use super::cut::{Block, Order};
use super::execute::Expected;
use super::files::{Contents, Tensor, bytes_of};
use super::placement::{Placement, Side, shape};
use super::random::{Random, divisors};
use super::whole::{Cut, Dims, EMBEDDING, Fusion, Item, Model};
use crate::formats::SAFETENSORS;
use crate::tensor::Dtype;

/// Whose checkpoint it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Hugging Face's llama, or Qwen 2 where there are biases.
    HuggingFace,
    /// q, k and v one after the other.
    Baichuan2,
    /// q, k and v for each kv head.
    InternLm2,
    /// So many shards; the halves of every head of q and k are interleaved.
    Meta {
        shards: usize,
        /// Whether the embedding is cut over its columns, as in llama 1 and 2.
        by_columns: bool,
    },
}

/// A tensor of a foreign checkpoint.
struct ForeignTensor {
    name: String,
    item: Item,
    /// Its rows in the file's order, each as part and row.
    rows: Vec<(usize, usize)>,
    cut: Option<usize>,
}

impl Origin {
    pub(super) fn random(random: &mut Random, dims: &Dims) -> Self {
        let square = dims.hidden == dims.query_rows();
        let whole = [Self::Baichuan2, Self::InternLm2];
        if dims.bias || dims.qwen3 || !square || random.one_in(3) {
            return Self::HuggingFace;
        }
        let shards = *random.pick(&divisors(&[dims.heads(), dims.kv_heads, dims.ffn, dims.hidden, dims.vocab]));
        // The names do not distinguish one shard of Meta's from several; its halves of a head must be two.
        let meta = Self::Meta { shards, by_columns: random.one_in(2) };
        if !dims.tied && dims.head_dim.is_multiple_of(2) && random.one_in(2) { meta } else { *random.pick(&whole) }
    }

    /// The scheme of names, and the type that a `config.json` states.
    pub(super) fn family(self, dims: &Dims) -> &'static str {
        match self {
            Self::HuggingFace if dims.qwen3 => "qwen3",
            Self::HuggingFace if dims.bias => "qwen2",
            Self::HuggingFace | Self::Meta { .. } => "llama",
            Self::Baichuan2 => "baichuan",
            Self::InternLm2 => "internlm2",
        }
    }

    pub(super) fn shards(self) -> usize {
        if let Self::Meta { shards, .. } = self { shards } else { 1 }
    }

    fn name(self, ours: &str) -> String {
        let table: &[(&str, &str)] = match self {
            Self::HuggingFace | Self::Baichuan2 => &[
                ("model.tok_embeddings.embedding_weight", "model.embed_tokens.weight"),
                ("norm_out", "norm"),
                ("attention_norm", "input_layernorm"),
                ("ffn_norm", "post_attention_layernorm"),
                ("attention.q_norm", "self_attn.q_norm"),
                ("attention.k_norm", "self_attn.k_norm"),
                ("attention.w_qkv", "self_attn.W_pack"),
                ("attention.wq", "self_attn.q_proj"),
                ("attention.wk", "self_attn.k_proj"),
                ("attention.wv", "self_attn.v_proj"),
                ("attention.wo", "self_attn.o_proj"),
                ("feed_forward.w1", "mlp.gate_proj"),
                ("feed_forward.w2", "mlp.down_proj"),
                ("feed_forward.w3", "mlp.up_proj"),
            ],
            Self::InternLm2 => {
                &[("embedding_weight", "weight"), ("norm_out", "norm"), ("w_qkv", "wqkv"), ("lm_head", "output")]
            }
            Self::Meta { .. } => {
                &[("embedding_weight", "weight"), ("norm_out", "norm"), ("lm_head", "output"), ("model.", "")]
            }
        };
        table.iter().fold(ours.to_owned(), |name, (ours, theirs)| name.replace(ours, theirs))
    }

    fn tensors(self, model: &Model) -> Vec<ForeignTensor> {
        let (mut tensors, mut at) = (Vec::new(), 0);
        while at < model.parameters.len() {
            let one = &model.parameters[at];
            let joined = one.fused == Fusion::Attention && matches!(self, Self::Baichuan2 | Self::InternLm2);
            let item = if joined { model.fused(at) } else { model.plain(at) };
            let mut rows = model.rows(&item, self == Self::InternLm2);
            let interleaved = [".wq.", ".wk."].iter().any(|name| one.name.contains(name));
            if interleaved && matches!(self, Self::Meta { .. }) {
                let (head, half) = (model.dims.head_dim, model.dims.head_dim / 2);
                // In place r of a head is its row r / 2 of the first half, or of the second.
                let in_head = |row: usize| row / head * head + row % 2 * half + row % head / 2;
                for (_, row) in &mut rows {
                    *row = in_head(*row);
                }
            }
            let cut = match (self, one.cut) {
                (Self::Meta { by_columns: true, .. }, Cut::Vocabulary) if one.name == EMBEDDING => Some(1),
                (_, Cut::Whole) => None,
                (_, Cut::Columns) => Some(1),
                (_, Cut::Rows | Cut::Vocabulary) => Some(0),
            };
            at += item.parts.len();
            let name = self.name(if joined { &item.name } else { &one.name });
            tensors.push(ForeignTensor { name, item, rows, cut });
        }
        tensors
    }

    /// What a shard holds.
    pub(super) fn blocks(self, model: &Model, shard: usize) -> Vec<(String, bool, Block)> {
        let part = |count: usize, cut: bool| {
            let len = if cut { count / self.shards() } else { count };
            if cut { shard * len..(shard + 1) * len } else { 0..len }
        };
        let block = |tensor: ForeignTensor| {
            let first = &model.parameters[tensor.item.parts[0]];
            let width = first.dims.get(1).copied().unwrap_or(1);
            let rows = &tensor.rows[part(tensor.rows.len(), tensor.cut == Some(0))];
            let columns = part(width, tensor.cut == Some(1));
            let mut elements = Vec::new();
            for &(of, row) in rows {
                let start = model.parameters[tensor.item.parts[of]].first as usize + row * width;
                elements.extend(columns.clone().map(|column| u32::try_from(start + column).expect("small")));
            }
            let dims = [rows.len()].into_iter().chain((first.dims.len() > 1).then_some(columns.len())).collect();
            (tensor.name, first.cut == Cut::Whole, Block { dims, elements })
        };
        self.tensors(model).into_iter().map(block).collect()
    }

    /// The `config.json` beside it.
    pub(super) fn config(self, dims: &Dims) -> String {
        format!(
            "{{\"model_type\": \"{}\", \"hidden_size\": {}, \"num_hidden_layers\": {}, \"num_attention_heads\": {}, \
             \"num_key_value_heads\": {}, \"head_dim\": {}, \"intermediate_size\": {}, \"vocab_size\": {}, \
             \"tie_word_embeddings\": {}}}",
            self.family(dims),
            dims.hidden,
            dims.layers,
            dims.heads(),
            dims.kv_heads,
            dims.head_dim,
            dims.ffn,
            dims.vocab,
            dims.tied
        )
    }
}

/// A conversion between a foreign checkpoint and ranks.
pub(super) struct ForeignCase {
    pub(super) model: Model,
    pub(super) origin: Origin,
    /// The other side.
    pub(super) ranks: Placement,
    pub(super) request: Request,
    pub(super) files: Vec<Contents>,
    /// File and name of matrices that are stored column by column.
    pub(super) transposed: Vec<(usize, String)>,
}

impl ForeignCase {
    fn new(random: &mut Random, side: Side) -> Self {
        let square = random.one_in(2);
        let dims = Dims::random(random, square);
        let model = Model::new(&dims, *random.pick(&FLOATS));
        let mut origin = Origin::random(random, &dims);
        if side == Side::Source && matches!(origin, Origin::Meta { .. }) {
            origin = Origin::HuggingFace;
        }
        let order = if dims.qwen3 { Order::Grouped } else { *random.pick(&[Order::RankConcat, Order::Grouped]) };
        let ranks = if random.one_in(2) {
            Placement::strategy(random, &model, side, order)
        } else {
            let ranks = *random.pick(&divisors(&[dims.heads(), dims.kv_heads, dims.ffn]));
            Placement::rules(random, &model, side, ranks, order)
        };
        let precision = random.one_in(3).then(|| *random.pick(&FLOATS));
        let request = Request { dims: Some(dims), precision, norms: None, format: SAFETENSORS };
        Self { model, origin, ranks, request, files: Vec::new(), transposed: Vec::new() }
    }

    /// From a foreign checkpoint to ranks.
    pub(super) fn from(random: &mut Random) -> Self {
        let mut case = Self::new(random, Side::Target);
        let dtype = case.model.dtype;
        for shard in 0..case.origin.shards() {
            let blocks = case.origin.blocks(&case.model, shard);
            // What is no shard may be in any of several files.
            let files = if case.origin.shards() > 1 { 1 } else { 1 + random.below(3) };
            let first = case.files.len();
            case.files.extend((0..files).map(|_| Contents { rank: shard, tensors: Vec::new() }));
            for (name, _, block) in blocks {
                let file = first + random.below(files);
                let mut elements = block.elements.clone();
                if let &[rows, columns] = block.dims.as_slice()
                    && random.one_in(4)
                {
                    let by_columns = (0..columns).flat_map(|column| (0..rows).map(move |row| row * columns + column));
                    elements = by_columns.map(|at| block.elements[at]).collect();
                    case.transposed.push((file, name.clone()));
                }
                let tensor = Tensor { name, dtype, shape: shape(&block.dims), bytes: bytes_of(&elements, dtype) };
                case.files[file].tensors.push(tensor);
            }
        }
        case
    }

    /// From ranks to a foreign checkpoint.
    pub(super) fn to(random: &mut Random) -> Self {
        let mut case = Self::new(random, Side::Source);
        case.files = super::files::contents(&case.model, &case.ranks);
        case
    }

    /// The one file of a foreign target.
    pub(super) fn expected(&self) -> Vec<Expected> {
        let blocks = self.origin.blocks(&self.model, 0).into_iter();
        blocks.map(|(name, is_norm, block)| Expected { name, is_norm, block, is_first: true }).collect()
    }

    /// Whose checkpoint it is, and whether it is in shards.
    pub(super) fn kind(&self) -> (&'static str, bool, bool) {
        let is_meta = matches!(self.origin, Origin::Meta { .. });
        (self.origin.family(&self.model.dims), is_meta, self.origin.shards() > 1)
    }

    pub(super) fn dtype(&self) -> Dtype {
        self.model.dtype
    }

    /// What a failure shows.
    pub(super) fn text(&self) -> String {
        let files: Vec<_> = self.files.iter().map(|file| (file.rank, file.tensors.len())).collect();
        format!(
            "{:?} {}\n{:?}\nranks: {}\n{:?}\nfiles (rank, tensors): {files:?}\ntransposed: {:?}\n",
            self.model.dims,
            self.model.dtype,
            self.origin,
            self.ranks.text(),
            self.request,
            self.transposed
        )
    }
}
