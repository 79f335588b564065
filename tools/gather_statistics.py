#!/usr/bin/env python3
"""Gathers the statistics that `ckpt-convert -f quant_weight --stats` reads, by running a llama-like model with transformers.

    gather_statistics.py MODEL TEXTS OUT [--samples N] [--length N]

MODEL: whatever `AutoModelForCausalLM.from_pretrained` takes (for a GGUF file: its directory and --gguf NAME).
TEXTS: a text file; its paragraphs (separated by blank lines) are the samples. OUT: the statistics, as docs/en/statistics.md
describes them. Needs torch, transformers and safetensors.
"""
import argparse

import torch
from safetensors.torch import save_file

LINEAR = {  # Hugging Face's module, and the layer whose input it is. What q, k and v are given is one.
    "self_attn.q_proj": "attention.w_qkv.input",
    "self_attn.o_proj": "attention.wo.input",
    "mlp.gate_proj": "feed_forward.w_gate_hidden.input",
    "mlp.down_proj": "feed_forward.w2.input",
}


def paragraphs(path, samples):
    with open(path, encoding="utf-8") as file:
        found = [p.strip() for p in file.read().split("\n\n") if p.strip()]
    if not found:
        raise SystemExit(f"{path} holds no text")
    return found[:samples]


class Ranges:
    """The least and the greatest of each channel, seen so far."""

    def __init__(self):
        self.seen = {}

    def see(self, name, values):
        values = values.detach().reshape(-1, values.shape[-1]).float()
        low, high = values.min(0).values, values.max(0).values
        if name in self.seen:
            old_low, old_high = self.seen[name]
            low, high = torch.minimum(low, old_low), torch.maximum(high, old_high)
        self.seen[name] = (low, high)

    def tensors(self):
        return {f"{name}.{end}": value.half().contiguous() for name, ends in self.seen.items() for end, value in zip(("min", "max"), ends)}


def gather(model, tokenizer, texts, length):
    """Runs the texts; answers the tensors of the statistics file."""
    ranges, hooks = Ranges(), []
    for number, layer in enumerate(model.model.layers):
        for module, name in LINEAR.items():
            place = f"model.layers.{number}.{name}"
            hook = lambda _, args, place=place: ranges.see(place, args[0])
            hooks.append(layer.get_submodule(module).register_forward_pre_hook(hook))
    with torch.no_grad():
        for text in texts:
            ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=length).input_ids
            # The cache holds keys after the rotation and values: what is kept in int8 later.
            cache = model(ids, use_cache=True).past_key_values
            for number, (keys, values) in enumerate(layers_of(cache)):
                for name, held in (("key", keys), ("value", values)):
                    # [batch, heads, tokens, head] to [tokens, heads * head]
                    ranges.see(f"model.layers.{number}.attention.{name}", held.transpose(1, 2).flatten(2))
    for hook in hooks:
        hook.remove()
    return ranges.tensors()


def layers_of(cache):
    if hasattr(cache, "layers"):
        return [(layer.keys, layer.values) for layer in cache.layers]
    return [(layer[0], layer[1]) for layer in cache]


def save(tensors, path):
    save_file(tensors, path, metadata={"format": "ckpt-convert.statistics", "version": "1"})


def main():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("texts")
    parser.add_argument("out")
    parser.add_argument("--gguf", help="name of a GGUF file in MODEL")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--length", type=int, default=512, help="tokens of a sample at most")
    args = parser.parse_args()
    more = {"gguf_file": args.gguf} if args.gguf else {}
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32, **more).eval()
    tokenizer = AutoTokenizer.from_pretrained(args.model, **more)
    tensors = gather(model, tokenizer, paragraphs(args.texts, args.samples), args.length)
    save(tensors, args.out)
    print(f"{args.out}: {len(tensors)} vectors of {len(model.model.layers)} layers")


if __name__ == "__main__":
    main()
