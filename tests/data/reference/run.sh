#!/bin/bash
# Runs the original scripts on the tiny model and keeps <case>/{src,out,st} in OUT, the folder make_index.py reads.
#
#   MS_PYTHON=... run.sh SCRIPTS YAML OUT
#
# SCRIPTS = ckpt/inference/convert_ckpt_qkv and YAML = ckpt/inference/model/llama2_7b/qkv/llama2_7b_4p.yaml of the
# PyPI wheel model-convertor-tool 0.1.0 (pip download --no-deps, unzip); MS_PYTHON = a python that has mindspore.
# msrun is replaced by bin/msrun (one process here) and save_strategy.py, which needs NPUs, by
# save_strategy_substitute.py; every other step is the original. The yaml only has to exist.
set -u
here=$(cd "$(dirname "$0")" && pwd)
scripts=$(cd "$1" && pwd)
yaml=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
mkdir -p "$3"
out=$(cd "$3" && pwd)
export PATH=$here/bin:$PATH
cp "$here/cfg.json" "$out/"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$scripts" "$work/qkv"
cp "$here"/{cfg.json,strat.py} "$work/qkv/"
cp "$here/save_strategy_substitute.py" "$work/qkv/save_strategy.py"

one() { # source ranks, fused source (1 or 0), destination ranks
    local name=${1}p_$([ "$2" = 1 ] && echo qkv || echo noqkv)_to_${3}p
    rm -rf "$work/w"
    python "$here/mk.py" save "$work/w/src" "$1" "$2" >/dev/null 2>&1
    (cd "$work/qkv" && rm -rf log && bash ckpt_convert.sh -f distributed_weight_transfer -p fp16 -w "$3" \
        -y "$yaml" -sc "$work/w/src" -dc "$work/w/out" -is "$work/w/st") >"$work/out.txt" 2>&1
    echo "== $name exit=$?"
    grep -hE "^[A-Za-z]*Error" "$work"/qkv/log/*.log | sort | uniq -c
    (cd "$work/w" && python "$here/mk.py" check "out/fp16_${3}p,$3,0" "out/fp16_${3}p,$3,1" \
        "out/fp16_${3}p_qkv,$3,1" "out/fp16_${3}p_adjust,$3,1" 2>/dev/null)
    mkdir -p "$out/$name"
    chmod -R u+w "$work/w"
    cp -r "$work/w"/{src,out,st} "$out/$name/"
}

one 1 1 4
one 4 1 8
one 8 1 4
one 8 1 1
one 8 1 16
one 4 0 8
one 2 1 1
