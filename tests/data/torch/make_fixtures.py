"""Writes the small PyTorch checkpoints of this folder with the real library.

    python make_fixtures.py          (needs torch and numpy; 2.15.0 and 2.4.6 were used)

`expected.json`: file -> tensor -> [dtype, shape, SHA-256 of the little-endian bytes in row-major order], as
`torch.load(weights_only=True)` answers them. Files in `hostile/` are in no such list: each has to be refused.
"""
import argparse
import collections
import hashlib
import json
import os
import pickle
import zipfile

import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
EXPECTED = {}
NAMES = {torch.bool: "Bool", torch.int8: "Int8", torch.uint8: "UInt8", torch.int16: "Int16", torch.uint16: "UInt16",
         torch.int32: "Int32", torch.uint32: "UInt32", torch.int64: "Int64", torch.uint64: "UInt64",
         torch.float16: "Float16", torch.bfloat16: "BFloat16", torch.float32: "Float32", torch.float64: "Float64"}


def raw(tensor):
    dense = tensor.detach().clone(memory_format=torch.contiguous_format).reshape(-1)
    return dense.view(torch.uint8).numpy().tobytes() if dense.numel() else b""


def path(name):
    return os.path.join(HERE, name)


def save(name, value, wrappers=(), safe=True, **options):
    torch.save(value, path(name), **options)
    loaded = torch.load(path(name), weights_only=safe)
    for wrapper in wrappers:
        loaded = loaded[wrapper]
    EXPECTED[name] = {k: [NAMES[t.dtype], list(t.shape), hashlib.sha256(raw(t)).hexdigest()]
                      for k, t in loaded.items() if isinstance(t, torch.Tensor)}


def dtypes():
    values = torch.arange(6).reshape(2, 3)
    return {str(dtype)[6:]: (values % 2 if dtype == torch.bool else values).to(dtype) for dtype in NAMES}


def views():
    base = torch.arange(256, dtype=torch.float32)
    return {
        "offset": base[32:64].view(4, 8),
        "transposed": base[:24].view(4, 6).t(),
        "permuted": base[:24].view(2, 3, 4).permute(2, 0, 1),
        "step": base[::2][:16],
        "columns": base[:64].view(8, 8)[:, 2:5],
        "expanded": base[7:8].expand(3, 4),
        "expanded_rows": base[8:12].view(1, 4).expand(3, 4),
        "one_row_of_odd_stride": base.as_strided((1, 4), (77, 1), 3),
        "scalar": torch.tensor(3.5, dtype=torch.float16),
        "empty": torch.empty(0, 7),
        "parameter": torch.nn.Parameter(torch.ones(3, 5, dtype=torch.float16)),
    }


def with_attribute():
    tensor, parameter = torch.arange(4.0), torch.nn.Parameter(torch.arange(6.0).view(2, 3))
    tensor.note, parameter.tensor_model_parallel = "seen", True
    return {"tensor": tensor, "parameter": parameter}


def training():
    model = torch.nn.Linear(4, 3)
    model.weight.data, model.bias.data = torch.arange(12.0).view(3, 4), torch.arange(3.0)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    model.weight.data, model.bias.data = torch.arange(12.0).view(3, 4), torch.arange(3.0)
    state = model.state_dict()
    state["layer._extra_state"] = None
    state["steps"] = 7
    return {"model": {"module": state}, "optimizer": optimizer.state_dict(), "epoch": 3,
            "args": argparse.Namespace(lr=1e-4, big=1 << 100, path="run"), "loss": np.float64(0.5)}


def dated(name):
    """an entry of 1980, like all of PyTorch's"""
    return zipfile.ZipInfo(name)


def archive(name, source, change, method=zipfile.ZIP_STORED):
    """A copy of an archive: `change` answers the new name and content of an entry, or None to leave it out."""
    with zipfile.ZipFile(path(source)) as old, zipfile.ZipFile(path(name), "w", method) as new:
        for info in old.infolist():
            entry = change(info.filename, old.read(info))
            if entry:
                new.writestr(dated(entry[0]), entry[1], method)


class Evil:
    def __reduce__(self):
        return os.system, ("touch PWNED",)


def hostile():
    torch.save({"weight": torch.ones(2, 2), "evil": Evil()}, path("hostile/os_system.bin"))
    torch.save({"weight": torch.ones(2, 2), "evil": Evil()}, path("hostile/os_system_protocol4.bin"), pickle_protocol=4)
    torch.save({"weight": torch.ones(2, 2), "evil": Evil()}, path("hostile/os_system_legacy.bin"),
               _use_new_zipfile_serialization=False)
    with open(path("hostile/os_system.pkl"), "wb") as f:
        pickle.dump({"evil": Evil()}, f)
    with open(path("hostile/plain.pkl"), "wb") as f:
        pickle.dump({"weight": [1, 2]}, f)
    good = "linear.bin"
    archive("hostile/deflated.bin", good, lambda n, b: (n, b), zipfile.ZIP_DEFLATED)
    archive("hostile/storage_missing.bin", good, lambda n, b: None if n.endswith("data/0") else (n, b))
    archive("hostile/storage_short.bin", good, lambda n, b: (n, b[:-4] if n.endswith("data/0") else b))
    archive("hostile/big_endian.bin", good, lambda n, b: (n, b"big" if n.endswith("byteorder") else b))
    archive("hostile/no_pickle.bin", good, lambda n, b: None if n.endswith("data.pkl") else (n, b))
    with zipfile.ZipFile(path("hostile/twice.bin"), "w") as z:
        with zipfile.ZipFile(path(good)) as old:
            for info in old.infolist():
                z.writestr(dated(info.filename), old.read(info))
            z.writestr(dated("linear/data/0"), b"\0" * 48)
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path("hostile/script.pt"))
    torch.save({"a": torch.eye(3).to_sparse()}, path("hostile/sparse.bin"))
    torch.save({"a": torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8)}, path("hostile/quantised.bin"))
    torch.save({"a": torch.empty(4, device="meta")}, path("hostile/meta.bin"))
    torch.save({"a": torch.ones(4, dtype=torch.complex64)}, path("hostile/complex.bin"))
    torch.save({"a": torch.ones(4, dtype=torch.complex64).conj()}, path("hostile/conjugate.bin"))
    torch.save({"a": torch.ones(4).to(torch.float8_e4m3fn)}, path("hostile/float8.bin"))
    torch.save({"model": {"a": torch.ones(1)}, "state_dict": {"b": torch.ones(1)}}, path("hostile/two_dicts.bin"))
    torch.save({"a": torch.ones(1), "model": {"b": torch.ones(1)}}, path("hostile/inner_and_outer.bin"))
    torch.save([torch.ones(1)], path("hostile/list.bin"))
    torch.save({"epoch": 1}, path("hostile/no_tensors.bin"))
    torch.save({1: torch.ones(1)}, path("hostile/number_for_a_name.bin"))
    # strides and offsets beyond the storage: the shape (2, 3) of `a` becomes (2, 100); the offset 0 becomes 9
    torch.save({"a": torch.ones(2, 3)}, path("hostile/plain.bin"))
    for name, old, new in (("shape", b"K\x02K\x03\x86", b"K\x02K\x64\x86"), ("offset", b"QK\x00", b"QK\x09"),
                           ("stride", b"K\x03K\x01\x86", b"K\x64K\x01\x86")):
        archive(f"hostile/{name}_outside.bin", "hostile/plain.bin", lambda n, b: (n, b.replace(old, new)))
    os.remove(path("hostile/plain.bin"))


def pickles():
    """the pickles of some archives by themselves: seeds for fuzzing"""
    for name in ("views.bin", "dtypes.bin", "attributes.bin", "training.pt", "linear_protocol4.bin"):
        stem = name.split(".", maxsplit=1)[0]
        with zipfile.ZipFile(path(name)) as z, open(path(f"pickles/{stem}.pkl"), "wb") as f:
            f.write(z.read(f"{stem}/data.pkl"))


def main():
    for folder in ("hostile", "pickles"):
        os.makedirs(path(folder), exist_ok=True)
    torch.manual_seed(0)
    linear = collections.OrderedDict(weight=torch.arange(12.0).view(3, 4), bias=torch.arange(3.0))
    save("linear.bin", linear)
    save("linear_legacy.bin", linear, _use_new_zipfile_serialization=False)
    for protocol in (3, 4, 5):
        save(f"linear_protocol{protocol}.bin", linear, pickle_protocol=protocol, safe=protocol < 4)
    save("dtypes.bin", dtypes())
    save("views.bin", views())
    save("views_legacy.bin", views(), _use_new_zipfile_serialization=False)
    save("attributes.bin", with_attribute())
    shared = torch.arange(8.0).half().view(2, 4)
    save("tied.bin", {"embed": shared, "head": shared})
    save("training.pt", training(), wrappers=("model", "module"), safe=False)
    save("state_dict.pt", {"state_dict": linear, "model": linear}, wrappers=("state_dict",))
    save("module.bin", torch.nn.Sequential(torch.nn.BatchNorm1d(2)).state_dict())
    hostile()
    pickles()
    with open(path("expected.json"), "w") as f:
        json.dump(EXPECTED, f, indent=1, sort_keys=True)


main()
