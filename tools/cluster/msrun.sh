#!/bin/bash
# One conversion by the workers that MindSpore's msrun starts; on every machine the same, but for NODE_RANK:
#
#   WORKER_NUM=16 LOCAL_WORKER_NUM=8 MASTER_ADDR=192.168.1.1 NODE_RANK=0 tools/cluster/msrun.sh -f distributed_weight_transfer ...
#
# Each worker takes a share; the scheduler ends at once. For one worker for each machine, with all its threads:
# WORKER_NUM=2 LOCAL_WORKER_NUM=1.
# The program: $CKPT_CONVERT, or ckpt-convert on PATH. msrun: $MSRUN, or msrun on PATH.
set -eu
here=$(dirname "$(readlink -f "$0")")
exec "${MSRUN:-msrun}" --worker_num="${WORKER_NUM:-2}" --local_worker_num="${LOCAL_WORKER_NUM:-2}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${MASTER_PORT:-8118}" --node_rank="${NODE_RANK:-0}" \
    --log_dir="${LOG_DIR:-./msrun_log}" --join=True "$here/ckpt_convert.py" "$@"
