#!/bin/bash
# One conversion by the processes that Open MPI starts:
#
#   MPIRUN_OPTIONS="-n 2 --host a,b" tools/cluster/mpirun.sh -f distributed_weight_transfer -p fp16 -w 16 -sc ... -dc ...
#
# The program does not link MPI; mpirun only starts it and tells each process its number.
# The program: $CKPT_CONVERT, or ckpt-convert on PATH.
set -eu
# The options are several words.
# shellcheck disable=SC2086
exec mpirun ${MPIRUN_OPTIONS:--n 2} "${CKPT_CONVERT:-ckpt-convert}" "$@"
