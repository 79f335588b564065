"""The weights of the example: a llama of llama_tiny_4p.yaml's sizes with random values, the same in every form (seed 7)."""
import numpy as np

HIDDEN, HEADS, KV_HEADS, FFN, VOCAB, LAYERS = 32, 8, 4, 64, 64, 2
KV = HIDDEN // HEADS * KV_HEADS


def weights():
    """Parameters by mindformers' names, unfused, in fp16: {name: array}."""
    rng = np.random.default_rng(7)

    def weight(rows, columns):
        return rng.normal(0, 0.05, (rows, columns)).astype(np.float16)

    def norm():
        return (1 + rng.normal(0, 0.02, HIDDEN)).astype(np.float16)

    made = {"model.tok_embeddings.embedding_weight": weight(VOCAB, HIDDEN)}
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        made[p + "attention_norm.weight"] = norm()
        made[p + "ffn_norm.weight"] = norm()
        made[p + "attention.wq.weight"] = weight(HIDDEN, HIDDEN)
        made[p + "attention.wk.weight"] = weight(KV, HIDDEN)
        made[p + "attention.wv.weight"] = weight(KV, HIDDEN)
        made[p + "attention.wo.weight"] = weight(HIDDEN, HIDDEN)
        made[p + "feed_forward.w1.weight"] = weight(FFN, HIDDEN)
        made[p + "feed_forward.w3.weight"] = weight(FFN, HIDDEN)
        made[p + "feed_forward.w2.weight"] = weight(HIDDEN, FFN)
    made["model.norm_out.weight"] = norm()
    made["lm_head.weight"] = weight(VOCAB, HIDDEN)
    return made
