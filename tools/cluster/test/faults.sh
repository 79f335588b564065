#!/bin/bash
# Two hosts, one of which is killed (-9) at a random point and started again, many times. After each kill no target may be
# there that is not whole; in the end the bytes are those of one host, and one process said that it published. Then the same
# with a quantised target.
#
#   tools/cluster/test/faults.sh [TIMES] [SEED]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=setup.sh
source "$here/setup.sh"
times=${1:-50}
seed=${2:-1}
RANDOM=$seed
place=$work/run
# A group for each file, so that there is much to interrupt.
# shellcheck disable=SC2046
host() { exec "$CKPT_CONVERT" $(arguments "$place") --nodes 2 --node-rank "$1" --stale-after 20 --secure-every 1B >"$work/$2.out" 2>"$work/$2.log"; }
whole_or_nothing() {
    [ ! -e "$place/ckpt/${case_name}_16p_qkv" ] || diff -r "$one/ckpt" "$place/ckpt" -x '.*' >/dev/null || fail 'a target that is not whole'
}
# $1: how many times.
kills() {
    local times=$1 span begun took killed=0 after=0 kept=0 i victim other doomed first second delay
    # How long an undisturbed run takes, in ms, the shortest of three: kills are spread over that.
    span=1000000
    for ((i = 0; i < 3; i++)); do
        rm -rf "$place"
        begun=$(date +%s%N)
        (host 0 a) & (host 1 b) & wait
        took=$((($(date +%s%N) - begun) / 1000000))
        span=$((took < span ? took : span))
        diff -r "$one" "$place" >/dev/null || fail "other bytes: $(diff -r "$one" "$place")"
    done
    echo "ok: $case_name: undisturbed, $span ms"
    for ((i = 0; i < times; i++)); do
        rm -rf "$place"
        victim=$((RANDOM % 2))
        (host $((1 - victim)) a) &
        other=$!
        (host $victim b) &
        doomed=$!
        delay=$((RANDOM * span / 32768))
        sleep "$(printf '%d.%03d' $((delay / 1000)) $((delay % 1000)))"
        if kill -9 $doomed 2>/dev/null; then killed=$((killed + 1)); else after=$((after + 1)); fi
        wait $doomed 2>/dev/null || true
        whole_or_nothing
        (host $victim c) || fail "started again: $(cat "$work/c.log")"
        wait $other || fail "the other: $(cat "$work/a.log")"
        diff -r "$one" "$place" >/dev/null || fail "other bytes: $(diff -r "$one" "$place")"
        # The killed one may have published before it said so.
        [ "$(cat "$work"/[abc].out | grep -c '^wrote ')" -le 1 ] || fail 'two publishers'
        ! grep -q '^note: kept' "$work/c.log" || kept=$((kept + 1))
    done
    echo "ok: $case_name: $times kills (seed $seed): $killed at work, $after after the end; $kept kept finished files; always the same bytes"

    # The machine of the publisher dies in the middle, and both are started again.
    for ((i = 0; i < times / 5; i++)); do
        rm -rf "$place"
        (host 0 a) & first=$!
        (host 1 b) & second=$!
        delay=$((RANDOM * span / 32768))
        sleep "$(printf '%d.%03d' $((delay / 1000)) $((delay % 1000)))"
        kill -9 $first $second 2>/dev/null || true
        wait $first $second 2>/dev/null || true
        whole_or_nothing
        (host 0 a) & first=$!
        (host 1 b) || fail "host 1: $(cat "$work/b.log")"
        wait $first || fail "host 0: $(cat "$work/a.log")"
        diff -r "$one" "$place" >/dev/null || fail "other bytes: $(diff -r "$one" "$place")"
    done
    echo "ok: $case_name: both killed and started again, $((times / 5)) times"
}
for which in fp16 w8a8c8; do
    use_case "$which"
    kills "$times"
done
