#!/usr/bin/env bash
# Runs a program on the example: reshard, bf16, w8a16, Hugging Face in and out. What it writes can be compared with what another
# build writes.
#
#   tools/package/try.sh OUTPUT COMMAND...        e.g. try.sh out qemu-aarch64-static ./ckpt-convert
set -euo pipefail
output=$1
shift
example=$(cd "$(dirname "$0")/../.." && pwd)/examples/tiny-llama
yaml=$example/llama_tiny_4p.yaml
convert() { # FUNCTION PRECISION RANKS SOURCE TARGET [OPTION...]
    local function=$1 precision=$2 ranks=$3 source=$4 to=$5
    shift 5
    "${program[@]}" -f "$function" -p "$precision" -w "$ranks" -sc "$source" -dc "$output/$to/ckpt" "$@" -q >/dev/null
}
program=("$@")
convert distributed_weight_transfer fp16 4 "$example/ckpt" reshard -y "$yaml" -is "$output/reshard/strategy"
convert distributed_weight_transfer bf16 2 "$example/ckpt" bf16 -y "$yaml" -is "$output/bf16/strategy"
convert quant_weight w8a16 2 "$example/ckpt" w8a16 -y "$yaml" -is "$output/w8a16/strategy"
convert pt_to_ms fp16 2 "$example/hf" ranks -y "$yaml" -is "$output/ranks/strategy"
"${program[@]}" verify "$example/ckpt" "$output/reshard/ckpt/"* -y "$yaml" -q >/dev/null
# Where it was made from is written in it.
find "$output" -name manifest.json -delete
