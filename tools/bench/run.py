#!/usr/bin/env python3
"""How close to the disk is a conversion?  Ours and the floor in the same run, alternating.

    tools/bench/run.py [--work DIR] [--layers N] [--rounds N] [--rows TEXT] [--other PROGRAM] [--mindspore PYTHON]
                       [--record]

Makes llama2-7b-shaped checkpoints (any layer count) with tools/ckptgen, then for each row and round times, in rotated
order, the conversion and the copy of the same bytes:

- ours: target/release/ckpt-convert, flushed to the disk unless the row says otherwise;
- other: another build of ckpt-convert, with --other PROGRAM: what a change costs;
- cp: `cp -r` of the source (and `sync` where the row is durable): the floor;
- disk: fio (or dd where there is none) with O_DIRECT, as many bytes as we write, and on cold rows as many read at the same
  time: what the disk itself takes;
- MindSpore's transform_checkpoints, ckpt_to_safetensors and unified_safetensors, with --mindspore PYTHON (a python that has
  mindspore 2.10.0), on rows that say so.

Before each timed run memory is touched once, so that nobody pays for memory that the host of a virtual machine has taken back
(with --ballast GIB: see ballast.py; else --prime GIB of it each time), and the source is read ("warm") or dropped from the page
cache ("cold", needs root). Prints medians, minima, ratios to cp, CPU seconds, peak
anonymous and total RSS, and bytes that reached the disk by the kernel's own counters; --record keeps them as
benches/record/<machine>/<date>.csv and .md.
"""
import argparse
import csv
import datetime
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
CONVERT = ["-f", "distributed_weight_transfer", "-q", "--json"]
# A training run's fp32 parameters and moments, of which only the parameters are read and become fp16.
TRAIN_STATE, TRAIN_READ = 6, 3


class Row:
    """One kind of work. `source` and `target` are (ranks, fused); `train` is (stages, data parallelism) of a training run, of
    which the source's ranks are the tensor parallelism."""

    def __init__(self, name, source, target, precision="fp16", dtype="fp16", cold=False, durable=True, more=(),
                 mindspore=None, goal=None, limit=None, stored="ckpt", train=None):
        self.name, self.source, self.target, self.precision, self.dtype = name, source, target, precision, dtype
        self.stored = stored
        self.cold, self.durable, self.more, self.mindspore, self.goal = cold, durable, list(more), mindspore, goal
        self.limit, self.train = limit, train


F, U = True, False
ROWS = [
    Row("1 -> 4, warm, durable", (1, F), (4, F), goal=0.50),
    Row("4 -> 8, warm, durable", (4, F), (8, F), goal=0.50),
    Row("8 -> 16, warm, durable", (8, F), (16, F), goal=0.50),
    Row("1 -> 4, cold, durable", (1, F), (4, F), cold=True, goal=0.80),
    Row("4 -> 8, cold, durable", (4, F), (8, F), cold=True, goal=0.80),
    Row("8 -> 16, cold, durable", (8, F), (16, F), cold=True, goal=0.80),
    Row("1 -> 4, warm, not durable", (1, F), (4, F), durable=False, goal=0.45),
    Row("4 -> 8, warm, not durable", (4, F), (8, F), durable=False, goal=0.45),
    Row("8 -> 16, warm, not durable", (8, F), (16, F), durable=False, goal=0.45),
    Row("8 -> 1 unfused -> fused, warm, durable", (8, U), (1, F), goal=0.60),
    Row("1 -> 8 unfused -> fused, warm, durable", (1, U), (8, F), goal=0.60),
    Row("bf16 -> fp16, 1 -> 4, warm, durable", (1, F), (4, F), dtype="bf16", goal=0.55),
    Row("fp32 -> fp16, 1 -> 4, warm, durable", (1, F), (4, F), dtype="fp32", goal=0.55),
    Row("1 -> 4 by pwrite, warm, durable", (1, F), (4, F), more=["--writer", "pwrite"], goal=0.55),
    Row("1 -> 4 in 1.5 GiB of memory, cold, durable", (1, F), (4, F), cold=True, limit=1536 << 20, goal=0.60),
    Row("pp 2 x dp 2 x mp 2 trained -> 4 fused, cold, durable", (2, U), (4, F), dtype="fp32", cold=True, train=(2, 2)),
    Row("pp 2 x dp 2 x mp 2 trained -> 4 fused, warm, durable", (2, U), (4, F), dtype="fp32", train=(2, 2)),
    Row("w8a16, 1 -> 4, warm, durable", (1, U), (4, U), precision="w8a16", goal=0.40),
    Row("1 -> 4 unfused, against MindSpore", (1, U), (4, U), durable=False, mindspore="transform_checkpoints"),
    Row("4 -> 8 unfused, against MindSpore", (4, U), (8, U), durable=False, mindspore="transform_checkpoints"),
    Row("4 -> 1 unfused, against MindSpore", (4, U), (1, U), durable=False, mindspore="transform_checkpoints"),
    Row("4 -> 4 .ckpt to safetensors, against MindSpore", (4, U), (4, U), durable=False, mindspore="ckpt_to_safetensors",
        more=["--format", "safetensors"]),
    Row("4 -> 1 safetensors in one, against MindSpore", (4, U), (1, U), durable=False, mindspore="unified_safetensors",
        stored="safetensors", more=["--max-shard-size", "3GB"]),
]


class Bench:
    def __init__(self, args):
        self.args = args
        self.work = os.path.realpath(args.work)
        os.makedirs(self.work, exist_ok=True)
        self.program = os.path.join(ROOT, "target/release/ckpt-convert")
        self.generator = os.path.join(ROOT, "target/release/ckptgen")
        self.device = self.find_device()
        self.samples = []

    def find_device(self):
        """the block device under the work directory, or None"""
        numbers = os.stat(self.work).st_dev
        path = f"/sys/dev/block/{os.major(numbers)}:{os.minor(numbers)}/stat"
        return path if os.path.exists(path) else None

    def sectors(self):
        if not self.device:
            return 0, 0
        with open(self.device, encoding="ascii") as f:
            fields = f.read().split()
        return int(fields[2]) * 512, int(fields[6]) * 512

    def source(self, row):
        ranks, fused = row.source
        kind = "" if row.stored == "ckpt" else f"_{row.stored}"
        if row.train:
            kind = "_trained_pp{}_dp{}".format(*row.train)
        name = f"{row.dtype}_{ranks}p{'_qkv' if fused else ''}_{self.args.layers}l{kind}"
        path = os.path.join(self.work, name)
        if not os.path.isdir(path):
            part = path + ".part"
            shutil.rmtree(part, ignore_errors=True)
            command = [self.generator, "--model", "llama2_7b", "--layers", str(self.args.layers), "--ranks", str(ranks),
                       "--dtype", row.dtype, "--format", row.stored, "--seed", "1", "--out", part] + (["--fused"] if fused else [])
            if row.train:
                stages, data = row.train
                command += ["--train", "--pp", str(stages), "--dp", str(data), "--strategy", path + "_strategy"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            os.rename(part, path)
        return path

    def yaml(self, row):
        """a model configuration with the row's fusion"""
        path = os.path.join(self.work, f"model_{'qkv' if row.target[1] else 'noqkv'}.yaml")
        text = (f"parallel_config:\n  vocab_emb_dp: False\nmodel:\n  model_config:\n    hidden_size: 4096\n"
                f"    num_layers: {self.args.layers}\n    num_heads: 32\n    vocab_size: 32000\n    multiple_of: 256\n"
                f"    qkv_concat: {row.target[1]}\n  arch:\n    type: LlamaForCausalLM\n")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    # ------------------------------------------------------------ conditions
    def prime(self, size):
        """touches memory once, so that the host has to back it; in a process of its own, since a child's peak RSS counts what
        its parent once had"""
        code = ("import mmap, sys; size = int(sys.argv[1]); area = mmap.mmap(-1, size); "
                "area.madvise(mmap.MADV_HUGEPAGE) if hasattr(mmap, 'MADV_HUGEPAGE') else None\n"
                "for at in range(0, size, 4096): area[at] = 1")
        subprocess.run([sys.executable, "-c", code, str(size)], check=True)

    def prepare(self, source, row):
        out = os.path.join(self.work, "out")
        for path in (out, out + ".cp"):
            shutil.rmtree(path, ignore_errors=True)
            if os.path.exists(path):
                os.remove(path)
        subprocess.run(["sync"], check=True)
        if row.cold:
            with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
                f.write("3")
        if not self.args.ballast:
            self.prime(int(self.args.prime * (1 << 30)))
        if not row.cold:
            for folder, _, files in os.walk(source):
                for name in files:
                    with open(os.path.join(folder, name), "rb", buffering=0) as f:
                        while f.read(1 << 20):
                            pass
        return out

    def limited(self, command, limit):
        """the command in a memory cgroup, where there is one"""
        if not limit:
            return command
        group = "/sys/fs/cgroup/memory/ckpt-bench"
        os.makedirs(group, exist_ok=True)
        with open(group + "/memory.limit_in_bytes", "w", encoding="ascii") as f:
            f.write(str(limit))
        return ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh", *command]

    def timed(self, row, tool, command, size):
        command = self.limited(command, row.limit)
        read, written = self.sectors()
        out_file = os.path.join(self.work, "stdout")
        with open(out_file, "w", encoding="utf-8") as out:
            begin = time.monotonic()
            child = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE)
            errors = child.stderr.read()
            _, status, usage = os.wait4(child.pid, 0)
            seconds = time.monotonic() - begin
        if status != 0:
            raise SystemExit(f"{' '.join(command)}: status {status}\n{errors.decode()[-500:]}")
        after_read, after_written = self.sectors()
        peak_anonymous = None
        if tool == "disk" and command[0] == "fio":
            # Its own clock: starting it and filling its buffers are no work of the disk's.
            with open(out_file, encoding="utf-8") as f:
                text = f.read()
            jobs = json.loads(text[text.index("{"):])["jobs"]
            seconds = max(max(job["write"]["runtime"], job["read"]["runtime"]) for job in jobs) / 1000
        if tool in ("ours", "other"):
            with open(out_file, encoding="utf-8") as f:
                peak_anonymous = json.load(f)["peak_anonymous_memory"]
        self.samples.append({
            "row": row.name, "tool": tool, "seconds": round(seconds, 4), "bytes": size,
            "user": round(usage.ru_utime, 3), "system": round(usage.ru_stime, 3), "max_rss": usage.ru_maxrss * 1024,
            "anonymous": peak_anonymous, "disk_read": after_read - read, "disk_written": after_written - written,
        })
        return seconds

    # ------------------------------------------------------------ tools
    def commands(self, row, source, out):
        size = sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(source) for f in fs)
        ours = [self.program, *CONVERT, "-p", row.precision, "-w", str(row.target[0]), "-y", self.yaml(row),
                "-sc", source, "-dc", out, "-is", out + "/strategy", *row.more]
        if row.precision.startswith("w"):
            ours[ours.index("distributed_weight_transfer")] = "quant_weight"
        if row.train:
            ours[ours.index("distributed_weight_transfer")] = "train_to_infer"
            ours += ["-ts", source + "_strategy"]
        if not row.durable:
            ours.append("--no-sync")
        copy = f'cp -r "{source}" "{out}.cp"' + (" && sync" if row.durable else "")
        tools = {"ours": ours, "cp": ["sh", "-c", copy]}
        if self.args.other:
            tools["other"] = [self.args.other, *ours[1:]]
        if row.train:
            tools["cp"] = self.copy_of_trained(row, source, out, ours, size)
        elif row.durable:
            # A conversion writes fewer bytes than it reads where it narrows them.
            written = size // 2 if row.dtype == "fp32" else size
            tools["disk"] = self.disk(out + ".cp", max(1, written >> 20), source if row.cold else None)
        if row.mindspore and self.args.mindspore:
            code = "import sys, mindspore as ms; a = sys.argv[1:]; " + {
                "transform_checkpoints":
                    "ms.transform_checkpoints(a[0], a[1], 'checkpoint_', a[2] or None, a[3] or None)",
                "ckpt_to_safetensors": "ms.ckpt_to_safetensors(a[0], a[1])",
                "unified_safetensors": "ms.unified_safetensors(a[0], a[2], a[1])",
            }[row.mindspore]
            strategies = [self.strategy(row, r) for r in (row.source[0], row.target[0])]
            tools["mindspore"] = [self.args.mindspore, "-c", code, source, out, *strategies]
        return tools, size

    def copy_of_trained(self, row, source, out, ours, size):
        """reads and writes as many bytes as a conversion of a training run must: `cp` of its target, and so much more read from
        the source"""
        made = source + "_target"
        if not os.path.isdir(made):
            shutil.rmtree(out, ignore_errors=True)
            subprocess.run(ours, check=True, capture_output=True)
            os.rename(out, made)
        first = os.path.join(source, "rank_0")
        files = sorted(os.path.join(d, f) for d, _, fs in os.walk(source) for f in fs)
        files.sort(key=lambda path: not path.startswith(first))
        more = size // TRAIN_READ - size // TRAIN_STATE
        read = "cat " + " ".join(f'"{path}"' for path in files) + f" | head -c {more} | cat > /dev/null"
        return ["sh", "-c", f'{read}; cp -r "{made}" "{out}.cp"' + (" && sync" if row.durable else "")]

    def disk(self, path, mib, source):
        """what the disk takes: fio with eight 4 MiB writes in flight into reserved room, and as many reads of the source at
        the same time where it is cold; or dd where there is no fio"""
        if shutil.which("fio"):
            common = ["fio", "--bs=4M", "--direct=1", "--ioengine=io_uring", "--iodepth=8", "--output-format=json"]
            write = ["--name=write", f"--filename={path}", "--rw=write", f"--size={mib}M", "--fallocate=posix"]
            files = [os.path.join(d, f) for d, _, fs in os.walk(source) for f in fs] if source else []
            # Whole blocks of each file: past the page cache the rest cannot be read by itself.
            read = [part for number, file in enumerate(files) for part in
                    (f"--name=read{number}", f"--filename={file}", "--rw=read", f"--size={os.path.getsize(file) >> 20}M")]
            return common + write + read
        return ["dd", "if=/dev/zero", f"of={path}", "bs=16M", f"count={max(1, mib // 16)}", "oflag=direct"]

    def strategy(self, row, ranks):
        """a strategy of our own making for this many ranks; none for one"""
        if ranks == 1:
            return ""
        made = os.path.join(self.work, f"strategy_{ranks}")
        path = os.path.join(made, f"fp16_{ranks}p/strategy/ckpt_strategy_rank_0.ckpt")
        if not os.path.exists(path):
            tiny = os.path.join(self.work, "strategy_source")
            shutil.rmtree(tiny, ignore_errors=True)
            subprocess.run([self.generator, "--layers", str(self.args.layers), "--hidden", "64", "--heads", "16", "--ffn",
                            "96", "--vocab", "64", "--out", tiny], check=True, stdout=subprocess.DEVNULL)
            subprocess.run([self.program, *CONVERT, "-p", "fp16", "-w", str(ranks), "-sc", tiny, "-dc", tiny + "_out",
                            "-is", made, "--overwrite"], check=True, capture_output=True)
        return path

    def run_row(self, row):
        if row.cold and os.geteuid() != 0:
            print(f"{row.name}: skipped, dropping the page cache needs root")
            return
        if row.limit and not os.path.isdir("/sys/fs/cgroup/memory"):
            print(f"{row.name}: skipped, no memory cgroup (v1) here")
            return
        source = self.source(row)
        out = os.path.join(self.work, "out")
        tools, size = self.commands(row, source, out)
        if os.geteuid() == 0:
            # Sources of other rows would only be in the way.
            with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
                f.write("3")
        names = list(tools)
        for number in range(self.args.rounds):
            # Rotated, so that none always follows the same one.
            for name in names[number % len(names):] + names[:number % len(names)]:
                if name == "mindspore" and number >= self.args.mindspore_rounds:
                    continue
                if name == "disk" and number >= self.args.disk_rounds:
                    continue
                self.prepare(source, row)
                seconds = self.timed(row, name, tools[name], size)
                print(f"  {row.name}, round {number + 1}: {name} {seconds:.2f} s", file=sys.stderr, flush=True)
        self.prepare(source, Row("", (1, U), (1, U)))

    # ------------------------------------------------------------ report
    def table(self):
        lines = ["| work | ours s (min) | cp s (min) | ours / cp (of minima) | goal | share of disk | "
                 "CPU user + sys s | anonymous, RSS with mapped pages | disk read, written | MindSpore | other s (min), ours / other (of minima) |",
                 "|---|---|---|---|---|---|---|---|---|---|---|"]
        for row in ROWS:
            mine = [s for s in self.samples if s["row"] == row.name]
            of = {t: [s["seconds"] for s in mine if s["tool"] == t] for t in ("ours", "cp", "disk", "mindspore", "other")}
            if not of["ours"]:
                continue
            ours, cp = statistics.median(of["ours"]), statistics.median(of["cp"])
            user = statistics.median(s["user"] for s in mine if s["tool"] == "ours")
            system = statistics.median(s["system"] for s in mine if s["tool"] == "ours")
            anonymous = max(s["anonymous"] for s in mine if s["tool"] == "ours")
            resident = max(s["max_rss"] for s in mine if s["tool"] == "ours")
            moved = [statistics.median(s[way] for s in mine if s["tool"] == "ours") / 1e9
                     for way in ("disk_read", "disk_written")]
            share = f"{statistics.median(of['disk']) / ours:.2f}" if of["disk"] else ""
            peer = ""
            if of["mindspore"]:
                peer_rss = max(s["max_rss"] for s in mine if s["tool"] == "mindspore")
                peer = (f"{statistics.median(of['mindspore']):.1f} s = {statistics.median(of['mindspore']) / ours:.0f}x, "
                        f"{peer_rss / 1e9:.1f} GB = {peer_rss / anonymous:.0f}x")
            other = ""
            if of["other"]:
                median, least = statistics.median(of["other"]), min(of["other"])
                other = f"{median:.2f} ({least:.2f}), {ours / median:.2f} ({min(of['ours']) / least:.2f})"
            goal = f"<= {row.goal:.2f}" if row.goal else ""
            lines.append(f"| {row.name} | {ours:.2f} ({min(of['ours']):.2f}) | {cp:.2f} ({min(of['cp']):.2f}) | "
                         f"{ours / cp:.2f} ({min(of['ours']) / min(of['cp']):.2f}) | {goal} | {share} | "
                         f"{user:.2f} + {system:.2f} | {anonymous / 1e6:.0f}, {resident / 1e6:.0f} MB | "
                         f"{moved[0]:.2f}, {moved[1]:.2f} GB | {peer} | {other} |")
        return "\n".join(lines)

    def machine(self):
        cpu = "?"
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            found = re.search(r"model name\s*:\s*(.*)", f.read())
            cpu = found.group(1) if found else cpu
        with open("/proc/meminfo", encoding="utf-8") as f:
            memory = int(f.readline().split()[1]) // (1 << 20)
        kind = subprocess.run(["stat", "-f", "-c", "%T", self.work], capture_output=True, text=True, check=True).stdout.strip()
        return (f"{os.cpu_count()} x {cpu}, {memory} GiB, Linux {platform.release()}, {kind}; llama2-7b shapes, "
                f"{self.args.layers} layers; {self.args.rounds} rounds; "
                + (f"{self.args.ballast:g} GiB of ballast; " if self.args.ballast else f"{self.args.prime:g} GiB primed; ")
                + f"{datetime.date.today()}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", default=os.path.join(ROOT, "target/bench"), help="where data are made (tens of GB)")
    p.add_argument("--layers", type=int, default=8)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--rows", default="", help="only rows whose name matches this expression")
    p.add_argument("--other", help="another build of ckpt-convert, timed beside target/release/ckpt-convert")
    p.add_argument("--mindspore", help="a python with mindspore 2.10.0")
    p.add_argument("--mindspore-rounds", type=int, default=2)
    p.add_argument("--disk-rounds", type=int, default=3)
    p.add_argument("--prime", type=float, default=8.0, help="GiB of memory to touch before each timed run")
    p.add_argument("--ballast", type=float, default=0.0, help="GiB of free memory to keep backed, instead of --prime")
    p.add_argument("--record", action="store_true", help="keep the results under benches/record")
    p.add_argument("--no-build", action="store_true", help="take the programs in target/release as they are")
    a = p.parse_args()
    if not a.no_build:
        subprocess.run(["cargo", "build", "--release", "--quiet", "--workspace", "--manifest-path", f"{ROOT}/Cargo.toml"],
                       check=True)
    bench = Bench(a)
    ballast = None
    if a.ballast:
        program = [sys.executable, os.path.join(ROOT, "tools/bench/ballast.py"), str(a.ballast)]
        ballast = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if ballast.stdout.readline() != b"ready\n":
            raise SystemExit("the ballast failed")
    for row in ROWS:
        if re.search(a.rows, row.name):
            bench.run_row(row)
    if ballast:
        ballast.communicate()
    text = f"{bench.machine()}\n\n{bench.table()}\n"
    print(text)
    if a.record and bench.samples:
        name = re.sub(r"[^A-Za-z0-9]+", "-", f"{os.cpu_count()}-cpu-{platform.machine()}").lower()
        folder = os.path.join(ROOT, "benches/record", name)
        os.makedirs(folder, exist_ok=True)
        base = os.path.join(folder, f"{datetime.date.today()}-{a.layers}-layers")
        with open(base + ".csv", "w", newline="", encoding="utf-8") as f:
            writer = csv.DictWriter(f, list(bench.samples[0]))
            writer.writeheader()
            writer.writerows(bench.samples)
        with open(base + ".md", "w", encoding="utf-8") as f:
            f.write(text)


if __name__ == "__main__":
    main()
