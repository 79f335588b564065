#!/usr/bin/env python3
"""Write hf/, the example as a directory of Hugging Face's, with transformers itself.

    pip install torch transformers numpy
    python make_hf.py
"""
import os

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from weights import FFN, HEADS, HIDDEN, KV_HEADS, LAYERS, VOCAB, weights

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = [
    ("model.tok_embeddings.embedding_weight", "model.embed_tokens.weight"),
    ("model.norm_out.weight", "model.norm.weight"),
    ("attention_norm.weight", "input_layernorm.weight"),
    ("ffn_norm.weight", "post_attention_layernorm.weight"),
    ("attention.wq.", "self_attn.q_proj."),
    ("attention.wk.", "self_attn.k_proj."),
    ("attention.wv.", "self_attn.v_proj."),
    ("attention.wo.", "self_attn.o_proj."),
    ("feed_forward.w1.", "mlp.gate_proj."),
    ("feed_forward.w2.", "mlp.down_proj."),
    ("feed_forward.w3.", "mlp.up_proj."),
]


def hf_name(name):
    for ours, theirs in NAMES:
        name = name.replace(ours, theirs)
    return name


def main():
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=HIDDEN,
        intermediate_size=FFN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=128,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).half()
    model.load_state_dict({hf_name(n): torch.from_numpy(a) for n, a in weights().items()})
    model.save_pretrained(os.path.join(HERE, "hf"))


if __name__ == "__main__":
    main()
