# shellcheck shell=bash
# To be sourced on both machines before ckpt_convert_for_16p.sh, with the variables of the original set_2n_env.sh.
# RANKTABLEFILE is what counts: each machine finds its own address in it and converts the ranks of its own cards. Put the
# machines' addresses there (hccl_2n_16p.json beside this file is an example; the scripts look in the current directory, in
# their own folder and here). The scheduler's host and port are what the original scripts ask for; nothing listens there and
# nothing is sent.
export MS_ENABLE_LCCL=off
export RANKTABLEFILE="${RANKTABLEFILE:-./hccl_2n_16p.json}"
export MS_SCHED_HOST="${MS_SCHED_HOST:-192.168.1.1}"
export MS_SCHED_PORT="${MS_SCHED_PORT:-8334}"
