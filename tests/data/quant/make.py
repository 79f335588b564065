"""Makes gs060.safetensors of golden-stick's own results: gs060_cpu.npz, which golden_run.py (here) made by running
golden-stick 0.6.0's QuantLinearCell, SmoothLinearCell and QuantPageAttentionMgrCell on MindSpore's CPU backend.

Usage: make.py gs060_cpu.npz quant_8to4 (numpy only). quant_8to4: the directories that quantr.py (here) made with MindSpore's
transform_checkpoints and the original adjust_qkv.py: src (8 ranks) and w8a8_4p_adjust (4 ranks); their files are kept as they are.
"""
import json, pathlib, shutil, struct, sys
import numpy as np

NAMES = {"float16": "F16", "float32": "F32", "int8": "I8", "int32": "I32", "int64": "I64"}

def main(npz, ranks):
    here = pathlib.Path(__file__).parent
    arrays = np.load(npz)
    header, data = {}, b""
    for name in arrays:
        value = np.ascontiguousarray(arrays[name])
        raw = value.tobytes()
        header[name] = {"dtype": NAMES[str(value.dtype)], "shape": list(value.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (here / "gs060.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    for side, name in (("src", "ptq"), ("w8a8_4p_adjust", "checkpoint_{}")):
        for rank in sorted(pathlib.Path(ranks, side).iterdir()):
            to = here / "8to4" / side / rank.name
            to.mkdir(parents=True, exist_ok=True)
            number = rank.name.removeprefix("rank_")
            shutil.copyfile(rank / f"{name.format(number)}.ckpt", to / f"checkpoint_{number}.ckpt")

main(*sys.argv[1:])
