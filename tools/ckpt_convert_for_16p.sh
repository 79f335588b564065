#!/bin/bash
# The name of the original script for two machines; all options go to ckpt-convert as they are. One machine is
# enough: MS_SCHED_HOST, MS_SCHED_PORT and a rank table are not needed and not looked at.
exec "$(dirname "$(readlink -f "$0")")/ckpt_convert.sh" "$@"
