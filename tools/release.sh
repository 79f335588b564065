#!/usr/bin/env bash
# Makes all that a release consists of, from a clean clone of this checkout's HEAD, into dist/:
#
#   ckpt_convert-VERSION-…manylinux_2_17_{x86_64,aarch64}.whl         for pip
#   ckpt-convert-VERSION-{x86_64,aarch64}-unknown-linux-musl.tar.gz  one static program, LICENSE and README
#   ckpt_convert-VERSION.tar.gz                                      the source, for pip and cargo
#   SHA256SUMS
#
#   tools/release.sh [x86_64|aarch64]...
#
# Needs cargo, rustup, git and python3 with venv; installs maturin and zig into an environment below target/, and adds the
# targets to the toolchain. Where qemu-aarch64-static is there, what is made for aarch64 is run too (Debian: apt-get install
# qemu-user-static libc6-arm64-cross).
#
# OUTPUT           where the files go (default dist)
# CARGO_TARGET_DIR where it is built (default target/dist; a second run is much shorter)
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/package/environment.sh
output=$(realpath -m "${OUTPUT:-dist}")
# Whole paths: what follows runs in the clone.
CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-target/dist}")
export CARGO_TARGET_DIR
architectures=("$@")
[ ${#architectures[@]} -gt 0 ] || architectures=(x86_64 aarch64)
packaging_tools 'maturin>=1.8,<2' ziglang

[ -z "$(git status --porcelain)" ] || echo "note: what is not committed is not in the release" >&2
work=$(mktemp -d "${TMPDIR:-/tmp}/release.XXXXXX")
trap 'rm -rf "$work"' EXIT
# Always the same place: its name is in the flags below, and other flags would build everything anew.
source=$CARGO_TARGET_DIR/source
rm -rf "$source"
mkdir -p "$CARGO_TARGET_DIR"
git clone --quiet --no-hardlinks . "$source"
cd "$source"
version=$(cargo metadata --no-deps --format-version 1 | python3 -c '
import json, sys
print(next(p["version"] for p in json.load(sys.stdin)["packages"] if p["name"] == "ckpt-convert"))')
mkdir "$work/dist"

# The files that a panic names are those of the repository and of the crates, not those of this machine.
cargo fetch --locked --quiet
export RUSTFLAGS="--remap-path-prefix=$source=ckpt-convert"
for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do
    RUSTFLAGS="$RUSTFLAGS --remap-path-prefix=${registry%/}=crates"
done

# How a program for this architecture and C library is started here, word by word; nothing where it cannot be.
runner() { # ARCHITECTURE LIBRARY
    local system=/usr/$1-linux-gnu
    if [ "$1" = "$(uname -m)" ]; then
        echo env
    elif ! command -v "qemu-$1-static"; then
        return
    elif [ "$2" = gnu ]; then
        # The other machine's C library (Debian: libc6-arm64-cross).
        printf '%s\n' -L "$system"
    fi
}
startable() { # ARCHITECTURE LIBRARY
    [ "$1" = "$(uname -m)" ] || {
        command -v "qemu-$1-static" >/dev/null && { [ "$2" = musl ] || [ -e "/usr/$1-linux-gnu/lib/libc.so.6" ]; }
    }
}

for architecture in "${architectures[@]}"; do
    for library in gnu musl; do
        target=$architecture-unknown-linux-$library
        step "$target"
        rust_target "$target" || {
            echo "$target: the toolchain does not have it" >&2
            exit 1
        }
        if [ $library = gnu ]; then
            # zig links against the oldest glibc that the platform tag allows.
            maturin build --release --zig --quiet --target "$target" --compatibility manylinux_2_17 --out "$work/dist"
        else
            # The linker that comes with Rust: there is no C code, and musl comes with the target.
            linker=CARGO_TARGET_$(tr '[:lower:]-' '[:upper:]_' <<<"$target")_LINKER
            env "$linker=rust-lld" cargo build --release --locked --quiet --target "$target" --bin ckpt-convert
        fi
        program=$CARGO_TARGET_DIR/$target/release/ckpt-convert
        if startable "$architecture" "$library"; then
            mapfile -t start < <(runner "$architecture" "$library")
            "${start[@]}" "$program" --version
            tools/package/try.sh "$work/try-$target" "${start[@]}" "$program"
        else
            echo "SKIPPED: $target is not run here (it needs qemu-$architecture-static and, for gnu, that machine's C library)"
        fi
        if [ $library = musl ]; then
            name=ckpt-convert-$version-$target
            mkdir "$work/$name"
            cp "$program" LICENSE README*.md "$work/$name/"
            # The same bytes whenever and by whomever it is packed.
            tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="$(git show -s --format=@%ct HEAD)" \
                -C "$work" -cf - "$name" | gzip -9n >"$work/dist/$name.tar.gz"
        fi
    done
done

step 'all of them convert alike'
first=
for tried in "$work"/try-*; do
    [ -d "$tried" ] || continue
    if [ -z "$first" ]; then
        first=$tried
    else
        diff -r "$first" "$tried"
        echo "${tried##*/try-}: the same bytes as ${first##*/try-}"
    fi
done

step 'source'
maturin sdist --out "$work/dist" >/dev/null

(cd "$work/dist" && sha256sum -- * >SHA256SUMS)
mkdir -p "$output"
cp "$work/dist"/* "$output/"
step "$output"
(cd "$work/dist" && stat -c '%s %n' -- *)
