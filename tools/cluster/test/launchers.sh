#!/bin/bash
# Real launchers start the program: Open MPI, Slurm (srun, an array) with its daemons on this machine, MindSpore's msrun.
# Needs root (Slurm's and munge's daemons, Debian's packages).
#
#   tools/cluster/test/launchers.sh [mpirun] [slurm] [msrun] [ssh]
#
# MSRUN: msrun's path; where there is none that part is skipped, by name.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
packages=()
command -v mpirun >/dev/null || packages+=(openmpi-bin)
command -v slurmctld >/dev/null || packages+=(slurmctld slurmd slurm-client munge)
if [ ${#packages[@]} -gt 0 ]; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "skipped: the launchers ($(printf '%s ' "${packages[@]}")not installed)"
        exit 0
    fi
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi
# shellcheck source=setup.sh
source "$here/setup.sh"
cluster=$root/tools/cluster
[ $# -gt 0 ] || set -- mpirun slurm msrun ssh

run_mpirun() {
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    local n
    for n in 2 3; do
        # shellcheck disable=SC2046
        MPIRUN_OPTIONS="--oversubscribe -n $n" "$cluster/mpirun.sh" $(arguments "$work/mpi$n") >"$work/mpi.log" 2>&1 ||
            fail "mpirun: $(cat "$work/mpi.log")"
        grep -q 'says Open MPI' "$work/mpi.log" || fail "mpirun: $(cat "$work/mpi.log")"
        same_as_one_host "mpirun -n $n" "$work/mpi$n"
    done
    # shellcheck disable=SC2046
    MPIRUN_OPTIONS="--oversubscribe -n 4" "$cluster/mpirun.sh" $(arguments "$work/mpin") --per-node >"$work/mpi.log" 2>&1 ||
        fail "mpirun --per-node: $(cat "$work/mpi.log")"
    [ "$(grep -c 'nothing to do' "$work/mpi.log")" = 3 ] || fail "mpirun --per-node: $(cat "$work/mpi.log")"
    same_as_one_host 'mpirun -n 4 --per-node' "$work/mpin"
}

start_slurm() {
    local name key=$work/munge.key
    name=$(hostname -s)
    mkdir -p "$work/slurm/state" "$work/slurm/spool" "$work/munge"
    dd if=/dev/urandom of="$key" bs=1024 count=1 status=none
    chmod 400 "$key"
    chmod 711 "$work/munge"
    munged --force --foreground --key-file="$key" --socket="$work/munge/socket" --pid-file="$work/munge/pid" \
        --log-file="$work/munge/log" --seed-file="$work/munge/seed" >/dev/null 2>&1 &
    cleanups+=("kill $!")
    cat >"$work/slurm/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$name
SlurmctldPort=27817
SlurmdPort=27818
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$work/slurm/state
SlurmdSpoolDir=$work/slurm/spool/%n
SlurmctldPidFile=$work/slurm/slurmctld.pid
SlurmdPidFile=$work/slurm/slurmd-%n.pid
SlurmctldLogFile=$work/slurm/slurmctld.log
SlurmdLogFile=$work/slurm/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
NodeName=n[0-1] NodeHostname=$name NodeAddr=127.0.0.1 Port=[27820-27821] CPUs=1 State=UNKNOWN
PartitionName=all Nodes=n[0-1] Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
CONF
    export SLURM_CONF=$work/slurm/slurm.conf
    local i
    for i in $(seq 50); do if [ -S "$work/munge/socket" ]; then break; fi; sleep 0.1; done
    slurmctld -D >/dev/null 2>&1 &
    cleanups+=("kill $!")
    for i in 0 1; do
        mkdir -p "$work/slurm/spool/n$i"
        slurmd -D -N "n$i" >/dev/null 2>&1 &
        cleanups+=("kill $!")
    done
    for i in $(seq 150); do
        [ "$(sinfo -h -t idle -o %D 2>/dev/null)" = 2 ] && return
        sleep 0.2
    done
    fail "Slurm does not come up: $(sinfo 2>&1; tail -5 "$work"/slurm/*.log)"
}

run_slurm() {
    if [ "$(id -u)" != 0 ]; then
        echo 'skipped: Slurm (its daemons need root)'
        return
    fi
    start_slurm
    # shellcheck disable=SC2046
    srun -N 2 -n 2 "$CKPT_CONVERT" $(arguments "$work/srun") >"$work/srun.log" 2>&1 || fail "srun: $(cat "$work/srun.log")"
    grep -q 'host 1 of 2 .*says srun' "$work/srun.log" || fail "srun: $(cat "$work/srun.log")"
    same_as_one_host 'srun -n 2' "$work/srun"
    # shellcheck disable=SC2046
    srun -N 2 -n 4 --overcommit "$CKPT_CONVERT" $(arguments "$work/srunn") --per-node >"$work/srun.log" 2>&1 ||
        fail "srun --per-node: $(cat "$work/srun.log")"
    [ "$(grep -c 'nothing to do' "$work/srun.log")" = 2 ] || fail "srun --per-node: $(cat "$work/srun.log")"
    same_as_one_host 'srun -n 4 --per-node' "$work/srunn"
    # shellcheck disable=SC2046
    sbatch --wait -N 2 -o "$work/batch.log" "$cluster/slurm.sbatch" $(arguments "$work/batch") >/dev/null ||
        fail "sbatch: $(cat "$work/batch.log")"
    same_as_one_host 'sbatch --nodes=2, srun in it' "$work/batch"
    # The variables of a batch script speak of two tasks, but one process runs.
    # shellcheck disable=SC2046
    sbatch --wait -N 2 -n 2 -o "$work/plain.log" --wrap "$CKPT_CONVERT $(arguments "$work/plain")" >/dev/null ||
        fail "sbatch without srun: $(cat "$work/plain.log")"
    same_as_one_host 'sbatch without srun: one process, all of the work' "$work/plain"
    # shellcheck disable=SC2046
    sbatch --wait --array=0-3 -o "$work/array-%a.log" "$cluster/slurm.sbatch" $(arguments "$work/array") >/dev/null ||
        fail "array: $(cat "$work"/array-*.log)"
    grep -q 'says the Slurm array' "$work/array-3.log" || fail "array: $(cat "$work/array-3.log")"
    same_as_one_host 'sbatch --array=0-3' "$work/array"
    # One after the other: nobody may wait for one who has not begun.
    # shellcheck disable=SC2046
    sbatch --wait --array=2-8:3%1 -o "$work/turns-%a.log" "$cluster/slurm.sbatch" $(arguments "$work/turns") >/dev/null ||
        fail "array in turns: $(cat "$work"/turns-*.log)"
    same_as_one_host 'sbatch --array=2-8:3%1' "$work/turns"
    # shellcheck disable=SC2046
    ! sbatch --wait --array=1,3,9 -o "$work/gaps-%a.log" "$cluster/slurm.sbatch" $(arguments "$work/gaps") >/dev/null ||
        fail 'an array with gaps was accepted'
    grep -q 'gaps' "$work/gaps-1.log" || fail "gaps: $(cat "$work/gaps-1.log")"
    echo 'ok: sbatch --array=1,3,9 is refused'
}

run_msrun() {
    local msrun=${MSRUN:-$(command -v msrun || true)}
    if [ -z "$msrun" ]; then
        echo 'skipped: msrun (none on PATH, MSRUN is not set)'
        return
    fi
    # shellcheck disable=SC2046
    (cd "$work" && PATH=$(dirname "$msrun"):$PATH MSRUN=$msrun LOG_DIR=$work/msrun_log WORKER_NUM=2 LOCAL_WORKER_NUM=2 \
        "$cluster/msrun.sh" $(arguments "$work/msrun")) >"$work/msrun.log" 2>&1 || fail "msrun: $(cat "$work/msrun.log" "$work"/msrun_log/*)"
    grep -q 'MS_SCHED' "$work/msrun_log/scheduler.log" || fail "msrun: $(cat "$work"/msrun_log/*)"
    grep -q 'says msrun' "$work/msrun_log/worker_1.log" || fail "msrun: $(cat "$work"/msrun_log/*)"
    same_as_one_host 'msrun, two workers and a scheduler' "$work/msrun"
}

run_ssh() {
    # What ssh does, without a network: a shell that reads the line.
    printf '#!/bin/sh\nshift\nexec sh -c "$*"\n' >"$work/ssh"
    chmod +x "$work/ssh"
    # shellcheck disable=SC2046
    SSH=$work/ssh "$cluster/two-machines.sh" a b -- $(arguments "$work/ssh_out") >"$work/ssh.log" 2>&1 || fail "two-machines.sh: $(cat "$work/ssh.log")"
    grep -q '^b: .*host 1 of 2' "$work/ssh.log" || fail "two-machines.sh: $(cat "$work/ssh.log")"
    same_as_one_host 'two-machines.sh' "$work/ssh_out"
    # shellcheck disable=SC2046
    ! SSH=$work/ssh "$cluster/two-machines.sh" a b -- $(arguments "$work/ssh_out" 5) >"$work/ssh.log" 2>&1 || fail 'a failure was not reported'
    echo 'ok: two-machines.sh reports failures'
}

for which in "$@"; do "run_$which"; done
