#!/usr/bin/env python3
"""Write shapes/<model type>.json: the configuration and the names and shapes of the state dict of small models, by transformers.

    pip install torch transformers          (5.x)
    python make_shapes.py
    pip install torch transformers==4.55.4  (in another environment: experts had names of their own up to 4.x)
    python make_shapes.py
"""
import json
import os

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
SMALL = {
    "vocab_size": 48, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2,
    "head_dim": 8, "intermediate_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}
MODELS = {
    "llama": {}, "mistral": {}, "qwen2": {}, "qwen3": {}, "glm4": {"attention_bias": True},
    "mixtral": {"num_local_experts": 3}, "qwen3_moe": {"num_experts": 4, "moe_intermediate_size": 10},
}


def main():
    os.makedirs(os.path.join(HERE, "shapes"), exist_ok=True)
    old = transformers.__version__.startswith("4.")
    for kind, own in MODELS.items():
        if old and not any("experts" in key for key in own):
            continue
        config = AutoConfig.for_model(kind, **{**SMALL, **own})
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
        with open(os.path.join(HERE, "shapes", f"{kind}-v4.json" if old else f"{kind}.json"), "w") as file:
            json.dump({"config": json.loads(config.to_json_string(use_diff=False)), "shapes": shapes}, file, indent=1, sort_keys=True)
            file.write("\n")
        print(kind, len(shapes))


if __name__ == "__main__":
    main()
