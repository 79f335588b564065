"""Training ranks that MindSpore makes, through train_to_infer, and back to MindSpore."""
import os
import shutil
import subprocess

import mindspore as ms
import numpy as np

import check as tools

SRC = {"train_fp32_1p": "Float32", "fp16_1p": "Float16"}
STRATEGIES = os.path.join(tools.DATA, "mindspore", "strategies")


def run(c, *command):
    done = subprocess.run([c.program, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"exit status {done.returncode} of {' '.join(command)}\n{done.stderr.strip()[-300:]}"


def source(name):
    """the model of a source, without the training state beside it"""
    folder = os.path.join(tools.DATA, "mindspore", "src", name, "rank_0")
    everything = tools.read_ckpt(tools.only_file(folder, ".ckpt"))
    return {n: v for n, v in everything.items() if n.startswith("model.") or n == "lm_head.weight"}


def training_ranks(c, name, strategy):
    """MindSpore cuts a whole model for a training strategy, optimizer state and all"""
    out = os.path.join(c.work, f"train_{name}_{os.path.basename(strategy)}")
    if not os.path.exists(out):
        src = os.path.join(c.work, f"whole_{name}")
        if not os.path.exists(src):
            shutil.copytree(os.path.join(tools.DATA, "mindspore", "src", name), src)
        ms.transform_checkpoints(src, out, "checkpoint_", None, os.path.join(STRATEGIES, strategy))
    return out


def infers(c, yaml, name, strategy, stated, ranks, fused, *options):
    """the ranks that train_to_infer makes, as MindSpore loads them"""
    src = training_ranks(c, name, strategy)
    base = os.path.join(c.work, f"infer_{len(os.listdir(c.work))}")
    run(c, "-f", "train_to_infer", "-p", "fp16", "-w", str(ranks), "-y", yaml, "-sc", src, "-ts", stated,
        "-dc", os.path.join(base, "ckpt"), "-is", os.path.join(base, "strategy"), *options)
    model = {n: tools.cast(kind, a, "fp16") for n, (kind, a) in source(name).items()}
    if "--norm-dtype" in options:
        model.update({n: tools.cast(k, a, "fp32") for n, (k, a) in source(name).items() if "norm" in n})
    found = tools.rank_dirs(os.path.join(base, "ckpt", f"fp16_{ranks}p" + ("_qkv" if fused else "")))
    assert len(found) == ranks, f"{len(found)} rank folders"
    for r, d in enumerate(found):
        tools.same(tools.load(tools.only_file(d, ".ckpt")), tools.slice_of(model, r, ranks, fused), f"rank {r}")


def quantises(c, yaml, name, strategy, stated):
    """the w8a16 that train_to_infer makes on one card, as MindSpore loads it"""
    src = training_ranks(c, name, strategy)
    base = os.path.join(c.work, f"infer_{len(os.listdir(c.work))}")
    run(c, "-f", "train_to_infer", "-p", "w8a16", "-w", "1", "-y", yaml, "-sc", src, "-ts", stated,
        "-dc", os.path.join(base, "ckpt"), "-is", os.path.join(base, "strategy"), "--format", "ckpt")
    model = {}
    for n, (kind, a) in source(name).items():
        kind, bits = tools.cast(kind, a, "fp16")
        if not n.startswith("model.layers.") or "norm" in n or not n.endswith(".weight"):
            model[n] = kind, bits
            continue
        # golden-stick: every step in fp16.
        half, layer = bits.view("<f2"), n[:-len(".weight")]
        peak = np.abs(half).max(axis=1)
        scale = ((peak + peak).astype(np.float16) / np.float16(255)).astype(np.float16)
        with np.errstate(divide="ignore", invalid="ignore"):
            steps = np.where(scale[:, None] == 0, np.float16(0), half / scale[:, None])
        model[f"{layer}._layer.weight"] = "Int8", np.clip(np.rint(steps), -128, 127).astype(np.int8)
        model[f"{layer}._layer.matmul.t_scale"] = "Float16", scale.view(bits.dtype)
        model[f"{layer}._layer.matmul.t_zp_neg"] = "Float16", np.zeros_like(scale).view(bits.dtype)
    (found,) = tools.rank_dirs(os.path.join(base, "ckpt", "w8a16_1p"))
    tools.same(tools.load(tools.only_file(found, ".ckpt")), model, "w8a16")


def json_serves(c, name, strategy):
    """MindSpore joins its own training ranks by our JSON of its strategy"""
    src = training_ranks(c, name, strategy)
    made = os.path.join(c.work, f"{strategy}.json")
    run(c, "strategy", "convert", os.path.join(STRATEGIES, strategy), made)
    out = os.path.join(c.work, f"joined_{strategy}")
    ms.transform_checkpoints(src, out, "checkpoint_", made, None)
    got = tools.read_ckpt(tools.only_file(os.path.join(out, "rank_0"), ".ckpt"))
    got = {n: v for n, v in got.items() if n.startswith("model.") or n == "lm_head.weight"}
    tools.same(got, source(name), "joined")


def merged_serves(c, name, stages, strategy):
    """MindSpore joins the stages by our merged strategy"""
    src = training_ranks(c, name, strategy)
    made = os.path.join(c.work, f"merged_{stages}.ckpt")
    run(c, "strategy", "merge", os.path.join(STRATEGIES, "stages", stages), made)
    out = os.path.join(c.work, f"joined_{stages}")
    ms.transform_checkpoints(src, out, "checkpoint_", made, None)
    tools.same(tools.read_ckpt(tools.only_file(os.path.join(out, "rank_0"), ".ckpt")), source(name), "joined")


def from_yaml_serves(c, yaml):
    """MindSpore cuts a model by a strategy that we made from a yaml"""
    made = os.path.join(c.work, "from_yaml_4.ckpt")
    run(c, "strategy", "from-yaml", yaml, "-w", "4", made, "--qkv_concat", "false")
    src = os.path.join(c.work, "whole_yaml")
    shutil.copytree(os.path.join(tools.DATA, "mindspore", "src", "fp16_1p"), src)
    out = os.path.join(c.work, "cut_by_yaml")
    ms.transform_checkpoints(src, out, "checkpoint_", None, made)
    for r, d in enumerate(tools.rank_dirs(out)):
        tools.same(tools.read_ckpt(tools.only_file(d, ".ckpt")), tools.slice_of(source("fp16_1p"), r, 4, False), f"rank {r}")


def run_all(c, yaml):
    """yaml: fused or not -> path"""
    def there(name):
        return os.path.join(STRATEGIES, name)

    dp, groups = "dp2mp2_opt_train.ckpt", "dp4mp2_opt2_train.ckpt"
    pp, stages = "pp2dp2mp2_opt_merged.ckpt", os.path.join("stages", "pp2dp2mp2_opt")
    for name, strategy, stated in (("train_fp32_1p", dp, there(dp)), ("train_fp32_1p", groups, there(groups)),
                                   ("fp16_1p", pp, there(pp)), ("fp16_1p", pp, there(stages))):
        for ranks, fused in ((4, True), (2, False)):
            label = f"{os.path.relpath(stated, STRATEGIES)} -> {ranks}{' fused' if fused else ''}"
            c.check(f"train_to_infer {name} {label}", infers, c, yaml(fused), name, strategy, stated, ranks, fused)
        # The fp32 model has numbers that scales of fp16 cannot hold.
        if name != "train_fp32_1p":
            c.check(f"train_to_infer -p w8a16 {name} {os.path.relpath(stated, STRATEGIES)}", quantises, c, yaml(False),
                    name, strategy, stated)
    c.check("train_to_infer with fp32 norms", infers, c, yaml(True), "train_fp32_1p", dp, there(dp), 4, True,
            "--norm-dtype", "fp32")
    c.check("transform_checkpoints by our JSON of a strategy", json_serves, c, "train_fp32_1p", dp)
    c.check("transform_checkpoints by our merged strategy", merged_serves, c, "fp16_1p", "pp2dp2mp2_opt", pp)
    c.check("transform_checkpoints by our strategy from a yaml", from_yaml_serves, c, yaml(False))
