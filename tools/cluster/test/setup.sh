# shellcheck shell=bash
# To be sourced by the scripts beside it: a place to work in, a tiny checkpoint, the one-host result, and how to compare.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
[ -n "${CKPT_CONVERT:-}" ] || cargo build --quiet --manifest-path "$root/Cargo.toml"
export CKPT_CONVERT=${CKPT_CONVERT:-$target/debug/ckpt-convert}
work=$(mktemp -d)
cleanups=()
cleanup() {
    local i
    for ((i = ${#cleanups[@]} - 1; i >= 0; i--)); do eval "${cleanups[$i]}" || true; done
    rm -rf "$work"
}
trap cleanup EXIT
chmod 755 "$work"
cargo run --quiet --manifest-path "$root/Cargo.toml" -p ckptgen -- --layers 2 --hidden 256 --heads 16 --kv-heads 16 \
    --ffn 512 --vocab 512 --ranks 1 --out "$work/src"
cat >"$work/model.yaml" <<'YAML'
model:
  arch: {type: LlamaForCausalLM}
  model_config: {hidden_size: 256, num_layers: 2, num_heads: 16, n_kv_heads: 16, intermediate_size: 512, vocab_size: 512, qkv_concat: True}
YAML
# Statistics of activations as docs/en/statistics.md describes them, every channel between -1 and 1, a few beyond.
python3 - "$work/stats.safetensors" <<'PYTHON'
import json, struct, sys

tensors = []
for layer in range(2):
    for name, width in (("attention.w_qkv.input", 256), ("attention.wo.input", 256), ("feed_forward.w_gate_hidden.input", 256),
                        ("feed_forward.w2.input", 512), ("attention.key", 256), ("attention.value", 256)):
        for end, sign in (("min", -1.0), ("max", 1.0)):
            values = [sign * (20.0 if channel % 61 == layer else 1.0) for channel in range(width)]
            tensors.append(("model.layers.%d.%s.%s" % (layer, name, end), struct.pack("<%de" % width, *values), width))
header, at = {"__metadata__": {"format": "ckpt-convert.statistics", "version": "1"}}, 0
for name, data, width in tensors:
    header[name] = {"dtype": "F16", "shape": [width], "data_offsets": [at, at + len(data)]}
    at += len(data)
text = json.dumps(header).encode()
with open(sys.argv[1], "wb") as out:
    out.write(struct.pack("<Q", len(text)) + text + b"".join(data for _, data, _ in tensors))
PYTHON
# What is converted: fp16, or quantised with smoothing (w8a8c8).
case_name=fp16
# What every host is told, but for where the target goes. $1: that place; $2: ranks.
arguments() {
    local what=(-f distributed_weight_transfer -p fp16)
    [ "$case_name" = fp16 ] || what=(-f quant_weight -p "$case_name" --stats "$work/stats.safetensors")
    echo "${what[@]}" -w "${2:-16}" -y "$work/model.yaml" -sc "$work/src" -dc "$1/ckpt" -is "$1/strategy" -q
}
# shellcheck disable=SC2046
one_host() { env -i PATH="$PATH" "$CKPT_CONVERT" $(arguments "$1" "${2:-16}") --nodes 1 >/dev/null 2>&1; }
# What one host makes of each case. $one: of the present one.
use_case() {
    case_name=$1
    one=$work/one-$1
    [ -d "$one" ] || one_host "$one"
}
use_case fp16
# $1: what was shown; $2: where. The same files with the same bytes, and nothing else.
same_as_one_host() {
    diff -r "$one" "$2"
    echo "ok: $1"
}
fail() {
    echo "FAILED: $*" >&2
    exit 1
}
