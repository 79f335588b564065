# shellcheck shell=bash
# What the packaging scripts share. They source it at the root of the checkout.

step() { printf '\n== %s\n' "$*"; }

# maturin, and zig to link with where it is named: an environment of their own below target/, on PATH.
packaging_tools() { # PACKAGE...
    local venv
    venv=$(realpath -m "${PACKAGING_VENV:-target/packaging-venv}")
    [ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
    PATH=$venv/bin:$PATH
    export PATH
}

# The standard library of a target. False where it is not there and cannot be fetched.
rust_target() { # TARGET
    local installed
    installed=$(rustc --print target-libdir --target "$1" 2>/dev/null) || return 1
    compgen -G "$installed/libstd-*" >/dev/null && return
    command -v rustup >/dev/null && timeout 300 rustup target add "$1"
}
