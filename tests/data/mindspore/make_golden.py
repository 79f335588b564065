#!/usr/bin/env python3
"""make_golden.py - regenerate the golden fixtures of this folder with the real peer (mindspore 2.10.0, CPU).

  python make_golden.py [outdir]        (default: the folder of this script)

strategies/ must already be there: those files were emitted by MindSpore's own semi_auto_parallel frontend
(see strategies/how/).  Everything else is (re)built here.
After each transform the output is checked against an independent numpy slicer (ref_slice) and the
result is written to index.json (per file, per parameter: dtype, dims, sha256 of the raw bytes)."""
import os, sys, json, hashlib, shutil, stat, time, glob, struct
import numpy as np
import mindspore as ms
from mindspore import Tensor, Parameter
import mindspore.train.serialization as ser
from mindspore.train.checkpoint_pb2 import Checkpoint
from mindspore.train.node_strategy_pb2 import ParallelStrategyMap

ROOT = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(__file__))
S = os.path.join(ROOT, "strategies")
H, F, V, NL = 64, 160, 96, 2
log = []
# these outputs were produced and checked, but only their per-parameter hashes are kept (index.json)
INDEX_ONLY = ["out/c08_*", "out/c10_*", "out/c12_*", "out/c13_*", "out/c14_*", "out/c16_*", "out/c19_*", "out/c22_*", "out/c23_*", "out/c24_*", "out/c25_*",
              "out/c28_*", "out/c29_*", "out/c32_*", "out/c33_*", "out/c35_*", "out/c36_*", "out/c38_*", "out/c40_*", "safetensors/4p_to_2p_ckpt"]

def say(*a):
    print(*a, flush=True); log.append(" ".join(str(x) for x in a))

def fresh(d):
    if os.path.isdir(d):
        for r, ds, fs in os.walk(d):
            for f in fs: os.chmod(os.path.join(r, f), 0o600)
        shutil.rmtree(d)
    os.makedirs(d)

def shapes(kv=H):
    r = {"model.tok_embeddings.embedding_weight": (V, H)}
    for i in range(NL):
        p = f"model.layers.{i}."
        r.update({p+"attention_norm.weight": (H,), p+"ffn_norm.weight": (H,),
                  p+"attention.wq.weight": (H, H), p+"attention.wk.weight": (kv, H), p+"attention.wv.weight": (kv, H),
                  p+"attention.wo.weight": (H, H), p+"feed_forward.w1.weight": (F, H),
                  p+"feed_forward.w2.weight": (H, F), p+"feed_forward.w3.weight": (F, H)})
    r["model.norm_out.weight"] = (H,); r["lm_head.weight"] = (V, H)
    return r

def bits_bf16(a32):  # round to nearest even
    u = a32.astype(np.float32).view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)

def to_tensor(a, dt):
    if dt == "fp32": return Tensor(a.astype(np.float32))
    if dt == "fp16": return Tensor(a.astype(np.float16))
    if dt == "bf16": return Tensor(a.astype(np.float32)).astype(ms.bfloat16)
    raise KeyError(dt)

def model(dt, kv=H, seed=1, train=False, only=None):
    """ordered {name: Tensor}; fp32 values are unique integers so a misplaced element is visible"""
    rng = np.random.default_rng(seed); out = {}; base = 0
    sh = shapes(kv)
    for n, s in sh.items():
        k = int(np.prod(s))
        a = (np.arange(base, base+k, dtype=np.float64).reshape(s)) if dt == "fp32" else rng.standard_normal(s)*0.05
        base += k
        out[n] = to_tensor(a, dt)
    if train:
        for pre, sgn in (("adam_m.", -1.0), ("adam_v.", 0.5)):
            for n, s in sh.items():
                out[pre+n] = Tensor((out[n].asnumpy().astype(np.float64)*sgn).astype(np.float32))
    if only: out = {n: t for n, t in out.items() if only(n)}
    return out

def save(d, path, **kw):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    ms.save_checkpoint([{"name": n, "data": t} for n, t in d.items()], path, **kw)

# ---------------------------------------------------------------- independent reader + reference slicer
ITEM = {"Int8": 1, "UInt8": 1, "Bool": 1, "Int16": 2, "UInt16": 2, "Float16": 2, "BFloat16": 2, "Int32": 4, "UInt32": 4,
        "Float32": 4, "Int64": 8, "UInt64": 8, "Float64": 8}
def raw(path):
    """{name: (type, dims, bytes)} straight from the protobuf (no MindSpore loader)"""
    b = open(path, "rb").read()
    if b[-17:-10] == b"crc_num": b = b[:-17]
    c = Checkpoint(); c.ParseFromString(b); r = {}
    for v in c.value:
        t = v.tensor
        if v.tag in r: r[v.tag] = (t.tensor_type, list(t.dims), r[v.tag][2]+t.tensor_content)
        else: r[v.tag] = (t.tensor_type, list(t.dims), t.tensor_content)
    return r
NP = {"Float16": np.uint16, "BFloat16": np.uint16, "Float32": np.uint32, "Int32": np.int32, "Int64": np.int64}
def arr(e): return np.frombuffer(e[2], NP[e[0]]).reshape(e[1])

def layouts(path):
    """{name: (dev, map, step, size, [stages])}; map entries are int or list (several device axes on one tensor axis)"""
    if path is None: return None
    r = {}
    if path.endswith(".json"):
        for n, l in json.load(open(path))["parallel_layout_item"].items():
            st, nm = (int(n.split("-")[0]), n.split("-")[1]) if "-" in n else (0, n)
            r.setdefault(nm, (l["dev_matrix"], l["tensor_map"], l["opt_weight_shard_step"], l["opt_weight_shard_size"], []))[4].append(st)
        return r
    m = ParallelStrategyMap(); m.ParseFromString(open(path, "rb").read())
    for li in m.parallel_layout_item:
        n, l = li.param_name, li.parallel_layouts
        st, nm = (int(n.split("-")[0]), n.split("-")[1]) if "-" in n else (0, n)
        tm = [list(t.dim) for t in l.tensor_map if list(t.dim)] if len(l.tensor_map) > 1 else list(l.tensor_map[0].dim)
        r.setdefault(nm, (list(l.dev_matrix[0].dim), tm, l.opt_weight_shard_step, l.opt_weight_shard_size, []))[4].append(st)
    return r

def ref_slice(full, lay, local_rank):
    dev, tmap, step, size, _ = lay
    coord = np.unravel_index(local_rank, dev); nd = len(dev); used = set(); idx = []
    for ax, m in enumerate(tmap):
        axes = [m] if not isinstance(m, list) else m
        parts, i = 1, 0
        for a in axes:
            if a < 0: continue
            k = nd-1-a; used.add(k); parts *= dev[k]; i = i*dev[k]+coord[k]
        n = full.shape[ax]//parts; idx.append(slice(int(i*n), int((i+1)*n)))
    s = full[tuple(idx)]
    if size != 0 and step != 0:
        rep = [k for k in range(nd) if k not in used]
        pos = 0; tot = 1
        for k in rep: pos = pos*dev[k]+coord[k]; tot *= dev[k]
        n = tot if size == -1 else size
        pos %= n; d0 = s.shape[0]//n; s = s[pos*d0:(pos+1)*d0]
    return np.ascontiguousarray(s)

def stage_size(lays): return int(np.prod(next(iter(lays.values()))[0])) if lays else 1

def check(case, outdir, full, strat, ranks):
    """compare every rank file with the reference; report params present / absent / not in the strategy"""
    lays = layouts(strat); ss = stage_size(lays); bad = 0; extra = {}; missing = {}
    for r in range(ranks):
        fs = glob.glob(f"{outdir}/rank_{r}/*.ckpt"); assert len(fs) == 1, (outdir, r, fs)
        got = raw(fs[0]); stage = r//ss if lays else 0
        want = set(full) if lays is None else {n for n, l in lays.items() if stage in l[4] and n in full}
        for n in want:
            if n not in got: missing.setdefault(n, []).append(r); continue
            w = arr(full[n]) if lays is None else ref_slice(arr(full[n]), lays[n], r % ss)
            g = got[n]
            if list(g[1]) != list(w.shape) or g[2] != w.tobytes() or g[0] != full[n][0]:
                bad += 1; say("   MISMATCH", case, "rank", r, n, g[0], g[1], "want", list(w.shape))
        for n in got:
            if n not in want: extra.setdefault(n, []).append(r)
    say(f"   check {case}: ranks={ranks} mismatches={bad} missing={len(missing)} extra(not in dst strategy)={len(extra)}"
        + (f" e.g. {sorted(extra)[:2]}" if extra else "") + (f" missing e.g. {sorted(missing)[:3]}" if missing else ""))
    return bad

def transform(case, src, srcst, dstst, ranks, full=None, prefix="checkpoint_", **kw):
    out = f"{ROOT}/out/{case}"; fresh(out); t = time.time()
    try:
        ms.transform_checkpoints(src, out, prefix, srcst and f"{S}/{srcst}", dstst and f"{S}/{dstst}", **kw)
    except BaseException as e:
        say(f"{case}: FAILED {type(e).__name__}: {str(e)[:300]}"); return None
    say(f"{case}: {srcst} -> {dstst} ok {time.time()-t:.2f}s")
    if full is not None: check(case, out, full, dstst and f"{S}/{dstst}", ranks)
    return out

# ---------------------------------------------------------------- 1. file formats
def formats():
    D = f"{ROOT}/formats"; fresh(D)
    # plain fp32/fp16/bf16 llama checkpoints: see src/{fp32,fp16,bf16}_1p/rank_0/checkpoint_0.ckpt
    save(model("fp16"), f"{D}/llama_fp16_crc.ckpt", crc_check=True)
    save(model("fp16"), f"{D}/llama_fp16_aes_gcm_key16.ckpt", enc_key=b"0123456789ABCDEF", enc_mode="AES-GCM")
    mini = model("fp16", only=lambda n: ".layers.0.attention" in n or "norm_out" in n)
    save(mini, f"{D}/mini_plain.ckpt")
    for mode in ("AES-GCM", "AES-CBC", "SM4-CBC"): save(mini, f"{D}/mini_{mode.lower().replace('-', '_')}_key16.ckpt", enc_key=b"0123456789ABCDEF", enc_mode=mode)
    for k in (24, 32): save(mini, f"{D}/mini_aes_gcm_key{k}.ckpt", enc_key=bytes(range(k)), enc_mode="AES-GCM")
    # several encrypted records in one file: shrink the 64 MiB block to 8 KiB (ENCRYPT_BLOCK_SIZE is in KiB)
    o = ser.ENCRYPT_BLOCK_SIZE; ser.ENCRYPT_BLOCK_SIZE = 8
    save(mini, f"{D}/mini_aes_gcm_blocks8k_key16.ckpt", enc_key=b"0123456789ABCDEF"); ser.ENCRYPT_BLOCK_SIZE = o
    # several Value entries per parameter: SLICE_SIZE is in KiB
    o = ser.SLICE_SIZE; ser.SLICE_SIZE = 3
    save(mini, f"{D}/mini_multichunk_bytes3k.ckpt")                        # byte-granular split (default, synchronous path)
    save(mini, f"{D}/mini_multichunk_bytes3k_crc.ckpt", crc_check=True)
    save(mini, f"{D}/mini_multichunk_rows3k_async.ckpt", async_save=True); ser._async_save_close()  # np.array_split on dim 0
    ser.SLICE_SIZE = o
    # every dtype, scalars, strings, empty
    al = {}
    for n, d in (("i8", np.int8), ("u8", np.uint8), ("i16", np.int16), ("u16", np.uint16), ("i32", np.int32), ("u32", np.uint32),
                 ("i64", np.int64), ("u64", np.uint64), ("f16", np.float16), ("f32", np.float32), ("f64", np.float64)):
        al["dt."+n] = Tensor(np.arange(6).reshape(2, 3).astype(d))
    al["dt.bool"] = Tensor(np.array([True, False, True])); al["dt.bf16"] = Tensor(np.arange(6, dtype=np.float32).reshape(2, 3)).astype(ms.bfloat16)
    al["scalar.f32_0d"] = Tensor(np.float32(1.5)); al["scalar.i32_0d"] = Tensor(np.int32(7)); al["one.f32"] = Tensor(np.array([2.5], np.float32))
    save(al, f"{D}/all_dtypes.ckpt", append_dict={"epoch_num": 3, "step_num": 4500, "loss": 0.25, "flag": True, "note": "hello \u4f60\u597d", "empty_note": ""})
    try:
        q = Tensor(np.array([[0x21, 0x43], [0x65, 0x07]], np.uint8).astype(np.int8), dtype=ms.qint4x2); save({"q.int4": q, "x": Tensor(np.ones(2, np.float32))}, f"{D}/int4.ckpt"); say("int4 saved", q.shape, q.dtype)
    except BaseException as e: say("int4 ERR", str(e)[:200])
    try:
        save({"z": Tensor(np.zeros((0, 4), np.float32)), "x": Tensor(np.ones(2, np.float32))}, f"{D}/zero_size.ckpt"); say("zero_size saved", raw(f"{D}/zero_size.ckpt").keys())
        say("zero_size load", list(ms.load_checkpoint(f"{D}/zero_size.ckpt")))
    except BaseException as e: say("zero size ERR", str(e)[:200])
    # training checkpoint as mindformers writes it (weights + adam moments + scalars), fp32
    tr = model("fp32", train=True, only=lambda n: "layers.0.attention" in n or "norm_out" in n)
    tr.update({"global_step": Tensor(np.array([120], np.int32)), "learning_rate": Tensor(np.float32(1e-4)), "beta1_power": Tensor(np.float32(0.9)), "scale_sense": Tensor(np.float32(65536))})
    save(tr, f"{D}/mini_train_fp32.ckpt", append_dict={"epoch_num": 1, "step_num": 120, "loss_scale": 65536.0, "global_batch_size": 16})
    # safetensors flavours
    for dt in ("fp16", "bf16"):
        try: save(model(dt), f"{D}/llama_{dt}.safetensors", format="safetensors")
        except BaseException as e: say(dt, "safetensors ERR", str(e)[:160])   # bf16 needs numpy 1.x with this wheel
    save(mini, f"{D}/mini_crc.safetensors", format="safetensors", crc_check=True)
    ms.ckpt_to_safetensors(f"{D}/mini_plain.ckpt", f"{D}/c2s"); ms.safetensors_to_ckpt(f"{D}/c2s/mini_plain.safetensors", f"{D}/s2c")

# ---------------------------------------------------------------- 2. resharding
def reshard():
    fresh(f"{ROOT}/out"); SRC = f"{ROOT}/src"; fresh(SRC); tmp = f"{ROOT}/tmp"; fresh(tmp)
    def source(name, d, prefix="checkpoint_0", **kw):
        p = f"{SRC}/{name}/rank_0/{prefix}.ckpt"; save(d, p, **kw); return f"{SRC}/{name}", raw(p)
    s16, f16 = source("fp16_1p", model("fp16"))
    s32, f32 = source("fp32_1p", model("fp32"))
    sbf, fbf = source("bf16_1p", model("bf16"))
    str_, ftr = source("train_fp32_1p", {**model("fp32", train=True), "global_step": Tensor(np.array([120], np.int32)), "learning_rate": Tensor(np.float32(1e-4)), "scale_sense": Tensor(np.float32(65536.))})
    # 1 -> n
    o2 = transform("c01_1to2_fp16", s16, None, "mp2.ckpt", 2, f16)
    o4 = transform("c02_1to4_fp16", s16, None, "mp4.ckpt", 4, f16)
    o8 = transform("c03_1to8_fp16", s16, None, "mp8.ckpt", 8, f16)
    o16 = transform("c04_1to16_fp16", s16, None, "mp16.ckpt", 16, f16)
    # n -> m
    transform("c05_4to2_fp16", o4, "mp4.ckpt", "mp2.ckpt", 2, f16)
    transform("c06_2to8_fp16", o2, "mp2.ckpt", "mp8.ckpt", 8, f16)
    transform("c07_8to16_fp16", o8, "mp8.ckpt", "mp16.ckpt", 16, f16)
    transform("c08_4to8_fp16", o4, "mp4.ckpt", "mp8.ckpt", 8, f16)
    transform("c09_4to1_fp16", o4, "mp4.ckpt", None, 1, f16)
    transform("c10_8to1_fp16", o8, "mp8.ckpt", None, 1, f16)
    transform("c11_16to4_fp16", o16, "mp16.ckpt", "mp4.ckpt", 4, f16)
    transform("c12_16to1_fp16", o16, "mp16.ckpt", None, 1, f16)
    transform("c13_16to8_fp16", o16, "mp16.ckpt", "mp8.ckpt", 8, f16)
    transform("c14_4json_to_2_fp16", o4, "mp4.json", "mp2.ckpt", 2, f16)
    # bf16
    ob = transform("c15_1to2_bf16", sbf, None, "mp2.ckpt", 2, fbf)
    if ob: transform("c16_2to1_bf16", ob, "mp2.ckpt", None, 1, fbf)
    # data parallel replicas
    od = transform("c17_1to_dp2mp2_fp16", s16, None, "dp2mp2.ckpt", 4, f16)
    transform("c18_dp2mp2_to_mp4_fp16", od, "dp2mp2.ckpt", "mp4.ckpt", 4, f16)
    transform("c19_mp4_to_dp2mp2_fp16", o4, "mp4.ckpt", "dp2mp2.ckpt", 4, f16)
    # optimizer-sharded training checkpoints -> inference (train_to_infer)
    ot = transform("c20_train_1to_dp2mp2opt", str_, None, "dp2mp2_opt_train.ckpt", 4, ftr)
    transform("c21_train_dp2mp2opt_to_mp2", ot, "dp2mp2_opt_train.ckpt", "mp2.ckpt", 2, ftr)
    transform("c22_train_dp2mp2opt_to_1", ot, "dp2mp2_opt_train.ckpt", None, 1, ftr)
    transform("c23_train_dp2mp2opt_to_mp4", ot, "dp2mp2_opt_train.ckpt", "mp4.ckpt", 4, ftr)
    op = transform("c24_train_1to_dp4mp2opt2", str_, None, "dp4mp2_opt2_train.ckpt", 8, ftr)
    if op: transform("c25_train_dp4mp2opt2_to_mp2", op, "dp4mp2_opt2_train.ckpt", "mp2.ckpt", 2, ftr)
    # pipeline
    for nm in ("pp2mp2", "pp2dp2mp2_opt"):
        mg = f"{S}/{nm}_merged.ckpt"
        if os.path.exists(mg): os.remove(mg)
        ms.merge_pipeline_strategys(f"{S}/stages/{nm}", mg)
    opp = transform("c26_1to_pp2mp2_fp16", s16, None, "pp2mp2_merged.ckpt", 4, f16)
    transform("c27_pp2mp2_to_mp4_fp16", opp, "pp2mp2_merged.ckpt", "mp4.ckpt", 4, f16)
    transform("c28_mp4_to_pp2mp2_fp16", o4, "mp4.ckpt", "pp2mp2_merged.ckpt", 4, f16)
    transform("c29_pp2mp2_to_1_fp16", opp, "pp2mp2_merged.ckpt", None, 1, f16)
    # one fp32 case with unique integer values, easy to debug
    transform("c38_1to_dp2mp2_fp32", s32, None, "dp2mp2.ckpt", 4, f32)
    opo = transform("c30_1to_pp2dp2mp2opt_fp16", s16, None, "pp2dp2mp2_opt_merged.ckpt", 8, f16)
    if opo:
        transform("c31_pp2dp2mp2opt_to_mp4_fp16", opo, "pp2dp2mp2_opt_merged.ckpt", "mp4.ckpt", 4, f16)
        transform("c32_pp2dp2mp2opt_to_1_fp16", opo, "pp2dp2mp2_opt_merged.ckpt", None, 1, f16)
        transform("c33_pp2dp2mp2opt_to_pp2mp2_fp16", opo, "pp2dp2mp2_opt_merged.ckpt", "pp2mp2_merged.ckpt", 4, f16)
    # grouped-query (2 kv heads): wk/wv are [32,64]
    sg, fg = source("gqa_fp16_1p", model("fp16", kv=32))
    og = transform("c34_gqa_1to2", sg, None, "mp2.ckpt", 2, fg); transform("c35_gqa_2to4", og, "mp2.ckpt", "mp4.ckpt", 4, fg)
    # multi-chunk source
    o = ser.SLICE_SIZE; ser.SLICE_SIZE = 3; sm, fm = source("multichunk_fp16_1p", model("fp16")); ser.SLICE_SIZE = o
    transform("c36_multichunk_1to2", sm, None, "mp2.ckpt", 2, fm)
    # several device axes on one tensor axis (Layout), real strategy file
    rng = np.random.default_rng(5)
    sn, fn = source("nested_fp16_1p", {"w": Tensor(rng.standard_normal((64, 96)).astype(np.float16)), "v": Tensor(rng.standard_normal((96, 64)).astype(np.float16))})
    on = transform("c37_1to_nested8", sn, None, "nested_layout8.ckpt", 8, fn)
    if on: transform("c39_nested8_to_1", on, "nested_layout8.ckpt", None, 1, fn); transform("c40_nested8json_to_1", on, "nested_layout8.json", None, 1, fn)
    # safetensors family, from the 4p checkpoint
    ST = f"{ROOT}/safetensors"; fresh(ST)
    ms.ckpt_to_safetensors(o4, f"{ST}/4p"); ms.unified_safetensors(f"{ST}/4p", f"{S}/mp4.ckpt", f"{ST}/unified", max_process_num=1)
    ms.load_distributed_checkpoint(None, None, f"{S}/mp2.ckpt", format="safetensors", unified_safetensors_dir=f"{ST}/unified", dst_safetensors_dir=f"{ST}/from_unified_2p", max_process_num=1)
    ms.transform_checkpoints(f"{ST}/4p", f"{ST}/4p_to_2p_ckpt", "st_", f"{S}/mp4.ckpt", f"{S}/mp2.ckpt", output_format="ckpt")
    check("safetensors/4p_to_2p_ckpt", f"{ST}/4p_to_2p_ckpt", f16, f"{S}/mp2.ckpt", 2)
    fresh(tmp); shutil.rmtree(tmp)

def index():
    idx = {}
    for p in sorted(glob.glob(f"{ROOT}/**/*.ckpt", recursive=True)):
        rel = os.path.relpath(p, ROOT)
        if rel.startswith("strategies") or any(k in rel for k in ("aes_", "sm4_")): continue
        try: e = {n: [t, d, hashlib.sha256(b).hexdigest()[:16]] for n, (t, d, b) in raw(p).items()}
        except BaseException as ex: say("index skip", rel, ex); continue
        idx[rel] = e
    json.dump(idx, open(f"{ROOT}/index.json", "w"), separators=(",", ":"), sort_keys=True)
    for d in INDEX_ONLY:
        for p in glob.glob(f"{ROOT}/{d}"): shutil.rmtree(p)
    for r, ds, fs in os.walk(ROOT):
        for f in fs: os.chmod(os.path.join(r, f), 0o644)

if __name__ == "__main__":
    formats(); reshard(); index()
    open(f"{ROOT}/make_golden.log", "w").write("\n".join(log)+"\n")
    print("total MB", sum(os.path.getsize(os.path.join(r, f)) for r, _, fs in os.walk(ROOT) for f in fs)/1e6)
