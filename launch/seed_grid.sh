#!/usr/bin/env bash
# Trains the study's twelve runs on this machine, scores the test split of each, prints one table.
# Usage: bash launch/seed_grid.sh DATASETS RUNS [--config.FIELD=VALUE ...]
# JOBS (1) run at a time, each on its GPU where there are some; RECIPE, SIZE and what DATASETS holds:
# see launch/seed_run.sh. What is finished stays; run again, it goes on where it was interrupted.
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,5s/^# //p' "$0" >&2
    exit 2
fi
export DATASETS=$1 RUNS=$2
shift 2
here=$(dirname "${BASH_SOURCE[0]}")
command=$(command -v xai-traffic || echo "$here/../.venv/bin/xai-traffic")
mapfile -t names < <(bash "$here/seed_run.sh" list)
jobs=${JOBS:-1}
gpus=$(nvidia-smi --list-gpus 2>/dev/null | wc -l) || gpus=0

# Each worker takes every JOBS-th run, so that all have some of each model.
worker() {
    local index child="" failed=0
    # Bash waits for a command in the foreground before it looks at a signal, so none is there.
    trap '[ -z "$child" ] || { kill -TERM "$child"; wait "$child"; }; exit 143' TERM
    if [ "$jobs" -gt 1 ] && [ "$gpus" -gt 0 ]; then
        export CUDA_VISIBLE_DEVICES=$(($1 % gpus))
    fi
    for ((index = $1; index < ${#names[@]}; index += jobs)); do
        local run=$RUNS/${names[index]}
        if [ ! -e "$run/result.json" ]; then
            bash "$here/seed_run.sh" "$index" "${@:2}" &
            child=$!
            wait "$child" || { failed=1 && continue; }
        fi
        if [ ! -e "$run/evaluation-test.json" ]; then
            "$command" evaluate "$run" >/dev/null &
            child=$!
            wait "$child" || failed=1
        fi
        child=""
    done
    return "$failed"
}

workers=()
trap 'kill -TERM "${workers[@]}" 2>/dev/null; wait; exit 143' INT TERM
for ((first = 0; first < jobs; first++)); do
    worker "$first" "$@" &
    workers+=($!)
done
failed=0
for pid in "${workers[@]}"; do
    wait "$pid" || failed=1
done
if [ "$failed" = 1 ]; then
    echo "some of the runs failed: see above" >&2
    exit 1
fi
"$command" compare "${names[@]/#/$RUNS/}"
