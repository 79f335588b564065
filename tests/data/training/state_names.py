"""Writes state_names.txt: what the optimizers and wrappers of MindSpore name their state, and what its callbacks append.

Run with a python that has mindspore==2.10.0. Optimizers of mindformers need an accelerator; their names are listed by hand, after
`mindformers/core/optim/{adamw,fused_adamw,came,muon,pma_adamw}.py`, `mindformers/pynative/optimizer/adamw.py` and
`CheckpointMonitor` (mindformers 1.3 to master of 2026-07).
"""
import os

import numpy as np
import mindspore as ms
from mindspore import nn

W = "model.layers.0.attention.wq.weight"


def params():
    return [ms.Parameter(ms.Tensor(np.zeros((4, 4), np.float32)), name=W)]


def add(found, kind, names):
    for name in names:
        if name != W:
            found.setdefault(name, kind)


found, failed = {}, []
for kind in ["Adam", "AdamWeightDecay", "AdaMax", "AdaFactor", "Adagrad", "Adadelta", "ASGD", "FTRL", "Lamb", "LazyAdam", "Momentum",
             "ProximalAdagrad", "RMSProp", "Rprop", "SGD"]:
    kwargs = {"Momentum": dict(learning_rate=0.1, momentum=0.9), "Lamb": dict(learning_rate=0.1), "RMSProp": dict(centered=True),
              "Adam": dict(use_amsgrad=True), "AdaFactor": dict(beta1=0.9)}.get(kind, {})
    optimizer = getattr(nn, kind)(params(), **kwargs)
    add(found, f"nn.{kind}", (p.name for p in optimizer.get_parameters()))
import mindspore.mint.optim as mint
import mindspore.experimental.optim as experimental
for module, kinds in [(mint, ["Adam", "AdamW", "SGD"]),
                      (experimental, ["Adadelta", "Adagrad", "Adam", "Adamax", "AdamW", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD"])]:
    for kind in kinds:
        kwargs = dict(lr=0.1, momentum=0.9) if kind == "SGD" else dict(amsgrad=True) if kind in ("Adam", "AdamW") else {}
        try:
            optimizer = getattr(module, kind)(params(), **kwargs)
            add(found, f"{module.__name__.split('mindspore.')[1]}.{kind}", (p.name for p in optimizer.get_parameters()))
        except Exception as e:
            failed.append((module.__name__, kind, repr(e)[:100]))
cell = nn.Dense(2, 2)
wrapped = nn.TrainOneStepWithLossScaleCell(nn.WithLossCell(cell, nn.MSELoss()), nn.SGD(cell.trainable_params()), ms.Tensor(1.0))
add(found, "nn.TrainOneStepWithLossScaleCell", (p.name for p in wrapped.get_parameters() if "." not in p.name and p.name not in ("weight", "bias")))
by_hand = {
    "mindformers AdamW": [f"adam_m.{W}", f"adam_v.{W}"],
    "mindformers FusedAdamW": [f"exp_avg.{W}", f"exp_avg_sq.{W}", f"max_exp_avg_sq.{W}"],
    "mindformers Came": [f"exp_avg_sq_row_{W}", f"exp_avg_sq_col_{W}", f"exp_avg_insta_row_{W}", f"exp_avg_insta_col_{W}", f"exp_avg_sq_{W}"],
    "mindformers Muon": [f"muon_m.{W}", "muon_m.placeholder.0", "adam_m.placeholder.0", "adam_v.placeholder.0"],
    "mindformers PmaAdamW": [f"pma_weight_ema.{W}", f"pma_weight_sma.{W}"],
    "mindformers pynative": [f"main_param.{W}"],
    "mindformers MFPipelineWithLossScaleCell": [f"accu_grads.{W}"],
    "mindformers CheckpointMonitor": ["epoch_num", "step_num", "global_step", "loss_scale", "global_batch_size"],
    "MindSpore TrainFaultTolerance": ["__exception_save__", "cur_rank", "batch_num"],
}
for kind, names in by_hand.items():
    add(found, kind, names)
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "state_names.txt"), "w") as out:
    for name, kind in sorted(found.items()):
        out.write(f"{name}\t{kind}\n")
print(len(found), "names;", "not made:", failed)
