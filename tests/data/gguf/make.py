#!/usr/bin/env python3
"""Makes the GGUF files of this directory with gguf-py, and what transformers and gguf-py read from them.

    pip install gguf torch transformers accelerate; python make.py

The blocks are random bits with finite scales: every pattern of bits is a value.
"""

import hashlib
import json
import logging
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as T
from transformers import AutoConfig, AutoModelForCausalLM

logging.disable(logging.WARNING)
HERE = Path(__file__).parent
RANDOM = np.random.default_rng(16)

# Where in a block the halves are that scale it.
SCALES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}


def blocks(kind, count):
    """Random blocks, their scales halves of all magnitudes that stay finite, and some subnormal."""
    size = gguf.GGML_QUANT_SIZES[kind][1]
    raw = RANDOM.integers(0, 256, (count, size), dtype=np.uint8)
    for at in SCALES[kind]:
        scale = (RANDOM.standard_normal(count) * 10.0 ** RANDOM.integers(-7, 0, count)).astype(np.float16)
        raw[:, at : at + 2] = scale.view(np.uint8).reshape(count, 2)
    return raw


def tensor(writer, name, shape, kind):
    """Adds a tensor of random elements."""
    values = RANDOM.standard_normal(shape).astype(np.float32)
    if kind == T.F32:
        writer.add_tensor(name, values)
    elif kind == T.F16:
        writer.add_tensor(name, values.astype(np.float16))
    elif kind == T.BF16:
        writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
    else:
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        rows, columns = int(np.prod(shape[:-1])), shape[-1]
        raw = blocks(kind, rows * columns // elements)
        writer.add_tensor(name, raw.reshape(*shape[:-1], columns // elements * size), raw_dtype=kind)


def write(name, arch, sizes, kinds, extra=(), tied=False, keys=None, **how):
    """Writes a model. `kinds`: the types of the matrices, in turn."""
    writer = gguf.GGUFWriter(HERE / name, arch, **how)
    s = sizes
    writer.add_name("tiny")
    writer.add_block_count(s["layers"])
    writer.add_context_length(64)
    writer.add_embedding_length(s["hidden"])
    writer.add_feed_forward_length(s["ffn"])
    writer.add_head_count(s["heads"])
    writer.add_head_count_kv(s["kv"])
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(s["vocab"])
    writer.add_array("tokenizer.ggml.tokens", [f"token{i}" for i in range(s["vocab"])])
    writer.add_array("tokenizer.ggml.token_type", [1] * s["vocab"])
    writer.add_chat_template("{{ messages }}" * 200)
    if keys:
        keys(writer)
    kinds = iter(kinds * 100)
    head = s.get("head", s["hidden"] // s["heads"])
    hidden, q, k = s["hidden"], s["heads"] * head, s["kv"] * head

    def matrix(name, *shape):
        kind = next(kinds)
        # As llama-quantize does where rows are no whole blocks.
        tensor(writer, name, shape, kind if shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0 else T.F16)

    matrix("token_embd.weight", s["vocab"], hidden)
    for layer in range(s["layers"]):
        at = f"blk.{layer}."
        tensor(writer, at + "attn_norm.weight", (hidden,), T.F32)
        tensor(writer, at + "ffn_norm.weight", (hidden,), T.F32)
        matrix(at + "attn_q.weight", q, hidden)
        matrix(at + "attn_k.weight", k, hidden)
        matrix(at + "attn_v.weight", k, hidden)
        matrix(at + "attn_output.weight", hidden, q)
        if "bias" in extra:
            for part, rows in [("q", q), ("k", k), ("v", k)]:
                tensor(writer, f"{at}attn_{part}.bias", (rows,), T.F32)
        if "norms" in extra:
            for part in "qk":
                tensor(writer, f"{at}attn_{part}_norm.weight", (head,), T.F32)
        if experts := s.get("experts"):
            tensor(writer, at + "ffn_gate_inp.weight", (experts, hidden), T.F32)
            matrix(at + "ffn_gate_exps.weight", experts, s["moe"], hidden)
            matrix(at + "ffn_up_exps.weight", experts, s["moe"], hidden)
            matrix(at + "ffn_down_exps.weight", experts, hidden, s["moe"])
        else:
            matrix(at + "ffn_gate.weight", s["ffn"], hidden)
            matrix(at + "ffn_up.weight", s["ffn"], hidden)
            matrix(at + "ffn_down.weight", hidden, s["ffn"])
    tensor(writer, "output_norm.weight", (hidden,), T.F32)
    if not tied:
        matrix("output.weight", s["vocab"], hidden)
    if "rope" in extra:
        tensor(writer, "rope_freqs.weight", (head // 2,), T.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def digest(values, dtype):
    values = values.to(dtype).contiguous()
    return hashlib.sha256(values.view(torch.uint8).numpy().tobytes()).hexdigest()


def listed(state, tied):
    """Names as models are published with: an expert by itself."""
    found = {}
    for name, value in state.items():
        if tied and name == "lm_head.weight":
            continue
        if name.endswith("experts.gate_up_proj"):
            for e, both in enumerate(value):
                gate, up = both.chunk(2)
                found[name.replace("gate_up_proj", f"{e}.gate_proj.weight")] = gate
                found[name.replace("gate_up_proj", f"{e}.up_proj.weight")] = up
        elif name.endswith("experts.down_proj"):
            for e, down in enumerate(value):
                found[name.replace("down_proj", f"{e}.down_proj.weight")] = down
        else:
            found[name] = value
    return {
        name: {"shape": list(value.shape), "fp32": digest(value, torch.float32), "fp16": digest(value, torch.float16)}
        for name, value in sorted(found.items())
    }


def of_transformers(name, **missed):
    """`missed`: what transformers does not read from the metadata."""
    config = AutoConfig.from_pretrained(HERE, gguf_file=name)
    for field, value in missed.items():
        setattr(config, field, value)
    model = AutoModelForCausalLM.from_pretrained(HERE, gguf_file=name, config=config, dtype=torch.float32)
    return listed(model.state_dict(), model.config.tie_word_embeddings)


def mixtral(name):
    """transformers reads no mixtral: what llama.cpp's `convert_hf_to_gguf.py` does to q and k is undone here."""
    reader = gguf.GGUFReader(HERE / name)
    part = {"ffn_gate_exps": "w1", "ffn_down_exps": "w2", "ffn_up_exps": "w3"}
    heads = {"attn_q": 4, "attn_k": 2}
    names = {
        "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
        "ffn_gate_inp": "block_sparse_moe.gate",
    }  # fmt: skip
    once = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    state = {}
    for found in reader.tensors:
        value = gguf.dequantize(found.data, found.tensor_type)
        stem = found.name.removesuffix(".weight")
        if stem in once:
            state[once[stem] + ".weight"] = torch.tensor(value)
            continue
        _, layer, what = stem.split(".")
        at = f"model.layers.{layer}."
        if what in part:
            for e, expert in enumerate(value):
                state[f"{at}block_sparse_moe.experts.{e}.{part[what]}.weight"] = torch.tensor(expert)
            continue
        if what in heads:
            # permute() of the converter is reshape(heads, 2, rows / heads / 2, columns).swapaxes(1, 2)
            rows, columns = value.shape
            value = value.reshape(heads[what], rows // heads[what] // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
        state[f"{at}{names[what]}.weight"] = torch.tensor(value)
    return listed(state, False)


def main():
    small = {"layers": 2, "hidden": 64, "heads": 4, "kv": 2, "ffn": 96, "vocab": 40}
    of_blocks = [T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1]
    head = lambda size: lambda writer: (writer.add_rope_dimension_count(size), writer.add_key_length(size), writer.add_value_length(size))
    write("llama.gguf", "llama", small, of_blocks + [T.F16, T.BF16], extra=["rope"], keys=lambda w: w.add_rope_dimension_count(16))
    write("float.gguf", "llama", small | {"layers": 1}, [T.F32, T.F16, T.BF16], tied=True)
    k_sizes = {"layers": 1, "hidden": 256, "heads": 2, "kv": 1, "ffn": 16, "vocab": 24, "head": 8}
    write("llama_k.gguf", "llama", k_sizes, [T.Q6_K, T.Q4_K, T.Q5_K], tied=True, keys=head(8))
    write("qwen2.gguf", "qwen2", small, of_blocks, extra=["bias"], split_max_tensors=12)
    write("qwen3.gguf", "qwen3", small | {"layers": 1, "heads": 2, "kv": 2, "head": 128}, of_blocks, extra=["norms"], tied=True, keys=head(128))

    def experts(writer):
        head(16)(writer)
        writer.add_expert_count(4)
        writer.add_expert_used_count(2)
        writer.add_expert_feed_forward_length(32)

    moe = small | {"layers": 1, "experts": 4, "moe": 32, "head": 16}
    write("qwen3moe.gguf", "qwen3moe", moe, of_blocks, extra=["norms"], keys=experts)
    write("mixtral.gguf", "llama", moe | {"ffn": 32}, of_blocks, keys=lambda w: (w.add_expert_count(4), w.add_expert_used_count(2)))

    writer = gguf.GGUFWriter(HERE / "q2_k.gguf", "llama")
    tensor(writer, "output_norm.weight", (256,), T.F32)
    size = gguf.GGML_QUANT_SIZES[T.Q2_K][1]
    writer.add_tensor("output.weight", np.zeros((2, size), dtype=np.uint8), raw_dtype=T.Q2_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    expected = {name: of_transformers(f"{name}.gguf") for name in ["llama", "float", "llama_k", "qwen3"]}
    expected["qwen3moe"] = of_transformers("qwen3moe.gguf", moe_intermediate_size=32)
    expected["mixtral"] = mixtral("mixtral.gguf")
    # transformers reads no parts: the same tensors in one file.
    parts = sorted(HERE.glob("qwen2-*-of-*.gguf"))
    first = gguf.GGUFReader(parts[0])
    joined = gguf.GGUFWriter(HERE / "joined.gguf", "qwen2")
    for key, field in first.fields.items():
        if key.startswith("qwen2."):
            joined.add_key_value(key, field.contents(), field.types[0])
    for part in parts:
        for found in gguf.GGUFReader(part).tensors:
            joined.add_tensor(found.name, found.data, raw_dtype=found.tensor_type)
    joined.write_header_to_file()
    joined.write_kv_data_to_file()
    joined.write_tensors_to_file()
    joined.close()
    expected["qwen2"] = of_transformers("joined.gguf")
    (HERE / "joined.gguf").unlink()
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")

    kinds = {}
    for kind in SCALES:
        raw = blocks(kind, 4)
        values = gguf.dequantize(raw, kind).astype(np.float32)
        kinds[kind.name] = {"blocks": raw.tobytes().hex(), "bits": [f"{bits:08x}" for bits in values.reshape(-1).view(np.uint32)]}
    (HERE / "blocks.json").write_text(json.dumps(kinds) + "\n")


main()
