#!/usr/bin/env python3
"""Write ckpt/rank_0/llama_tiny.ckpt, the small checkpoint of the README's first command, with MindSpore itself.

    pip install mindspore==2.10.0
    python make.py

A llama of llama_tiny_4p.yaml's sizes with random fp16 weights (seed 7) on one rank, fused as mindformers'
qkv_concat does it: w_qkv = [wq; wk; wv] and w_gate_hidden = [w1; w3].
"""
import os

import mindspore as ms
import numpy as np

HIDDEN, HEADS, KV_HEADS, FFN, VOCAB, LAYERS = 128, 8, 4, 256, 256, 2
KV = HIDDEN // HEADS * KV_HEADS
HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    rng = np.random.default_rng(7)
    params = []

    def weight(name, rows, columns):
        params.append((name, rng.normal(0, 0.05, (rows, columns))))

    def norm(name):
        params.append((name, 1 + rng.normal(0, 0.02, HIDDEN)))

    weight("model.tok_embeddings.embedding_weight", VOCAB, HIDDEN)
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        norm(p + "attention_norm.weight")
        norm(p + "ffn_norm.weight")
        weight(p + "attention.w_qkv.weight", HIDDEN + 2 * KV, HIDDEN)
        weight(p + "attention.wo.weight", HIDDEN, HIDDEN)
        weight(p + "feed_forward.w_gate_hidden.weight", 2 * FFN, HIDDEN)
        weight(p + "feed_forward.w2.weight", HIDDEN, FFN)
    norm("model.norm_out.weight")
    weight("lm_head.weight", VOCAB, HIDDEN)

    path = os.path.join(HERE, "ckpt", "rank_0", "llama_tiny.ckpt")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    ms.save_checkpoint([{"name": n, "data": ms.Tensor(a.astype(np.float16))} for n, a in params], path)
    os.chmod(path, 0o644)  # MindSpore leaves 0400
    print(f"{len(params)} parameters, {os.path.getsize(path)} bytes")


if __name__ == "__main__":
    main()
