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
# What every host is told, but for where the target goes. $1: that place; $2: ranks.
arguments() {
    echo -f distributed_weight_transfer -p fp16 -w "${2:-16}" -y "$work/model.yaml" -sc "$work/src" -dc "$1/ckpt" -is "$1/strategy" -q
}
# shellcheck disable=SC2046
one_host() { env -i PATH="$PATH" "$CKPT_CONVERT" $(arguments "$1" "${2:-16}") --nodes 1 >/dev/null 2>&1; }
one_host "$work/one"
# $1: what was shown; $2: where. The same files with the same bytes, and nothing else.
same_as_one_host() {
    diff -r "$work/one" "$2"
    echo "ok: $1"
}
fail() {
    echo "FAILED: $*" >&2
    exit 1
}
