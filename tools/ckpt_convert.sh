#!/bin/bash
# The name of the original's script at the top of its tree: -f n2m_qkv, n2m_noqkv, add_qkv, quant, pt2ckpt, ckpt2sft and
# ckpt2pth. It does the same as convert_ckpt_qkv/ckpt_convert.sh.
exec "$(dirname "$(readlink -f "$0")")/convert_ckpt_qkv/ckpt_convert.sh" "$@"
