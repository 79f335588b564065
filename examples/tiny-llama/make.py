#!/usr/bin/env python3
"""Write ckpt/ and training/, the example in MindSpore's forms, with MindSpore itself.

    pip install mindspore==2.10.0
    python make.py

ckpt/       one rank, fp16, fused as the original scripts and mindformers up to 1.3 do it: w_qkv = [wq; wk; wv] and
            w_gate_hidden = [w1; w3].
training/   four ranks of a training run: two pipeline stages of two tensor-parallel ranks, fp32, with the moments of Adam and
            the counters that MindSpore saves; and the strategy file of each rank.
"""
import os
import shutil

import mindspore as ms
import numpy as np
from mindspore.train.node_strategy_pb2 import ParallelStrategyMap

from weights import LAYERS, weights

HERE = os.path.dirname(os.path.abspath(__file__))
STAGES, TENSOR = 2, 2


def save(params, *path):
    path = os.path.join(HERE, *path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    ms.save_checkpoint([{"name": n, "data": ms.Tensor(a)} for n, a in params], path)
    os.chmod(path, 0o644)  # MindSpore leaves 0400
    print(f"{path}: {len(params)} parameters, {os.path.getsize(path)} bytes")


def inference(whole):
    fused = {}
    for name, value in whole.items():
        if ".attention.wk." in name or ".attention.wv." in name or ".feed_forward.w3." in name:
            continue
        if ".attention.wq." in name:
            parts = [value] + [whole[name.replace("wq", part)] for part in ("wk", "wv")]
            name, value = name.replace("wq", "w_qkv"), np.concatenate(parts)
        elif ".feed_forward.w1." in name:
            name, value = name.replace("w1", "w_gate_hidden"), np.concatenate([value, whole[name.replace("w1", "w3")]])
        fused[name] = value
    save(list(fused.items()), "ckpt", "rank_0", "llama_tiny.ckpt")


def stage_of(name):
    if name.startswith("model.layers."):
        return int(name.split(".")[2]) * STAGES // LAYERS
    return 0 if "embedding" in name else STAGES - 1


def cut(name):
    """The axis that tensor parallelism cuts, or none."""
    if "norm" in name:
        return None
    return 1 if ".wo." in name or ".w2." in name else 0


def strategy(layouts, stage, *path):
    """As mindformers' `strategy_ckpt_save_file` leaves it, written with MindSpore's own message classes."""
    message = ParallelStrategyMap()
    message.current_stage = stage
    for name, (axes, axis) in layouts.items():
        item = message.parallel_strategy_item.add()
        item.node_name = name
        item.parallel_strategys.stage = stage
        item.parallel_strategys.parallel_strategy.add().dim.extend(TENSOR if i == axis else 1 for i in range(axes))
        layout = message.parallel_layout_item.add()
        layout.param_name = name
        layout = layout.parallel_layouts
        layout.field = 0
        layout.opt_weight_shard_step = 0
        layout.opt_weight_shard_size = 0
        layout.dev_matrix.add().dim.append(TENSOR)
        layout.tensor_map.add().dim.extend(0 if i == axis else -1 for i in range(axes))
        layout.param_split_shape.add()
        layout.indices_offset.add()
    path = os.path.join(HERE, *path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(message.SerializeToString())


def training(whole):
    rng = np.random.default_rng(8)
    moments = {n: [rng.normal(0, s, a.shape).astype(np.float32) for s in (1e-4, 1e-8)] for n, a in whole.items()}
    for rank in range(STAGES * TENSOR):
        stage, part = divmod(rank, TENSOR)
        params, layouts = [], {}
        for name, value in whole.items():
            if stage_of(name) != stage:
                continue
            named = [(name, value.astype(np.float32))] + list(zip((f"adam_m.{name}", f"adam_v.{name}"), moments[name]))
            for name_, value_ in named:
                axis = cut(name)
                params.append((name_, value_ if axis is None else np.split(value_, TENSOR, axis)[part]))
                layouts[name_] = (value_.ndim, axis)
        params += [("global_step", np.array(100, np.int32)), ("epoch_num", np.array(1, np.int32)), ("step_num", np.array(100, np.int32))]
        save(params, "training", "checkpoint", f"rank_{rank}", f"llama_tiny_rank_{rank}-1_100.ckpt")
        strategy(layouts, stage, "training", "strategy", f"ckpt_strategy_rank_{rank}.ckpt")


def main():
    for directory in ("ckpt", "training"):
        shutil.rmtree(os.path.join(HERE, directory), ignore_errors=True)
    whole = weights()
    inference(whole)
    training(whole)


if __name__ == "__main__":
    main()
