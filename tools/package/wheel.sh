#!/usr/bin/env bash
# Builds the wheel of this machine (not for distribution: tools/release.sh makes those), installs it into a fresh environment
# and does the README's main job with what was installed, as a user would.
#
# The program is cargo's release build of this checkout, so a second build is short.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tools/package/environment.sh
packaging_tools 'maturin>=1.8,<2'
target=${CARGO_TARGET_DIR:-$PWD/target}
wheels=$target/wheel
rm -rf "$wheels"
maturin build --release --quiet --compatibility linux --auditwheel skip --out "$wheels"
stat -c '%s %n' "$wheels"/*.whl

work=$(mktemp -d "${TMPDIR:-/tmp}/wheel.XXXXXX")
trap 'rm -rf "$work"' EXIT
cp -r examples/tiny-llama "$work/example"
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-index "$wheels"/*.whl
cd "$work/example"
export PATH=$work/venv/bin:$PATH
[ "$(command -v ckpt-convert)" = "$work/venv/bin/ckpt-convert" ]
ckpt-convert --version
[ "$(python -m ckpt_convert --version)" = "$(ckpt-convert --version)" ]
ckpt-convert -f distributed_weight_transfer -p fp16 -w 4 -y llama_tiny_4p.yaml -sc ckpt -dc "$work/out" -is "$work/strategy"
python -m ckpt_convert verify ckpt "$work/out/fp16_4p_qkv" -y llama_tiny_4p.yaml
# An exit status is the program's own.
status=0
python -m ckpt_convert inspect nowhere 2>/dev/null || status=$?
[ "$status" = 1 ]
pip uninstall --quiet --yes ckpt-convert
[ ! -e "$work/venv/bin/ckpt-convert" ]
