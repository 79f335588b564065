#!/bin/bash
# The name of the original script for two machines with 16 cards; all options go to ckpt-convert as they are, quantised
# precisions too. Start it on both machines, as before:
#
#   source ../env/set_2n_env.sh
#   bash ckpt_convert_for_16p.sh -f distributed_weight_transfer -p fp16 -w 16 -y ... -sc ... -dc ... -is ...
#
# With the rank table that RANKTABLEFILE (or else RANK_TABLE_FILE) names, each machine converts the ranks of its own cards, and
# the target is published when both are done; without one, this machine converts all 16. MS_SCHED_HOST and MS_SCHED_PORT are
# not needed. Where the machines share no storage, add --local-output on both, then: ckpt-convert merge-manifest A B.
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=../env/run.sh
source "$here/../env/run.sh"
table=()
named=${RANKTABLEFILE:-${RANK_TABLE_FILE:-}}
if [ -n "$named" ]; then
    table=(--rank-table "$(rank_table "$named")")
fi
# What is typed comes last, and wins.
run "${table[@]}" "$@"
