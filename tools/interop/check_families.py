#!/usr/bin/env python3
"""Do transformers and MindSpore find the models of tests/data/families in what ckpt-convert writes?

    python tools/interop/check_families.py [--program PATH] [--work DIR]

For each model: pt_to_ms (1 and 2 ranks, fused or not, .ckpt and safetensors), 2 ranks -> 1, and ms_to_pt. What can be checked
depends on what the environment has:

- torch and transformers: the source and the directory that came back are loaded; the logits of a fixed input must be the same bits.
  A model whose classes this transformers does not have is skipped, and so is one that it would not load (the stacked experts, whose
  names only transformers 5 reads).
- mindspore: every rank file is loaded; its names and shapes must be those of the file's own header, and the values of two tensors
  those of the source.
- mindformers' tables of names (tests/data/models/mindformers, from its wheel): the names of qwen3, glm4 and qwen3_moe must be those
  that its tables make of the source's.

Prints one line for each check and, last, "N passed, N failed"; exit status 1 if any failed.
"""
import argparse
import glob
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
MODELS = os.path.join(ROOT, "tests", "data", "families")
TABLES = os.path.join(ROOT, "tests", "data", "models", "mindformers")
COUNTS = {"passed": 0, "failed": 0, "tensors": 0, "logits": 0}


def check(what, good):
    print(("ok    " if good else "FAIL  ") + what, flush=True)
    COUNTS["passed" if good else "failed"] += 1


def run(program, *arguments):
    done = subprocess.run([program, *arguments, "-q", "--no-sync"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)}: status {done.returncode}\n{done.stderr}")


def header(path):
    """names, dtypes and shapes of a .safetensors, and its data"""
    with open(path, "rb") as file:
        data = file.read()
    size = int.from_bytes(data[:8], "little")
    entries = {name: entry for name, entry in json.loads(data[8:8 + size]).items() if name != "__metadata__"}
    return entries, data[8 + size:]


def convert(program, work, source, ranks, form, fused):
    """the directory of rank files, and those that came back"""
    out = os.path.join(work, f"{ranks}-{form}-{fused}")
    run(program, "-f", "pt_to_ms", "-p", "keep", "-w", str(ranks), "--qkv_concat", str(fused).lower(), "--format", form,
        "-sc", source, "-dc", os.path.join(out, "ranks"), "-is", os.path.join(out, "strategy"))
    made = glob.glob(os.path.join(out, "ranks", "*"))[0]
    if ranks > 1:
        run(program, "-f", "distributed_weight_transfer", "-p", "keep", "-w", "1", "--format", form, "-sc", made,
            "-dc", os.path.join(out, "one"), "-is", os.path.join(out, "one-strategy"))
    back = []
    for held in [made] + glob.glob(os.path.join(out, "one", "*")):
        run(program, "-f", "ms_to_pt", "-p", "keep", "--hf-config", source, "-sc", held, "-dc", held + "-back")
        back.append(os.path.join(held + "-back", "keep_hf"))
    return made, back


# ---------------------------------------------------------------- transformers
def logits(folder, ids):
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, torch_dtype="auto").eval()
    with torch.no_grad():
        # fp32 arithmetic on the same weights: not every torch multiplies halves on a processor.
        return model.dtype, model.float()(ids).logits


def is_loadable(folder):
    import transformers

    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        model_type = json.load(file)["model_type"]
    new = int(transformers.__version__.split(".", maxsplit=1)[0]) >= 5
    return model_type in transformers.CONFIG_MAPPING and (new or not folder.endswith("-stacked"))


def by_transformers(name, source, back):
    import torch

    torch.manual_seed(7)
    ids = torch.randint(3, 64, (2, 16))
    dtype, expected = logits(source, ids)
    if not torch.isfinite(expected).all() or expected.float().std() < 1e-3:
        check(f"{name}: the source's logits are numbers that differ", False)
    for folder in back:
        found_dtype, found = logits(folder, ids)
        COUNTS["logits"] += found.numel()
        where = os.path.relpath(folder, os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(folder)))))
        check(f"{name}, {where}: the same logits", found_dtype == dtype and torch.equal(found, expected))


# ---------------------------------------------------------------- mindspore
def by_mindspore(name, source, made, ranks, form):
    import mindspore as ms
    import numpy as np

    def bits(parameter):
        array = parameter.asnumpy()
        return array.view(np.uint16)

    entries, data = header(os.path.join(source, "model.safetensors"))
    whole = {"embedding": "model.embed_tokens.weight", "norm": "model.norm.weight"}
    ours = {"embedding": ("embedding.word_embeddings.weight", "model.tok_embeddings.embedding_weight"),
            "norm": ("decoder.final_layernorm.weight", "model.norm_out.weight")}
    for rank in range(ranks):
        path = os.path.join(made, f"rank_{rank}", f"checkpoint_{rank}.{form}")
        loaded = ms.load_checkpoint(path, format=form)
        COUNTS["tensors"] += len(loaded)
        good = len(loaded) > 0
        if form == "safetensors":
            good = {n: list(p.shape) for n, p in loaded.items()} == {n: e["shape"] for n, e in header(path)[0].items()}
        for what, theirs in whole.items():
            begin, end = entries[theirs]["data_offsets"]
            expected = np.frombuffer(data[begin:end], np.uint16).reshape(entries[theirs]["shape"])
            own = next(n for n in ours[what] if n in loaded)
            held = bits(loaded[own])
            if held.shape != expected.shape:
                expected = expected[rank * len(held):(rank + 1) * len(held)]
            good = good and np.array_equal(held, expected)
        check(f"{name}, {form}: mindspore loads rank {rank} of {ranks}, {len(loaded)} tensors", good)


# ---------------------------------------------------------------- mindformers' tables
def by_tables(name, source, made, fused):
    with open(os.path.join(source, "config.json"), encoding="utf-8") as file:
        model_type = json.load(file)["model_type"]
    table = os.path.join(TABLES, f"{model_type}.json")
    if not os.path.exists(table) or name.endswith("-stacked"):
        return
    with open(table, encoding="utf-8") as file:
        table = json.load(file)
    theirs = header(os.path.join(source, "model.safetensors"))[0]
    expected = set()
    for key in theirs:
        if not fused:
            for old, new in table["weight_mapping"]:
                key = key.replace(old, new)
            expected.add(key)
            continue
        for operation in table.get("weight_converters", []):
            names = operation["hf_names"]
            for hf_name in [names] if isinstance(names, str) else names:
                # the layer, and the expert, which the other name lacks
                found = re.fullmatch(re.escape(hf_name).replace(r"\{\}", r"(\d+)"), key)
                if found:
                    own = operation["mf_names"]
                    own = own if isinstance(own, str) else own[0]
                    expected.add(own.replace("{}", found.group(1)) if found.groups() else own)
    if fused and not table.get("weight_converters"):
        return
    found = set(header(os.path.join(made, "rank_0", "checkpoint_0.safetensors"))[0])
    check(f"{name}, fused: {fused}: {len(found)} names are those of mindformers' table", found == expected)
    if found != expected:
        print("      only ours:", sorted(found - expected)[:5], "only theirs:", sorted(expected - found)[:5])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default=os.path.join(ROOT, "target", "release", "ckpt-convert"))
    parser.add_argument("--work")
    options = parser.parse_args()
    program = os.path.realpath(options.program)
    has = {module: importlib.util.find_spec(module) is not None for module in ("transformers", "mindspore")}
    if not any(has.values()):
        raise SystemExit("neither transformers nor mindspore is there")
    work = options.work or tempfile.mkdtemp()
    for name in sorted(os.listdir(MODELS)):
        source = os.path.join(MODELS, name)
        if not os.path.isdir(source):
            continue
        loadable = has["transformers"] and is_loadable(source)
        if has["transformers"] and not loadable:
            print(f"      {name} is skipped by transformers: it cannot load the source")
        for ranks, form, fused in ((1, "ckpt", False), (2, "safetensors", False), (2, "safetensors", True)):
            made, back = convert(program, os.path.join(work, name), source, ranks, form, fused)
            if loadable:
                by_transformers(name, source, back)
            if has["mindspore"]:
                by_mindspore(name, source, made, ranks, form)
            if form == "safetensors":
                by_tables(name, source, made, fused)
        shutil.rmtree(os.path.join(work, name))
    if not options.work:
        shutil.rmtree(work)
    print(f"{COUNTS['tensors']} tensors of rank files loaded, {COUNTS['logits']} logits compared")
    print(f"{COUNTS['passed']} passed, {COUNTS['failed']} failed")
    return 1 if COUNTS["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
