#!/usr/bin/env python3
"""Does the real PyTorch load what the PyTorch writer writes?

    python check_torch.py [FILE...]       (needs torch; default: tests/data/torch/written.bin and written_crc.bin)

The tensors are those of `WRITTEN` in tests/it/pytorch.rs, every byte 1. Each file is loaded with weights_only=True from
the file, mapped, and from memory, and by Python's unpickler. The file without CRC-32s is one that `zipfile` lists but does
not extract. Prints one line for each check and, last, "N passed, N failed"; exit status 1 if any failed.
"""
import io
import os
import sys
import zipfile

import torch

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "data", "torch")
WRITTEN = {"half": (torch.float16, (2, 3)), "brain": (torch.bfloat16, (3,)), "single": (torch.float32, (70, 5)),
           "unsigned": (torch.uint32, (4, 1)), "flags": (torch.bool, (5,)), "scalar": (torch.int64, ()),
           "empty": (torch.float32, (0, 7))}


def same(loaded):
    assert list(loaded) == list(WRITTEN), list(loaded)
    for name, (dtype, shape) in WRITTEN.items():
        tensor = loaded[name]
        assert (tensor.dtype, tuple(tensor.shape)) == (dtype, shape), f"{name}: {tensor.dtype} {tensor.shape}"
        assert tensor.is_contiguous() and not tensor.requires_grad, name
        assert set(tensor.clone().reshape(-1).view(torch.uint8).tolist()) <= {1}, name
        assert tensor.data_ptr() % 64 == 0 or not tensor.numel(), f"{name} is not aligned"


def zip_reads(path):
    with zipfile.ZipFile(path) as z:
        try:
            return z.testzip()
        except zipfile.BadZipFile as error:
            return str(error)


def main():
    paths = sys.argv[1:] or [os.path.join(DATA, name) for name in ("written.bin", "written_crc.bin")]
    checks = []
    for path in paths:
        with open(path, "rb") as f:
            memory = f.read()
        checks += [
            (path, "weights_only", lambda p=path: same(torch.load(p, weights_only=True))),
            (path, "mapped", lambda p=path: same(torch.load(p, weights_only=True, mmap=True))),
            (path, "from memory", lambda m=memory: same(torch.load(io.BytesIO(m), weights_only=True))),
            (path, "any pickle", lambda p=path: same(torch.load(p, weights_only=False))),
        ]
        if path.endswith("_crc.bin"):
            checks.append((path, "zipfile", lambda p=path: (_ for _ in ()).throw(AssertionError(zip_reads(p)))
                           if zip_reads(p) else None))
    failed = 0
    for path, what, check in checks:
        try:
            check()
            print(f"ok    {os.path.basename(path)}: {what}")
        except Exception as error:  # whatever it is, the check failed
            failed += 1
            print(f"FAIL  {os.path.basename(path)}: {what}: {type(error).__name__}: {error}")
    print(f"{len(checks) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
