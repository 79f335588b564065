#!/bin/bash
# Has the real MindSpore read what ckpt-convert writes: see check.py and check_families.py.
#
#   tools/interop/run.sh [options of check.py]
#
# INTEROP_VENV   where the environment is or is made (default target/interop-venv; about 3 GB with MindSpore)
# CKPT_CONVERT   the program (default target/release/ckpt-convert, built if it is not there)
# PYTHON         the python that makes the environment (default python3; MindSpore 2.10.0 has wheels for 3.10 to 3.12)
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
venv=${INTEROP_VENV:-$root/target/interop-venv}
program=${CKPT_CONVERT:-$root/target/release/ckpt-convert}
if [ ! -x "$program" ]; then
    if [ -n "${CKPT_CONVERT:-}" ]; then
        echo "$program: not an executable file" >&2
        exit 1
    fi
    cargo build --release --manifest-path "$root/Cargo.toml" --bin ckpt-convert --target-dir "$root/target"
fi
if ! "$venv/bin/python" -c "import mindspore" >/dev/null 2>&1; then
    "${PYTHON:-python3}" -m venv "$venv"
    # numpy 1.26: with numpy 2 this MindSpore cannot load bfloat16 from safetensors
    "$venv/bin/python" -m pip install --quiet mindspore==2.10.0 numpy==1.26.4
fi
"$venv/bin/python" "$root/tools/interop/check.py" --program "$program" "$@"
exec "$venv/bin/python" "$root/tools/interop/check_families.py" --program "$program"
