"""Write names.json: the names and shapes of models as the real libraries have them, and the order of reordered rows.

Usage: python make_names.py OUT.json [CHECKPOINT_DIR...]
Needs: torch, transformers (4.40 or newer). The models are tiny and initialised at random; no value is kept. Each
CHECKPOINT_DIR holds a config.json and a model.safetensors that other versions saved; its names are added as they are.
"""
import json
import os
import struct
import sys

import torch
import transformers
from transformers import LlamaConfig, MistralConfig, Qwen2Config
from transformers import LlamaForCausalLM, LlamaModel, MistralForCausalLM, Qwen2ForCausalLM

# No two dimensions are the same, so that a mix-up shows.
SIZES = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 6, "vocab_size": 97}


def case(name, model):
    config = json.loads(model.config.to_json_string())  # as save_pretrained writes it
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    return {"case": name, "from": f"transformers {transformers.__version__}", "config": config, "shapes": shapes}


def saved(path):
    with open(os.path.join(path, "model.safetensors"), "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    header.pop("__metadata__", None)
    config = json.load(open(os.path.join(path, "config.json")))
    shapes = {key: value["shape"] for key, value in header.items()}
    version = config.get("transformers_version", "?")
    return {"case": os.path.basename(path.rstrip("/")), "from": f"transformers {version}", "config": config, "shapes": shapes}


def rope_rows(heads, head_dim):
    """Row of Meta's q or k that is each row of Hugging Face's: `permute` of transformers' convert_llama_weights_to_hf.py."""
    rows = torch.arange(heads * head_dim).view(heads * head_dim, 1)
    permuted = rows.view(heads, head_dim // 2, 2, 1).transpose(1, 2).reshape(heads * head_dim, 1)
    return {"heads": heads, "head_dim": head_dim, "rows": permuted.flatten().tolist()}


def grouped_rows(heads, kv_heads, head_dim):
    """Rows of InternLM 2's wqkv that are q, k and v: the einops of its modeling_internlm2.py, `(h gs d) -> h gs d` with
    q = [:, :-2], k = [:, -2], v = [:, -1]."""
    rows = torch.arange((heads + 2 * kv_heads) * head_dim).view(kv_heads, heads // kv_heads + 2, head_dim)
    parts = [rows[:, :-2], rows[:, -2], rows[:, -1]]
    return {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "parts": [p.flatten().tolist() for p in parts]}


def packed_rows(heads, head_dim):
    """Rows of Baichuan 2's W_pack that are q, k and v: `unflatten(-1, (3, hidden))` of its modeling_baichuan.py."""
    parts = torch.arange(3 * heads * head_dim).unflatten(-1, (3, heads * head_dim))
    return {"heads": heads, "head_dim": head_dim, "parts": [p.flatten().tolist() for p in parts]}


models = [
    case("llama_mha", LlamaForCausalLM(LlamaConfig(**SIZES))),
    case("llama_gqa", LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=2, torch_dtype="bfloat16"))),
    case("llama_tied", LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True))),
    case("llama_base", LlamaModel(LlamaConfig(**SIZES, num_key_value_heads=3))),
    case("mistral", MistralForCausalLM(MistralConfig(**SIZES, num_key_value_heads=2))),
    case("qwen2", Qwen2ForCausalLM(Qwen2Config(**SIZES, num_key_value_heads=2))),
    case("qwen2_tied", Qwen2ForCausalLM(Qwen2Config(**SIZES, num_key_value_heads=2, tie_word_embeddings=True))),
]
models += [saved(path) for path in sys.argv[2:]]
result = {
    "models": models,
    "rope": [rope_rows(6, 8), rope_rows(2, 4), rope_rows(1, 2)],
    "grouped": [grouped_rows(6, 2, 4), grouped_rows(4, 4, 2)],
    "packed": [packed_rows(3, 4)],
}
with open(sys.argv[1], "w") as file:
    # One line for each model, so that a diff shows which changed.
    file.write("{\n")
    for number, (key, rows) in enumerate(result.items()):
        lines = ",\n".join(json.dumps(row) for row in rows)
        file.write(f'"{key}": [\n{lines}\n]{"," if number + 1 < len(result) else ""}\n')
    file.write("}\n")
