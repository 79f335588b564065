#!/bin/bash
# Two hosts on one machine: two network namespaces with an address each, and with mounts of their own, started with the same
# command and the same rank table. Needs root, ip and unshare.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if ! command -v ip >/dev/null || ! unshare --net --mount --uts true 2>/dev/null; then
    echo 'skipped: two hosts (no namespaces: not root, or no ip and unshare)'
    exit 0
fi
# shellcheck source=setup.sh
source "$here/setup.sh"
netns=ckptconv$$
for i in 0 1; do
    ip netns add "$netns-$i"
    cleanups+=("ip netns del $netns-$i")
    ip -n "$netns-$i" link set lo up
done
ip link add "v$$a" netns "$netns-0" type veth peer name "v$$b" netns "$netns-1"
ip -n "$netns-0" addr add 192.168.1.1/24 dev "v$$a"
ip -n "$netns-1" addr add 192.168.1.2/24 dev "v$$b"
ip -n "$netns-0" link set "v$$a" up
ip -n "$netns-1" link set "v$$b" up

# $1: host; $2: the directory that the host sees at $work/mnt, or sshfs: $work/shared over the network; the rest is run there, in
# mounts and a host name of its own.
mkdir -p "$work/mnt" "$work/shared" "$work/disk0" "$work/disk1"
on_host() {
    local host=$1 disk=$2
    shift 2
    # shellcheck disable=SC2016
    ip netns exec "$netns-$host" unshare --mount --uts sh -c '
        if [ "$1" = sshfs ]; then
            sshfs -o directport=2222,dir_cache=no,attr_timeout=0,entry_timeout=0 "192.168.1.1:${2%/mnt}/shared" "$2"
        else
            mount --bind "$1" "$2"
        fi && hostname "$3" && shift 3 && "$@"' sh "$disk" "$work/mnt" "host$host" "$@"
}
# Both hosts at once, with what is given; answers when both are through. $1, $2: what they see at the mount.
both() {
    local disk0=$1 disk1=$2
    shift 2
    on_host 0 "$disk0" "$@" >"$work/0.log" 2>&1 &
    local first=$!
    on_host 1 "$disk1" "$@" >"$work/1.log" 2>&1 || fail "host 1: $(cat "$work/1.log")"
    wait $first || fail "host 0: $(cat "$work/0.log")"
}

# As the original: the same script on both, the same environment.
cp "$root/tools/cluster/hccl_2n_16p.json" "$work/"
cd "$work"
# shellcheck source=../set_2n_env.sh
source "$root/tools/cluster/set_2n_env.sh"
two_hosts() {
    local i rank dir name=${case_name}_16p_qkv
    rm -rf "$work/shared" "$work/disk0" "$work/disk1"
    mkdir "$work/shared" "$work/disk0" "$work/disk1"
    # shellcheck disable=SC2046
    both "$work/shared" "$work/shared" "$root/tools/ckpt_convert_for_16p.sh" $(arguments "$work/mnt")
    for i in 0 1; do
        grep -q "host $i of 2 .*192.168.1.$((i + 1)) is this machine.*in 8 files" "$work/$i.log" || fail "host $i: $(cat "$work/$i.log")"
    done
    same_as_one_host "$case_name: two hosts, one rank table, shared storage" "$work/shared"

    # Each its own disk, then the proof that the parts are a whole.
    # shellcheck disable=SC2046
    both "$work/disk0" "$work/disk1" "$root/tools/ckpt_convert_for_16p.sh" $(arguments "$work/mnt") --local-output
    for i in 0 1; do
        dir=$work/disk$i/ckpt/$name
        [ "$(find "$dir" -name 'rank_*' | wc -l)" = 8 ] || fail "host $i has $(ls "$dir")"
        for rank in $(seq $((i * 8)) $((i * 8 + 7))); do
            cmp "$dir/rank_$rank/checkpoint_$rank.ckpt" "$one/ckpt/$name/rank_$rank/checkpoint_$rank.ckpt"
        done
    done
    "$CKPT_CONVERT" merge-manifest "$work/disk0/ckpt/$name" "$work/disk1/ckpt/$name" -o "$work/merged.json" >/dev/null
    cmp "$work/merged.json" "$one/ckpt/$name/manifest.json"
    echo "ok: $case_name: two hosts, separate disks: ranks 0-7 and 8-15, and the merged manifest is the one of one host"
    ! "$CKPT_CONVERT" merge-manifest "$work/disk0/ckpt/$name" >"$work/half.log" 2>&1 || fail 'half was taken for a whole'
    grep -q 'part 1 of 2 is missing' "$work/half.log" || fail "$(cat "$work/half.log")"
    echo "ok: $case_name: half of it is refused"
}
for which in fp16 w8a16 w8a8c8; do
    use_case "$which"
    two_hosts
done

# A file system over the network: SFTP, mounted by each host for itself. (NFS needs a kernel with its client.)
if command -v sshfs >/dev/null && command -v socat >/dev/null && [ -x /usr/lib/openssh/sftp-server ]; then
    ip netns exec "$netns-0" socat TCP-LISTEN:2222,bind=192.168.1.1,reuseaddr,fork EXEC:/usr/lib/openssh/sftp-server &
    cleanups+=("kill $!")
    sleep 1
    for which in fp16 w8a8c8; do
        use_case "$which"
        rm -rf "$work/shared" && mkdir "$work/shared"
        # shellcheck disable=SC2046
        both sshfs sshfs "$root/tools/ckpt_convert_for_16p.sh" $(arguments "$work/mnt")
        same_as_one_host "$case_name: two hosts, storage over sshfs" "$work/shared"
    done
else
    echo 'skipped: storage over sshfs (Debian: apt-get install sshfs socat openssh-sftp-server)'
fi

# Clocks an hour apart.
if lib=$(find /usr/lib -name libfaketime.so.1 2>/dev/null | head -1) && [ -n "$lib" ]; then
    rm -rf "$work/shared" && mkdir "$work/shared"
    # The variables are of the shell that is started.
    # shellcheck disable=SC2016,SC2046
    both "$work/shared" "$work/shared" sh -c 'if [ "$(hostname)" = host1 ]; then export FAKETIME=+1h; else export FAKETIME=-1h; fi
        LD_PRELOAD='"$lib"' exec "$@"' sh "$root/tools/ckpt_convert_for_16p.sh" $(arguments "$work/mnt") --stale-after 3
    same_as_one_host 'clocks two hours apart' "$work/shared"
else
    echo 'skipped: clocks apart (no libfaketime; Debian: apt-get install libfaketime)'
fi
