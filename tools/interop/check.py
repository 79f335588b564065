#!/usr/bin/env python3
"""Does the real MindSpore read what ckpt-convert writes?  Run by run.sh, which has the right environment.

    python check.py [--program PATH] [--work DIR] [--only TEXT]

Runs the program on the fixtures under tests/data and on examples/tiny-llama, and

- loads every file with mindspore.load_checkpoint (.ckpt, with CRC, safetensors, from a mounted target) and compares each
  parameter bit for bit with numpy slices of the source;
- gives our files and OUR strategies to mindspore.transform_checkpoints (4 -> 2, 4 -> 1) and compares its result
  with ours and with the source;
- gives our files and strategies to ckpt_to_safetensors and unified_safetensors;
- lets MindSpore make training ranks (training.py), converts them with train_to_infer and loads the result, and gives
  MindSpore the strategy files that `strategy merge`, `convert` and `from-yaml` write.

Prints one line for each check and, last, "N passed, N failed"; exit status 1 if any failed.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

import mindspore as ms
import numpy as np
from mindspore.train.checkpoint_pb2 import Checkpoint

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
DATA = os.path.join(ROOT, "tests", "data")
NUMPY2 = int(np.__version__.split(".", maxsplit=1)[0]) >= 2
# bits, not values: NaN and -0 have to survive too
BITS = {"Float16": "<u2", "BFloat16": "<u2", "Float32": "<u4", "Int32": "<u4", "Int64": "<u8", "Int8": "|i1"}
SAFETENSORS = {"F16": "Float16", "BF16": "BFloat16", "F32": "Float32"}
FUSIONS = (("attention.w_qkv", ("attention.wq", "attention.wk", "attention.wv")),
           ("feed_forward.w_gate_hidden", ("feed_forward.w1", "feed_forward.w3")))


# ---------------------------------------------------------------- models: {name: (tensor_type, array of bits)}
def read_ckpt(path):
    """straight from the protobuf, without MindSpore's loader"""
    with open(path, "rb") as f:
        data = f.read()
    if data[-17:-10] == b"crc_num":
        data = data[:-17]
    message = Checkpoint()
    message.ParseFromString(data)
    pieces = {}
    for v in message.value:
        kind, _, content = pieces.get(v.tag, (None, None, b""))
        assert kind in (None, v.tensor.tensor_type), f"{v.tag}: two types"
        pieces[v.tag] = (v.tensor.tensor_type, list(v.tensor.dims), content + v.tensor.tensor_content)
    return {n: (t, np.frombuffer(b, BITS[t]).reshape(d)) for n, (t, d, b) in pieces.items()}


def read_safetensors(path):
    with open(path, "rb") as f:
        data = f.read()
    size = int.from_bytes(data[:8], "little")
    out = {}
    for n, e in json.loads(data[8:8 + size]).items():
        if n != "__metadata__":
            kind = SAFETENSORS[e["dtype"]]
            begin, end = e["data_offsets"]
            out[n] = (kind, np.frombuffer(data[8 + size + begin:8 + size + end], BITS[kind]).reshape(e["shape"]))
    return out


def load(path, **options):
    """through mindspore.load_checkpoint"""
    out = {}
    for n, p in ms.load_checkpoint(path, **options).items():
        kind = str(p.dtype)
        if kind == "BFloat16" and NUMPY2:
            bits = (ms.ops.cast(p, ms.float32).asnumpy().view("<u4") >> 16).astype("<u2")
        elif kind == "BFloat16":
            bits = p.asnumpy().view("<u2")
        else:
            bits = p.asnumpy().view(BITS[kind])
        out[n] = (kind, bits.reshape(p.shape))
    return out


def rank_dirs(folder):
    ranks = sorted(int(d[5:]) for d in os.listdir(folder) if d.startswith("rank_"))
    assert ranks == list(range(len(ranks))) and ranks, f"{folder}: ranks {ranks}"
    return [os.path.join(folder, f"rank_{r}") for r in ranks]


def only_file(folder, ext):
    files = sorted(f for f in os.listdir(folder) if not f.startswith("."))
    assert len(files) == 1 and files[0].endswith(ext), f"{folder}: {files}"
    return os.path.join(folder, files[0])


def axis_of(name):
    if "norm" in name:
        return None
    return 1 if ".wo." in name or ".w2." in name else 0


def unfuse(model, heads, kv_heads):
    """rank-concat w_qkv and w_gate_hidden cut into their parts"""
    out = {}
    for name, (kind, a) in model.items():
        for fused, parts in FUSIONS:
            if fused + "." in name:
                weights = (heads, kv_heads, kv_heads) if len(parts) == 3 else (1, 1)
                rows = [a.shape[0] * w // sum(weights) for w in weights]
                assert sum(rows) == a.shape[0], f"{name}: {a.shape[0]} rows"
                cuts = np.split(a, np.cumsum(rows)[:-1])
                out.update({name.replace(fused, part): (kind, cut) for part, cut in zip(parts, cuts)})
                break
        else:
            out[name] = (kind, a)
    return out


def whole(folder, heads, kv_heads):
    """the complete unfused model of a folder of ranks"""
    ranks = [unfuse(read_ckpt(only_file(d, ".ckpt")), heads, kv_heads) for d in rank_dirs(folder)]
    out = {}
    for name, (kind, first) in ranks[0].items():
        axis = axis_of(name)
        out[name] = (kind, first if axis is None else np.concatenate([r[name][1] for r in ranks], axis))
    return out


def cast(kind, bits, precision):
    """to fp16, or exactly to fp32, by numpy"""
    single = (bits.astype("<u4") << 16).view("<f4") if kind == "BFloat16" else bits.view("<f4" if kind == "Float32" else "<f2")
    to, name = {"fp16": ("<f2", "Float16"), "fp32": ("<f4", "Float32")}[precision]
    with np.errstate(over="ignore"):
        return name, single.astype(to).view(BITS[name])


def slice_of(model, rank, ranks, fused):
    out = {}
    for name, (kind, a) in model.items():
        axis = axis_of(name)
        out[name] = (kind, a if axis is None else np.split(a, ranks, axis)[rank])
    if fused:
        for name in [n for n in out if ".wq." in n or ".w1." in n]:
            for target, parts in FUSIONS:
                if parts[0] + "." in name:
                    rows = [out.pop(name.replace(parts[0], p)) for p in parts]
                    out[name.replace(parts[0], target)] = (rows[0][0], np.concatenate([a for _, a in rows]))
    return out


def same(got, want, where):
    """raises with the first difference"""
    missing, extra = sorted(set(want) - set(got)), sorted(set(got) - set(want))
    assert not missing, f"{where}: missing {missing[:3]}"
    assert not extra, f"{where}: not expected {extra[:3]}"
    for n, (kind, a) in want.items():
        got_kind, b = got[n]
        assert got_kind == kind, f"{where}: {n} is {got_kind}, not {kind}"
        assert b.shape == a.shape, f"{where}: {n} has shape {b.shape}, not {a.shape}"
        assert np.array_equal(a, b), f"{where}: {n} differs in {np.count_nonzero(a != b)} of {a.size} elements"


# ---------------------------------------------------------------- running
class Checks:
    def __init__(self, program, work, only):
        self.program, self.work, self.only = program, work, only
        self.passed = self.failed = 0
        self.made = {}

    def check(self, name, run, *args):
        if self.only and self.only not in name:
            return
        try:
            note = run(*args)
        except BaseException as e:  # MindSpore raises much more than Exception says
            if isinstance(e, KeyboardInterrupt):
                raise
            self.failed += 1
            lines = [x for x in str(e).strip().splitlines() if x.strip(" -")]
            print(f"FAIL {name}: {type(e).__name__}: {' | '.join(lines[:3])[:400]}", flush=True)
            return
        if note and note.startswith("skip"):
            print(f"skip {name}: {note[4:].strip()}", flush=True)
            return
        self.passed += 1
        print(f"ok   {name}" + (f": {note}" if note else ""), flush=True)

    def convert(self, src, yaml, ranks, precision, *options):
        """run the program once for these arguments; (destination, strategies)"""
        key = (src, yaml, ranks, precision, options)
        if key not in self.made:
            base = os.path.join(self.work, f"run_{len(self.made)}")
            dst, strategies = os.path.join(base, "ckpt"), os.path.join(base, "strategy")
            command = [self.program, "-f", "distributed_weight_transfer", "-p", precision, "-w", str(ranks), "-y", yaml,
                       "-sc", src, "-dc", dst, "-is", strategies, *options]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
            error = None
            if done.returncode != 0:
                error = f"exit status {done.returncode} of {' '.join(command)}\n{done.stderr.strip()[-300:]}"
            self.made[key] = (dst, strategies, error)
        dst, strategies, error = self.made[key]
        if error:
            raise RuntimeError(error)
        return dst, strategies

    # the checks
    def loads(self, case, ranks, fused, options=(), ext=".ckpt", precision=None, **load_options):
        precision = precision or case.precision
        dst, _ = self.convert(case.src, case.yaml(self.work, fused), ranks, precision, *options)
        model = whole(case.src, case.heads, case.kv_heads)
        if precision != case.precision:
            model = {n: cast(kind, a, precision) for n, (kind, a) in model.items()}
        folder = os.path.join(dst, f"{precision}_{ranks}p" + ("_qkv" if fused else ""))
        found = rank_dirs(folder)
        assert len(found) == ranks, f"{len(found)} rank folders"
        count = 0
        for r, d in enumerate(found):
            path = only_file(d, ext)
            assert os.path.basename(path) == f"checkpoint_{r}{ext}", path
            if "--crc" in options:
                with open(path, "rb") as f:
                    f.seek(-17, os.SEEK_END)
                    assert f.read(7) == b"crc_num", "no CRC trailer"
            got = load(path, **load_options)
            same(got, slice_of(model, r, ranks, fused), f"rank {r}")
            count += len(got)
        return f"{count} parameters"

    def mounts(self, case, ranks, fused):
        """as loads, from a target that nobody wrote"""
        at = tempfile.mkdtemp(dir=self.work)
        command = [self.program, "mount", "-f", "distributed_weight_transfer", "-p", case.precision, "-w", str(ranks),
                   "-y", case.yaml(self.work, fused), "-sc", case.src, at]
        run = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            if not run.stdout.readline():
                error = run.stderr.read().strip()
                assert "cannot mount" in error, error
                return f"skip {error.splitlines()[0]}"
            model = whole(case.src, case.heads, case.kv_heads)
            found = [d for d in os.listdir(at) if d.startswith("rank_")]
            assert len(found) == ranks, f"{len(found)} rank folders"
            for r in range(ranks):
                got = load(os.path.join(at, f"rank_{r}", f"checkpoint_{r}.ckpt"))
                same(got, slice_of(model, r, ranks, fused), f"rank {r}")
            return f"{ranks} ranks"
        finally:
            run.terminate()
            run.wait(timeout=60)

    def crc_matters(self, case):
        """a changed byte in our file must be noticed, or the check above shows nothing"""
        dst, _ = self.convert(case.src, case.yaml(self.work, False), 4, case.precision, "--crc")
        copy = os.path.join(self.work, "broken.ckpt")
        shutil.copyfile(os.path.join(dst, "fp16_4p", "rank_0", "checkpoint_0.ckpt"), copy)
        with open(copy, "r+b") as f:
            f.seek(os.path.getsize(copy) - 1000)
            byte = f.read(1)
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([byte[0] ^ 1]))
        try:
            ms.load_checkpoint(copy, crc_check=True)
        except ValueError:
            return
        raise AssertionError("MindSpore took a file with a wrong byte")

    def strategy(self, case, ranks):
        _, strategies = self.convert(case.src, case.yaml(self.work, False), ranks, case.precision)
        folder = os.path.join(strategies, f"{case.precision}_{ranks}p", "strategy")
        names = sorted(os.listdir(folder))
        assert names == sorted(f"ckpt_strategy_rank_{r}.ckpt" for r in range(ranks)), names
        return os.path.join(folder, "ckpt_strategy_rank_0.ckpt")

    def four(self, case):
        dst, _ = self.convert(case.src, case.yaml(self.work, False), 4, case.precision)
        return os.path.join(dst, f"{case.precision}_4p")

    def transform(self, case, ranks):
        """MindSpore reshards our 4 ranks with our strategies"""
        out = os.path.join(self.work, f"transformed_{case.name}_{ranks}")
        target = self.strategy(case, ranks) if ranks > 1 else None
        ms.transform_checkpoints(self.four(case), out, "checkpoint_", self.strategy(case, 4), target)
        found = rank_dirs(out)
        assert len(found) == ranks, f"{len(found)} rank folders"
        return [read_ckpt(only_file(d, ".ckpt")) for d in found]

    def transform_like_ours(self, case):
        theirs = self.transform(case, 2)
        dst, _ = self.convert(self.four(case), case.yaml(self.work, False), 2, case.precision)
        model = whole(case.src, case.heads, case.kv_heads)
        for r, d in enumerate(rank_dirs(os.path.join(dst, f"{case.precision}_2p"))):
            ours = read_ckpt(only_file(d, ".ckpt"))
            same(ours, theirs[r], f"rank {r}, ours against MindSpore's")
            same(ours, slice_of(model, r, 2, False), f"rank {r}, ours against the source")

    def transform_to_source(self, case):
        same(self.transform(case, 1)[0], whole(case.src, case.heads, case.kv_heads), "rank 0")

    def to_safetensors(self, case):
        out = os.path.join(self.work, f"to_safetensors_{case.name}")
        ms.ckpt_to_safetensors(self.four(case), out)
        model = whole(case.src, case.heads, case.kv_heads)
        found = rank_dirs(out)
        assert len(found) == 4, f"{len(found)} rank folders"
        for r, d in enumerate(found):
            same(read_safetensors(only_file(d, ".safetensors")), slice_of(model, r, 4, False), f"rank {r}")

    def unify(self, case):
        """in a process of its own: unified_safetensors sleeps while more than half of the memory is in use"""
        dst, _ = self.convert(case.src, case.yaml(self.work, False), 4, case.precision, "--format", "safetensors")
        out = os.path.join(self.work, f"unified_{case.name}")
        code = "import sys, mindspore as ms; ms.unified_safetensors(*sys.argv[1:], max_process_num=1)"
        command = [sys.executable, "-c", code, os.path.join(dst, "fp16_4p"), self.strategy(case, 4), out]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180)
        except subprocess.TimeoutExpired:
            return "skip MindSpore waits for free memory"
        assert done.returncode == 0, done.stderr.strip()[-300:]
        got = {}
        for f in sorted(os.listdir(out)):
            if f.startswith("part") and f.endswith(".safetensors"):
                got.update(read_safetensors(os.path.join(out, f)))
        same(got, whole(case.src, case.heads, case.kv_heads), "unified")
        return None


class Case:
    def __init__(self, name, src, yaml, heads, kv_heads=None):
        self.name, self.src, self.source_yaml = name, os.path.join(ROOT, src), os.path.join(ROOT, yaml)
        self.heads, self.kv_heads = heads, kv_heads or heads
        # -p of a conversion that keeps the source's dtype
        self.precision = name[:4] if name[:4] in ("fp32", "bf16") else "fp16"

    def yaml(self, work, fused):
        """the model's yaml with this fusion, and the kv heads when it does not say them"""
        with open(self.source_yaml, encoding="utf-8") as f:
            text = f.read()
        text = text.replace(f"qkv_concat: {not fused}", f"qkv_concat: {fused}")
        if self.kv_heads != self.heads and "n_kv_heads:" not in text:
            heads = f"    num_heads: {self.heads}\n"
            text = text.replace(heads, f"{heads}    n_kv_heads: {self.kv_heads}\n")
        path = os.path.join(work, f"{self.name}_{'qkv' if fused else 'noqkv'}.yaml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path


def run_all(c):
    import training  # which uses what is above
    llama, mha = "tests/data/models/mindspore_llama.yaml", "tests/data/models/reference_mha.yaml"
    plain = {n: Case(n, f"tests/data/mindspore/src/{n}", llama, 16, kv)
             for n, kv in (("fp16_1p", None), ("fp32_1p", None), ("bf16_1p", None), ("multichunk_fp16_1p", None),
                           ("gqa_fp16_1p", 8))}
    fp16 = plain["fp16_1p"]

    for n, case in plain.items():
        c.check(f"load {n} -> 4", c.loads, case, 4, False)
        c.check(f"load {n} -> 4 fused", c.loads, case, 4, True)
    c.check("load fp16_1p -> 2", c.loads, fp16, 2, False)
    c.check("load fp16_1p -> 16", c.loads, fp16, 16, False)

    for n in ("1p_qkv_to_4p", "4p_qkv_to_8p", "8p_qkv_to_4p", "8p_qkv_to_1p", "8p_qkv_to_16p", "4p_noqkv_to_8p",
              "2p_qkv_to_1p"):
        case, ranks = Case(n, f"tests/data/reference/{n}/src", mha, 16), int(n.rsplit("_", 1)[1][:-1])
        for fused in (True, False):
            c.check(f"load {n}{' fused' if fused else ''}", c.loads, case, ranks, fused)
    tiny = Case("tiny-llama", "examples/tiny-llama/ckpt", "examples/tiny-llama/llama_tiny_4p.yaml", 8, 4)
    for fused in (True, False):
        c.check(f"load tiny-llama -> 4{' fused' if fused else ''}", c.loads, tiny, 4, fused)

    for n in ("fp16_1p", "bf16_1p"):
        def with_crc(case=plain[n]):
            return c.loads(case, 4, False, ("--crc",), crc_check=True)
        c.check(f"load {n} -> 4 with CRC", with_crc)
    for n, precision in (("fp32_1p", "fp16"), ("bf16_1p", "fp16"), ("bf16_1p", "fp32"), ("fp16_1p", "fp32")):
        def converted(case=plain[n], precision=precision):
            return c.loads(case, 4, True, precision=precision)
        c.check(f"load {n} -> 4 as {precision}", converted)
    c.check("CRC of a changed byte", c.crc_matters, fp16)
    for n, fused in (("fp16_1p", False), ("gqa_fp16_1p", True)):
        def from_mount(case=plain[n], fused=fused):
            return c.mounts(case, 4, fused)
        c.check(f"load {n} -> 4{' fused' if fused else ''} from a mount", from_mount)

    for n, fused in (("fp16_1p", False), ("fp16_1p", True), ("fp32_1p", False), ("bf16_1p", False)):
        def as_safetensors(case=plain[n], fused=fused):
            if case.name.startswith("bf16") and NUMPY2:
                return "skip this MindSpore needs numpy 1 for it"
            return c.loads(case, 4, fused, ("--format", "safetensors"), ".safetensors", format="safetensors")
        c.check(f"load {n} -> 4{' fused' if fused else ''} safetensors", as_safetensors)

    for n in ("fp16_1p", "fp32_1p", "bf16_1p", "gqa_fp16_1p"):
        c.check(f"transform_checkpoints of our 4 ranks to 2 = ours, {n}", c.transform_like_ours, plain[n])
        c.check(f"transform_checkpoints of our 4 ranks to 1 = the source, {n}", c.transform_to_source, plain[n])
    c.check("ckpt_to_safetensors of our 4 ranks", c.to_safetensors, fp16)
    c.check("unified_safetensors of our 4 ranks = the source", c.unify, fp16)
    training.run_all(c, lambda fused: fp16.yaml(c.work, fused))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--program", default=os.environ.get("CKPT_CONVERT") or f"{ROOT}/target/release/ckpt-convert")
    p.add_argument("--work", help="keep the files in this folder, which must not exist yet")
    p.add_argument("--only", help="only the checks whose name has this text in it")
    a = p.parse_args()
    program = os.path.abspath(a.program)
    if not os.access(program, os.X_OK):
        sys.exit(f"{program}: not an executable file")
    print(f"MindSpore {ms.__version__}, numpy {np.__version__}, {program}", flush=True)
    if a.work:
        os.makedirs(a.work)
    work = os.path.realpath(a.work or tempfile.mkdtemp(prefix="interop-"))
    try:
        c = Checks(program, work, a.only)
        run_all(c)
    finally:
        if not a.work:
            shutil.rmtree(work, ignore_errors=True)
    print(f"{c.passed} passed, {c.failed} failed")
    sys.exit(1 if c.failed or not c.passed else 0)


if __name__ == "__main__":
    main()
