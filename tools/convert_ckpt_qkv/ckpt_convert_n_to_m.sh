#!/bin/bash
''':'
# The name of the original script, which its README calls with python although it is bash: this file is both.
# To bash the line above is the command ":", to python it opens a string that ends after the last exec.
#
#   python ckpt_convert_n_to_m.sh -w 4 -sc SOURCE [-dc TARGET]
#
# The model is ../model/llama2_7b/qkv/llama2_7b_<w>p.yaml (in convert_ckpt_noqkv: noqkv/) unless -y names another. With -w 16
# and RANKTABLEFILE set (../env/set_2n_env.sh sets it) it is for two machines, as ckpt_convert_for_16p.sh is.
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=../env/run.sh
source "$here/../env/run.sh"
# The folder by which it was called, where convert_ckpt_noqkv holds links to the same files.
case $(cd "$(dirname "$0")" && pwd) in
    */convert_ckpt_noqkv) kind=noqkv fused=false ;;
    *) kind=qkv fused=true ;;
esac
ranks=$(world_size "$@")
options=()
yaml=$here/../model/llama2_7b/$kind/llama2_7b_${ranks}p.yaml
if [ -f "$yaml" ]; then
    options+=(-y "$(readlink -f "$yaml")")
else
    options+=(--qkv_concat "$fused")
fi
if [ "$ranks" = 16 ] && [ -n "${RANKTABLEFILE:-}" ]; then
    options+=(--rank-table "$(rank_table "$RANKTABLEFILE")")
fi
# What is typed comes last, and wins.
run n-to-m "${options[@]}" "$@"
exit
'''
import os
import sys

try:
    os.execvp("bash", ["bash", os.path.abspath(__file__)] + sys.argv[1:])
except OSError as e:
    sys.exit("bash: %s" % e.strerror)
