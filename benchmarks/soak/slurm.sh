#!/usr/bin/env bash
# Slurm for real on one node: the twelve runs of launch/slurm.sbatch as an array of jobs on captures
# made on the spot, while jobs are preempted, killed, stopped at their time limit, fail and are
# cancelled. The runs must end with the parameters of runs that nothing interrupted.
# Usage: bash benchmarks/soak/slurm.sh FOLDER >benchmarks/results/slurm.txt
#   as root, on Debian: apt-get install slurm-wlm munge; two cores, a quarter of an hour. FOLDER is
#   made anew and holds cluster, captures, runs and logs. The command xai-traffic is taken from the
#   PATH, else from .venv. Status 1 where a run does not end as it should.
set -euo pipefail
if [ $# -ne 1 ]; then
    sed -n '5,8s/^# //p' "$0" >&2
    exit 2
fi
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source benchmarks/soak/slurm_cluster.sh
mkdir "$1"
folder=$(realpath "$1")
command=$(command -v xai-traffic || echo .venv/bin/xai-traffic)
mapfile -t names < <(bash launch/seed_run.sh list)
began=$SECONDS
wrong=0

say() { echo "$((SECONDS - began)) s: $*" >&2; }

# check WHAT COMMAND...: one line of the record.
check() {
    if "${@:2}"; then echo "ok     $1"; else
        echo "WRONG  $1"
        wrong=1
    fi
}

# await SECONDS COMMAND...: until it succeeds.
await() {
    local until=$((SECONDS + $1))
    until "${@:2}"; do
        if [ $SECONDS -ge $until ]; then
            echo "waited $1 s for: ${*:2}" >&2
            return 1
        fi
        sleep 0.5
    done
}

# submit RUNS ARRAY [OPTIONS OF SBATCH] -- [FLAGS OF TRAIN]: the number of the job.
submit() {
    local runs=$folder/$1 array=$2 options=()
    shift 2
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    mkdir -p "$runs"
    sbatch --parsable --array="$array" --gpus-per-node=0 --cpus-per-task=1 --mem=1G --time=60 \
        --output="$runs/%a.log" --export="ALL,DATASETS=$folder/datasets,RUNS=$runs,SIZE=debug" \
        "${options[@]}" launch/slurm.sbatch --config.data.limit=0 --config.early_stopping.patience=0 "$@"
}

field() { scontrol show job --oneliner "$1" | tr ' ' '\n' | sed -n "s/^$2=//p" | head -1; }
is_idle() { [ "$(sinfo --noheader --partition=low --format=%T)" = idle ]; }
in_state() { [ "$(field "$1" JobState)" = "$2" ]; }
restarted() { [ "$(field "$1" Restarts)" -ge "$2" ]; }
finished() { [ -z "$(squeue --noheader "$@")" ]; }
has_rows() { [ "$(rows "$1")" -ge "$2" ]; }
# Of metrics.csv, one behind two steps; what goes on is first cut back to its checkpoint.
rows() { wc -l 2>/dev/null <"$folder/$1/metrics.csv" || echo 0; }
# rank RUN NUMBER: the number of the process that is this rank.
rank() {
    local process
    for process in $(processes "$1"); do
        if tr '\0' '\n' <"/proc/$process/environ" | grep -qx "SLURM_PROCID=$2"; then echo "$process"; fi
    done
}
processes() { pgrep -f -- "--workdir $folder/$1 "; }
parameters() { sed -n 's/^ "params_sha256": "\(.*\)",/\1/p' "$folder/$1/result.json"; }
same_parameters() { [ -n "$(parameters "$1")" ] && [ "$(parameters "$1")" = "$(parameters "$2")" ]; }
kill_rank() { kill -KILL "$(rank "$run" "$1")"; }
# interrupt_pair COMMAND...: in the middle of the run, and wait until it has gone on from there.
interrupt_pair() {
    local had restarts
    had=$(rows "$run") restarts=$(field "$pair" Restarts)
    say "behind $had rows and $restarts restarts: $*"
    "$@" >/dev/null
    await 120 restarted "$pair" $((restarts + 1))
    await 300 has_rows "$run" $((had + 12))
}
urgent() { sbatch --parsable --partition=high --job-name=urgent --output=/dev/null --wrap="sleep $1"; }

trap 'stop_cluster "$folder/cluster"' EXIT
say "captures and datasets"
"$command" lab --families dns,mail,web,beacon,exploit,tunnel --out "$folder/captures" >&2
"$command" convert "$folder/captures" --out "$folder/datasets/none" >/dev/null
"$command" convert "$folder/datasets/none" --mask header --out "$folder/datasets/header" >/dev/null
mkdir "$folder/cluster"
start_cluster "$folder/cluster" 2
await 30 is_idle

say "the array of twelve; one is preempted, of one the process is killed"
grid=$(submit grid 0-11 -- --config.epochs=20)
both_under_way() { has_rows "grid/${names[0]}" 10 && has_rows "grid/${names[1]}" 10; }
await 300 both_under_way
urgent 15 >/dev/null
one_restarted() { restarted "${grid}_0" 1 || restarted "${grid}_1" 1; }
await 120 one_restarted
preempted=0
restarted "${grid}_0" 1 || preempted=1
killed=4
await 600 has_rows "grid/${names[killed]}" 30  # behind its first checkpoints
kill -KILL "$(processes "grid/${names[killed]}")"
await 60 restarted "${grid}_$killed" 1
await 1800 finished --jobs="$grid"

say "one that fails, one that is cancelled, one that meets its time limit again and again"
failing=$(submit failing 8 -- --config.batch_size=4096)
failing_pair=$(submit failing-pair 8 --ntasks-per-node=2 -- --config.mesh.data=0 --config.batch_size=4096)
# Slurm looks twice a minute: its signal comes 30 to 60 s behind the start, and must find it at work.
limited=$(submit limited 9 --time=2 --signal=TERM@60 -- --config.epochs=300)
cancelled=$(submit cancelled 8 -- --config.epochs=20)
await 300 has_rows "cancelled/${names[8]}" 10
scancel "$cancelled"
straight=$(submit straight "$preempted,$killed" -- --config.epochs=20)
straight_long=$(submit straight 9 -- --config.epochs=300)
await 1800 finished

say "two processes: the second is killed, then the first, then the job is preempted"
pair=$(submit pair 8 --ntasks-per-node=2 -- --config.mesh.data=0 --config.epochs=40)
run=pair/${names[8]}
await 300 has_rows "$run" 20
interrupt_pair kill_rank 1
interrupt_pair kill_rank 0
interrupt_pair urgent 5
await 1200 finished
straight_pair=$(submit straight-pair 8 --ntasks-per-node=2 -- --config.mesh.data=0 --config.epochs=40)
await 1200 finished

# row JOB RUN: a line of the table.
row() {
    local state restarts code start end
    state=$(field "$1" JobState) restarts=$(field "$1" Restarts) code=$(field "$1" ExitCode)
    start=$(field "$1" StartTime) end=$(field "$1" EndTime)
    printf '| %s | %s | %s | %s | %s | %s | %s | %.12s |\n' "$1" "$2" "$state" "$restarts" "$code" \
        "${start#*T}" "${end#*T}" "$(parameters "$2" 2>/dev/null || true)"
}

say "the record"
echo "| job | run | state | restarts | exit | last start | end | params_sha256 |"
echo "|---|---|---|---|---|---|---|---|"
for index in "${!names[@]}"; do row "${grid}_$index" "grid/${names[index]}"; done
row "$failing" "failing/${names[8]}"
row "$failing_pair" "failing-pair/${names[8]}"
row "$cancelled" "cancelled/${names[8]}"
row "$limited" "limited/${names[9]}"
row "$pair" "$run"
for index in "$preempted" "$killed"; do row "${straight}_$index" "straight/${names[index]}"; done
row "$straight_long" "straight/${names[9]}"
row "$straight_pair" "straight-pair/${names[8]}"
echo
for index in "${!names[@]}"; do
    check "${names[index]} finished" in_state "${grid}_$index" COMPLETED
done
check "preempted: restarted once" [ "$(field "${grid}_$preempted" Restarts)" = 1 ]
check "preempted: parameters of the uninterrupted run" \
    same_parameters "grid/${names[preempted]}" "straight/${names[preempted]}"
check "killed: restarted once" [ "$(field "${grid}_$killed" Restarts)" = 1 ]
check "killed: parameters of the uninterrupted run" \
    same_parameters "grid/${names[killed]}" "straight/${names[killed]}"
check "time limit: finished" in_state "$limited" COMPLETED
check "time limit: restarted" restarted "$limited" 1
check "time limit: parameters of the uninterrupted run" \
    same_parameters "limited/${names[9]}" "straight/${names[9]}"
check "two processes: finished" in_state "$pair" COMPLETED
check "two processes: restarted after each" restarted "$pair" 3
check "two processes: parameters of the uninterrupted run" same_parameters "$run" "straight-pair/${names[8]}"
check "two processes: Slurm's environment was recognised" \
    grep -q '"device": "2 x cpu"' "$folder/$run/result.json"
check "failing: stays failed" in_state "$failing" FAILED
check "failing: not restarted" [ "$(field "$failing" Restarts)" = 0 ]
check "failing in two processes: stays failed" in_state "$failing_pair" FAILED
check "failing in two processes: not restarted" [ "$(field "$failing_pair" Restarts)" = 0 ]
check "cancelled: stays cancelled" in_state "$cancelled" CANCELLED
check "cancelled: not restarted" [ "$(field "$cancelled" Restarts)" = 0 ]

# told TITLE FILE: a log, without its epochs and what a broken connection makes Python and JAX print.
told() {
    echo
    echo "$1:"
    grep -E '^([0-9:]{8} |\[20|srun: |slurmstepd|status |xai-traffic: )' "$2" | grep -vE '^[0-9:]{8} epoch ' |
        sed "s|$folder|FOLDER|g; s/^/    /"
}
told "log of the preempted job ${grid}_$preempted" "$folder/grid/$preempted.log"
told "slurmctld of it" <(grep -F "JobId=${grid}_$preempted(" "$folder/cluster/slurmctld.log")
told "log of the killed job ${grid}_$killed" "$folder/grid/$killed.log"
told "log of the job of two processes $pair" "$folder/pair/8.log"
told "log of the job with a time limit $limited" "$folder/limited/9.log"
told "log of the failing job $failing" "$folder/failing/8.log"
told "log of the job that fails in two processes $failing_pair" "$folder/failing-pair/8.log"
told "log of the cancelled job $cancelled" "$folder/cancelled/8.log"
echo
echo "$(sinfo --version) ($(. /etc/os-release && echo "$PRETTY_NAME")), $(munged --version | head -1)," \
    "$(nproc) cores, jax $(sed -n 's/^ "jax": "\(.*\)".*/\1/p' "$folder/$run/result.json")," \
    "$("$command" --version), revision $(git rev-parse --short HEAD)," \
    "$(date --utc +%F), $(((SECONDS - began) / 60)) minutes"
exit "$wrong"
