#!/usr/bin/env bash
# Checks that the program compiles for the other machines and C libraries that a release is made for.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tools/package/environment.sh
for target in aarch64-unknown-linux-gnu x86_64-unknown-linux-musl; do
    if rust_target "$target"; then
        cargo check --quiet --package ckpt-convert --target "$target"
        echo "$target: checked"
    else
        echo "SKIPPED: $target (its standard library is not there and could not be fetched)"
    fi
done
