#!/bin/bash
# The name of the original script for two machines; all options go to ckpt-convert as they are. One machine is
# enough: MS_SCHED_HOST, MS_SCHED_PORT and a rank table are not needed and not looked at.
# The program: $CKPT_CONVERT, or the release build of this tree, or ckpt-convert on PATH.
here=$(dirname "$(readlink -f "$0")")
if [ -n "${CKPT_CONVERT:-}" ]; then
    exec "$CKPT_CONVERT" "$@"
elif [ -x "$here/../target/release/ckpt-convert" ]; then
    exec "$here/../target/release/ckpt-convert" "$@"
fi
exec ckpt-convert "$@"
