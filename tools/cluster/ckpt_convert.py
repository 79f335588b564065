"""Becomes ckpt-convert with the same arguments: msrun (and torchrun) start Python files only."""
import os
import sys

program = os.environ.get("CKPT_CONVERT") or "ckpt-convert"
try:
    os.execvp(program, [program] + sys.argv[1:])
except OSError as e:
    sys.exit("%s: %s" % (program, e.strerror))
