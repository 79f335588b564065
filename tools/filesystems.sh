#!/usr/bin/env bash
# Converts on every file system that can be had here, in every way, and compares each output byte by byte with the one that was
# made the plainest way: ext4, XFS and btrfs in images of a few hundred MB, tmpfs, overlay, FUSE.
#
#   tools/filesystems.sh [xfs|btrfs|ext4|tmpfs|overlay|fuse|refused]...
#
# On XFS and btrfs it also asks whether blocks are really shared, whether the target stays what it is when the source is
# overwritten, and (ext4, XFS) whether all of it is there after the power goes off as soon as the program has ended.
#
# Needs root and loop devices, and says what it skips where it has none: then it ends with 0. REQUIRE=1: then it fails.
# Debian: apt-get install xfsprogs btrfs-progs bindfs e2fsprogs. INSTALL=1: does so where something is missing.
#
# CKPT_CONVERT, CKPTGEN   the programs (default: target/release, built if they are not there)
# TMPDIR                  where the images lie, about 1 GB (default /tmp)
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
program=${CKPT_CONVERT:-$target/release/ckpt-convert}
generator=${CKPTGEN:-$target/release/ckptgen}
if [ ! -x "$program" ] || [ ! -x "$generator" ]; then
    cargo build --release --quiet --workspace --bins
fi
program=$(realpath "$program")
generator=$(realpath "$generator")

skipped=0
skip() {
    echo "SKIPPED: $*"
    skipped=$((skipped + 1))
}
fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# What can be mounted here differs from machine to machine; what is installed need not.
install_missing() {
    local command
    for command in mkfs.xfs xfs_io mkfs.btrfs mkfs.ext4 filefrag bindfs; do
        command -v "$command" >/dev/null || break
        command=
    done
    [ -n "$command" ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        skip "installing packages: $command is missing, and this is not root on Debian"
    elif ! (
        export DEBIAN_FRONTEND=noninteractive
        apt-get install -qq -y "${packages[@]}" || { apt-get update -qq && apt-get install -qq -y "${packages[@]}"; }
    ) >/dev/null 2>&1; then
        skip "installing packages: apt-get could not install ${packages[*]}"
    fi
}
packages=(xfsprogs btrfs-progs bindfs e2fsprogs)
[ "${INSTALL:-0}" != 1 ] || install_missing

work=$(mktemp -d "${TMPDIR:-/tmp}/filesystems.XXXXXX")
mnt=$work/mnt
mkdir "$mnt"
cleanup() {
    ! mountpoint -q "$mnt" || umount "$mnt" || umount -l "$mnt"
    rm -rf "$work"
}
trap cleanup EXIT

# A field of a JSON object on standard input.
field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
# The value of a setting in the plan on standard input.
setting() { python3 -c 'import json, sys; print(next(s["value"] for s in json.load(sys.stdin)["settings"] if s["name"] == sys.argv[1]))' "$1"; }

# One rank to two: rows are runs of the source, columns are gathered. About 80 MB.
sizes=(--model tiny --layers 2 --hidden 1024 --heads 8 --kv-heads 8 --ffn 2816 --vocab 8192)
convert() { # SOURCE TARGET [OPTION...]
    local source=$1 to=$2
    shift 2
    "$program" -f distributed_weight_transfer -p fp16 -w 2 -sc "$source" -dc "$to/ckpt" -is "$to/strategy" --json -q "$@" 2>"$work/stderr"
}
hashes() { grep '"hash"' "$1/ckpt/fp16_2p/manifest.json"; }
same() { # TARGET: as the reference?
    local rank
    for rank in 0 1; do
        cmp "$work/plain/ckpt/fp16_2p/rank_$rank/checkpoint_$rank.ckpt" "$1/ckpt/fp16_2p/rank_$rank/checkpoint_$rank.ckpt" || return 1
    done
    cmp <(hashes "$work/plain") <(hashes "$1")
}
# Flushes a file and drops its pages from the cache.
cold() { dd if=/dev/null of="$1" oflag=nocache conv=notrunc,fdatasync count=0 status=none; }
# Bytes of the target's blocks that FIEMAP calls shared.
shared() {
    filefrag -v -b1 "$1"/ckpt/fp16_2p/rank_*/*.ckpt | awk -F: '/shared/ { sum += $4 } END { print sum + 0 }'
}

"$generator" "${sizes[@]}" --out "$work/source" >/dev/null
convert "$work/source" "$work/plain" --reader mapped --writes buffered --writer pwrite --reflink never --workers 1 >/dev/null
file=rank_0/checkpoint_0.ckpt

# All ways on the mounted file system. $1: its name; $2: whether it shares blocks.
all_ways() {
    local name=$1 shares=$2 way bytes found
    mkdir -p "$mnt/source/rank_0"
    cp --reflink=never "$work/source/$file" "$mnt/source/$file"
    local ways=(
        '' '--reflink never' '--writes buffered' '--writes direct' '--writer pwrite' '--memory 64MiB' '--no-sync'
        '--reader mapped' '--reader direct' '--reader sequential' '--chunk 64KiB --depth 3' '--chunk 16MiB --workers 1'
        'one core'
    )
    for way in "${ways[@]}"; do
        cold "$mnt/source/$file"
        local options=() prefix=()
        if [ "$way" = 'one core' ]; then
            prefix=(taskset -c 0)
        else
            read -ra options <<<"$way"
        fi
        local plain_program=$program
        if [ ${#prefix[@]} -gt 0 ]; then
            # convert() calls one program: a script that narrows it.
            printf '#!/bin/sh\nexec %s %q "$@"\n' "${prefix[*]}" "$program" >"$work/narrow"
            chmod +x "$work/narrow"
            program=$work/narrow
        fi
        convert "$mnt/source" "$mnt/out" ${options[@]+"${options[@]}"} >"$work/summary" || {
            cat "$work/stderr" >&2
            fail "$name, '$way': the conversion"
        }
        program=$plain_program
        same "$mnt/out" || fail "$name, '$way': other bytes"
        bytes=$(field bytes_shared <"$work/summary")
        if [ "$shares" = yes ] && [ "$way" != '--reflink never' ]; then
            [ "$bytes" -gt 40000000 ] || fail "$name, '$way': only $bytes bytes are said to be shared"
            sync -f "$mnt"
            found=$(shared "$mnt/out")
            [ "$found" -ge "$bytes" ] || fail "$name, '$way': $bytes bytes are said to be shared, $found are"
        else
            [ "$bytes" = 0 ] || fail "$name, '$way': $bytes bytes are said to be shared"
            if [ "$shares" = yes ]; then
                sync -f "$mnt"
                [ "$(shared "$mnt/out")" = 0 ] || fail "$name, '$way': blocks are shared"
            fi
        fi
        rm -rf "$mnt/out"
    done
    echo "$name: ${#ways[@]} ways, all the same bytes"
}

# The target is what it is, whatever becomes of the source.
independent() {
    convert "$mnt/source" "$mnt/out" >/dev/null
    tr '\0' 'x' </dev/zero | dd of="$mnt/source/$file" bs=1M count=60 iflag=fullblock conv=notrunc,fdatasync status=none 2>/dev/null || true
    sync -f "$mnt"
    cold "$mnt/out/ckpt/fp16_2p/rank_0/checkpoint_0.ckpt"
    ! cmp -s "$work/source/$file" "$mnt/source/$file" || fail "$1: the source was not overwritten"
    same "$mnt/out" || fail "$1: the target changes with its source"
    rm -rf "$mnt/out"
    cp --reflink=never "$work/source/$file" "$mnt/source/$file"
    echo "$1: the target does not depend on the source"
}

# The power goes off when the program says that it is done: what it flushed must be there.
power_off() { # NAME IMAGE
    if ! command -v xfs_io >/dev/null; then
        skip "$1: power off (no xfs_io)"
        return
    fi
    convert "$mnt/source" "$mnt/out" >/dev/null
    xfs_io -x -c shutdown "$mnt"
    umount "$mnt"
    mount -o loop "$2" "$mnt"
    same "$mnt/out" || fail "$1: after the power went off"
    rm -rf "$mnt/out"
    echo "$1: all there after the power went off"
}

full_disk() {
    local free status=0 part
    # btrfs finds room again in the end that it did not count before: several files.
    for part in 1 2 3 4; do
        sync -f "$mnt"
        free=$(df --output=avail -B1 "$mnt" | tail -1)
        [ "$free" -le 60000000 ] || fallocate -l $((free - 50000000)) "$mnt/fill.$part"
    done
    free=$(df --output=avail -B1 "$mnt" | tail -1)
    [ "$free" -lt 80000000 ] || fail "$1: it could not be filled: $free bytes are free"
    convert "$mnt/source" "$mnt/out" >/dev/null || status=$?
    [ "$status" = 2 ] || fail "$1: status $status on a full disk"
    grep -q 'are free' "$work/stderr" || fail "$1: $(cat "$work/stderr")"
    [ ! -e "$mnt/out/ckpt/fp16_2p" ] || fail "$1: something was published on a full disk"
    rm -rf "$mnt"/fill.* "$mnt/out"
    echo "$1: a full disk is found before anything is written"
}

chosen() { # NAME READER WRITES REFLINK
    convert "$mnt/source" "$mnt/out" --dry-run >"$work/plan"
    local found
    found="$(setting reader <"$work/plan"), $(setting writes <"$work/plan"), $(setting reflink <"$work/plan")"
    [ "$found" = "$2, $3, $4" ] || fail "$1: chosen were $found; expected $2, $3, $4"
    [ ! -e "$mnt/out" ] || fail "$1: a dry run made something"
}

image() { # NAME MKFS...
    local name=$1
    shift
    if ! command -v "$1" >/dev/null; then
        skip "$name: no $1"
        return 1
    fi
    truncate -s 512M "$work/image"
    "$@" "$work/image" >/dev/null 2>&1 || fail "$name: $*"
    if ! mount -o loop "$work/image" "$mnt" 2>"$work/stderr"; then
        skip "$name: cannot be mounted here ($(tail -1 "$work/stderr"))"
        rm "$work/image"
        return 1
    fi
}

on_xfs() {
    image XFS mkfs.xfs -q -m reflink=1 || return 0
    all_ways XFS yes
    chosen XFS 'mapped or direct' direct tried
    independent XFS
    power_off XFS "$work/image"
    full_disk XFS
    umount "$mnt"
    rm "$work/image"
    image 'XFS without reflink' mkfs.xfs -q -m reflink=0 || return 0
    mkdir -p "$mnt/source/rank_0"
    cp "$work/source/$file" "$mnt/source/$file"
    convert "$mnt/source" "$mnt/out" >"$work/summary"
    same "$mnt/out" || fail "XFS without reflink"
    [ "$(field bytes_shared <"$work/summary")" = 0 ] || fail "XFS without reflink shares blocks"
    echo "XFS without reflink: falls through"
    umount "$mnt"
    rm "$work/image"
}

on_btrfs() {
    image btrfs mkfs.btrfs -q || return 0
    all_ways btrfs yes
    chosen btrfs 'mapped or direct' direct tried
    independent btrfs
    full_disk btrfs
    umount "$mnt"
    rm "$work/image"
}

on_ext4() {
    image ext4 mkfs.ext4 -q || return 0
    all_ways ext4 no
    chosen ext4 'mapped or direct' direct no
    power_off ext4 "$work/image"
    full_disk ext4
    umount "$mnt"
    rm "$work/image"
}

on_tmpfs() {
    if ! mount -t tmpfs -o size=400m tmpfs "$mnt" 2>/dev/null; then
        skip 'tmpfs: cannot be mounted here'
        return
    fi
    all_ways tmpfs no
    chosen tmpfs mapped buffered no
    full_disk tmpfs
    umount "$mnt"
}

on_overlay() {
    mkdir -p "$work/lower/source/rank_0" "$work/upper" "$work/scratch"
    cp "$work/source/$file" "$work/lower/source/$file"
    if ! mount -t overlay overlay -o "lowerdir=$work/lower,upperdir=$work/upper,workdir=$work/scratch" "$mnt" 2>/dev/null; then
        skip 'overlay: cannot be mounted here'
        return
    fi
    all_ways overlay no
    umount "$mnt"
    rm -rf "$work/lower" "$work/upper" "$work/scratch"
}

on_fuse() {
    if [ ! -c /dev/fuse ] || ! command -v bindfs >/dev/null; then
        skip 'FUSE: no /dev/fuse, or no bindfs'
        return
    fi
    mkdir -p "$work/below"
    if ! bindfs "$work/below" "$mnt" 2>/dev/null; then
        skip 'FUSE: cannot be mounted here'
        return
    fi
    all_ways FUSE no
    chosen FUSE sequential buffered no
    umount "$mnt"
    rm -rf "$work/below"
}

# ramfs knows no direct I/O: every direct read is refused at the open.
on_refused() {
    if ! mount -t ramfs ramfs "$mnt" 2>/dev/null; then
        skip 'ramfs: cannot be mounted here'
        return
    fi
    mkdir -p "$mnt/source/rank_0"
    cp "$work/source/$file" "$mnt/source/$file"
    ! dd if="$mnt/source/$file" of=/dev/null iflag=direct bs=4096 count=1 status=none 2>/dev/null ||
        skip 'ramfs reads past the page cache on this kernel'
    convert "$mnt/source" "$work/refused" --reader direct >/dev/null
    same "$work/refused" || fail 'a source that refuses direct reads'
    echo 'direct reads refused: the same bytes'
    rm -rf "$work/refused"
    umount "$mnt"
}

kinds=("$@")
[ ${#kinds[@]} -gt 0 ] || kinds=(xfs btrfs ext4 tmpfs overlay fuse refused)
if [ "$(id -u)" != 0 ]; then
    skip 'all of it: mounting needs root'
    kinds=()
fi
for kind in ${kinds[@]+"${kinds[@]}"}; do
    "on_$kind"
done
if [ "$skipped" -gt 0 ]; then
    echo "$skipped skipped"
    [ "${REQUIRE:-0}" != 1 ] || exit 1
fi
