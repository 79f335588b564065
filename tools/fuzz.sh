#!/usr/bin/env bash
# Runs each fuzz target for some seconds, from a corpus of real files.
#
#   tools/fuzz.sh [SECONDS] [TARGET...]
#
# Installs cargo-fuzz below target/ when it is not there. RUSTC_BOOTSTRAP lets a stable toolchain take the sanitizer flags.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true
export RUSTC_BOOTSTRAP=1
if ! command -v cargo-fuzz >/dev/null 2>&1; then
    root=$PWD/target/cargo-fuzz
    [ -x "$root/bin/cargo-fuzz" ] || cargo install --quiet --locked cargo-fuzz --version 0.13.2 --root "$root"
    PATH=$root/bin:$PATH
fi
declare -A seeds=(
    [ckpt_scan]='tests/data/formats/*.ckpt'
    [strategy_read]='tests/data/formats/strategies/*'
    [safetensors_header]='tests/data/formats/*.safetensors tests/data/formats/param_name_map.json'
    [pickle]='tests/data/torch/pickles/*.pkl tests/data/torch/hostile/*.pkl'
    [zip_read]='tests/data/torch/*.bin tests/data/torch/*.pt tests/data/torch/hostile/*'
    [pytorch_read]='tests/data/torch/*.bin tests/data/torch/*.pt tests/data/torch/hostile/*'
    [gguf_read]='tests/data/gguf/*.gguf'
    [model_yaml]='tests/data/yaml/*.yaml tests/data/models/*.yaml'
    [family_file]='src/model/families/*.yaml'
)
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(ckpt_scan strategy_read safetensors_header pickle zip_read pytorch_read gguf_read model_yaml family_file)
for target in "${targets[@]}"; do
    mkdir -p "fuzz/corpus/$target"
    # The globs are meant to expand.
    # shellcheck disable=SC2086
    cp ${seeds[$target]} "fuzz/corpus/$target/"
    echo "-- $target, $seconds s"
    cargo fuzz run "$target" -- -max_total_time="$seconds" -max_len=40000 -print_final_stats=1 2>&1 |
        grep -E '^(stat::number_of_executed_units|ERROR|SUMMARY|thread|==)|panicked' || {
        echo "no statistics from $target: it did not run" >&2
        exit 1
    }
    if compgen -G "fuzz/artifacts/$target/*" >/dev/null; then
        echo "findings in fuzz/artifacts/$target" >&2
        exit 1
    fi
done
