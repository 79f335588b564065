#!/usr/bin/env python3
"""Write index.json: what the original scripts produced, as one hash for each parameter.

    python make_index.py GOLDEN      (a folder of <case>/src, <case>/out and cfg.json, as left by run.sh)

index.json: {"<case>/out/<dir>/rank_<r>/<file>": {param: [tensor_type, dims, sha256(raw bytes)[:16]]}}.
The reader below is our own and needs nothing but the standard library. Only truth(), which rebuilds the
model of mk.py for the case that the original gets wrong, needs numpy.
"""
import glob
import hashlib
import json
import os
import sys


def varint(b, i):
    """(value, next index) of the base-128 number at b[i]"""
    v = s = 0
    while True:
        c = b[i]
        i, v, s = i + 1, v | (c & 127) << s, s + 7
        if c < 128:
            return v, i


def fields(b):
    """(field number, value) of each field of one protobuf message"""
    i = 0
    while i < len(b):
        key, i = varint(b, i)
        if key & 7 == 0:
            v, i = varint(b, i)
        elif key & 7 == 2:
            n, i = varint(b, i)
            assert i + n <= len(b), "truncated"
            v, i = b[i:i + n], i + n
        else:
            raise ValueError(f"wire type {key & 7}")
        yield key >> 3, v


def read_ckpt(path):
    """{param: (tensor_type, dims, bytes)} of a .ckpt, in file order"""
    out = {}
    with open(path, "rb") as f:
        data = f.read()
    for number, value in fields(data):
        assert number == 1, number
        v = dict(fields(value))
        name, dims, kind, content = v[1].decode(), [], None, b""
        for k, x in fields(v[2]):
            if k == 1:
                dims.append(x)
            elif k == 2:
                kind = x.decode()
            elif k == 3:
                content = x
        old = out[name][2] if name in out else b""
        out[name] = (kind, dims, old + content)
    return out


def entry(kind, dims, content):
    return [kind, list(dims), hashlib.sha256(content).hexdigest()[:16]]


def truth(cfg):
    """(unfused, fused) complete model of mk.py: seed 0, the same draws in the same order"""
    import numpy as np
    D, KV, F, V = cfg["hidden"], cfg["kv"] * (cfg["hidden"] // cfg["heads"]), cfg["ffn"], cfg["vocab"]
    rng = np.random.default_rng(0)
    full = {}

    def draw(name, *shape):
        full[name] = rng.standard_normal(shape).astype(np.float16)

    draw("model.tok_embeddings.embedding_weight", V, D)
    for i in range(cfg["layers"]):
        p = f"model.layers.{i}."
        draw(p + "attention_norm.weight", D)
        draw(p + "ffn_norm.weight", D)
        draw(p + "attention.wq.weight", D, D)
        draw(p + "attention.wk.weight", KV, D)
        draw(p + "attention.wv.weight", KV, D)
        draw(p + "attention.wo.weight", D, D)
        draw(p + "feed_forward.w1.weight", F, D)
        draw(p + "feed_forward.w2.weight", D, F)
        draw(p + "feed_forward.w3.weight", F, D)
    draw("model.norm_out.weight", D)
    draw("lm_head.weight", V, D)
    fused = dict(full)
    for i in range(cfg["layers"]):
        a, f = f"model.layers.{i}.attention.", f"model.layers.{i}.feed_forward."
        fused[a + "w_qkv.weight"] = np.concatenate([fused.pop(f"{a}{n}.weight") for n in ("wq", "wk", "wv")])
        fused[f + "w_gate_hidden.weight"] = np.concatenate([fused.pop(f"{f}{n}.weight") for n in ("w1", "w3")])
    return tuple({n: entry("Float16", a.shape, a.tobytes()) for n, a in d.items()} for d in (full, fused))


def main():
    golden = sys.argv[1]
    here = os.path.dirname(os.path.abspath(__file__))
    index = {}
    for path in sorted(glob.glob(f"{golden}/*/out/*/rank_*/*.ckpt")):
        index[os.path.relpath(path, golden)] = {n: entry(*e) for n, e in read_ckpt(path).items()}
    with open(f"{golden}/cfg.json", encoding="utf-8") as f:
        unfused, fused = truth(json.load(f))
    source = {n: entry(*e) for n, e in read_ckpt(f"{golden}/1p_qkv_to_4p/src/rank_0/checkpoint_0.ckpt").items()}
    assert fused == source, "the rebuilt model is not the one of 1p_qkv_to_4p/src"
    index["2p_qkv_to_1p/truth_unfused/rank_0"] = unfused
    index["2p_qkv_to_1p/truth_fused/rank_0"] = fused
    with open(f"{here}/index.json", "w", encoding="utf-8") as f:
        json.dump(index, f, separators=(",", ":"), sort_keys=True)
        f.write("\n")
    print(f"{len(index)} files, {sum(map(len, index.values()))} parameters")


if __name__ == "__main__":
    main()
