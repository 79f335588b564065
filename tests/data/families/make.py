#!/usr/bin/env python3
"""Write <model>/model.safetensors and config.json: tiny models of each family with random weights, by transformers.

    pip install torch transformers==5.24    then    python make.py
    pip install torch transformers==4.55.4  then    python make.py    (in another environment)

<model>-stacked holds the experts of mixtral and qwen3_moe as the classes of transformers 5 do (`mlp.experts.gate_up_proj`), from the
state dict itself; version 4 saves each expert by itself.
"""
import os

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
SMALL = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "tie_word_embeddings": False,
}
EXPERTS = {"num_experts_per_tok": 2}
MODELS = {
    # (model type, dtype, what differs from SMALL)
    "llama": ("llama", "float16", {}),
    "mistral": ("mistral", "bfloat16", {"head_dim": 16}),
    "qwen2": ("qwen2", "bfloat16", {}),
    "qwen3": ("qwen3", "bfloat16", {"head_dim": 16}),
    "qwen3-tied": ("qwen3", "float16", {"head_dim": 16, "tie_word_embeddings": True}),
    "glm4": ("glm4", "bfloat16", {"head_dim": 16, "attention_bias": True}),
    "glm4-no-bias": ("glm4", "float16", {"head_dim": 8, "attention_bias": False}),
    "mixtral": ("mixtral", "bfloat16", {"num_local_experts": 4, **EXPERTS}),
    "qwen3_moe": ("qwen3_moe", "float16", {"head_dim": 16, "num_experts": 4, "moe_intermediate_size": 24, **EXPERTS}),
}
OLD = ("mixtral", "qwen3_moe")


def random(model):
    """every parameter random, norms and biases too, small enough for half precision"""
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape) * 0.3
            value.copy_(noise + 1 if "norm" in name else noise)


def main():
    old = transformers.__version__.startswith("4.")
    for folder, (kind, dtype, own) in MODELS.items():
        if old != (folder in OLD):
            if old:
                continue
            folder += "-stacked"
        torch.manual_seed(sum(map(ord, folder)))
        config = AutoConfig.for_model(kind, **{**SMALL, **own})
        model = AutoModelForCausalLM.from_config(config)
        random(model)
        model = model.to(getattr(torch, dtype)).eval()
        out = os.path.join(HERE, folder)
        model.save_pretrained(out)
        if folder.endswith("-stacked"):
            state = {name: value.contiguous() for name, value in model.state_dict().items()}
            save_file(state, os.path.join(out, "model.safetensors"), {"format": "pt"})
        extra = os.path.join(out, "generation_config.json")
        if os.path.exists(extra):
            os.remove(extra)
        size = sum(os.path.getsize(os.path.join(out, name)) for name in os.listdir(out))
        print(f"{folder}: {len(model.state_dict())} tensors, {size} bytes")


if __name__ == "__main__":
    main()
