#!/bin/bash
# One conversion on several machines that can be reached by ssh and share storage; run it anywhere:
#
#   tools/cluster/two-machines.sh HOST [HOST...] -- -f distributed_weight_transfer -p fp16 -w 16 -sc ... -dc ... -is ...
#
# The same as to type on each of them, in two terminals:  ckpt-convert --node-rank I --nodes N -f ...
# SSH: the command that runs a line on a host (default: ssh -o BatchMode=yes). CKPT_CONVERT: the program there.
set -u
hosts=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    hosts+=("$1")
    shift
done
if [ $# -eq 0 ] || [ ${#hosts[@]} -eq 0 ]; then
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    exit 1
fi
shift
# What a remote shell reads must be quoted once more.
line=$(printf ' %q' "$@")
pids=()
for i in "${!hosts[@]}"; do
    command="cd $(printf %q "$PWD") && $(printf %q "${CKPT_CONVERT:-ckpt-convert}") --node-rank $i --nodes ${#hosts[@]}$line"
    # SSH may be several words.
    # shellcheck disable=SC2086
    ${SSH:-ssh -o BatchMode=yes} "${hosts[$i]}" "$command" 2> >(sed "s/^/${hosts[$i]}: /" >&2) &
    pids+=($!)
done
status=0
for pid in "${pids[@]}"; do
    wait "$pid" || status=$?
done
exit $status
