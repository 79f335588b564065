#!/bin/bash
''':'
# The name of the original script, which its README calls with python although it is bash: this file is both.
# To bash the line above is the command ":", to python it opens a string that ends below the last exec.
# The program: $CKPT_CONVERT, or the release build of this tree, or ckpt-convert on PATH.
here=$(dirname "$(readlink -f "$0")")
if [ -n "${CKPT_CONVERT:-}" ]; then
    exec "$CKPT_CONVERT" n-to-m "$@"
elif [ -x "$here/../target/release/ckpt-convert" ]; then
    exec "$here/../target/release/ckpt-convert" n-to-m "$@"
fi
exec ckpt-convert n-to-m "$@"
'''
import os
import sys

built = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "target", "release", "ckpt-convert")
program = os.environ.get("CKPT_CONVERT") or (built if os.access(built, os.X_OK) else "ckpt-convert")
try:
    os.execvp(program, [program, "n-to-m"] + sys.argv[1:])
except OSError as e:
    sys.exit("%s: %s" % (program, e.strerror))
