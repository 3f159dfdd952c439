#!/usr/bin/env bash
# One of the study's twelve runs: {xception, vgg19, vit} x {binary, multiclass} x {none, header}.
# Usage: DATASETS=FOLDER RUNS=FOLDER bash launch/seed_run.sh INDEX [--config.FIELD=VALUE ...]
#        bash launch/seed_run.sh list      prints the names of the twelve, INDEX 0 to 11
# DATASETS holds one dataset a mask, none and header; the run goes to $RUNS/MODEL-TASK-MASK:
#   xai-traffic convert USTC --rule five_tuple --out $DATASETS/none
#   xai-traffic convert $DATASETS/none --mask header --out $DATASETS/header
# RECIPE (seed or best) and SIZE (full, cpu, ...) choose the recipe and the width.
# launch/slurm.sbatch gives each run a task of a job array, launch/seed_grid.sh runs all on this machine.
set -euo pipefail

models=(xception vgg19 vit) tasks=(binary multiclass) masks=(none header)
names=()
for model in "${models[@]}"; do
    for task in "${tasks[@]}"; do
        for mask in "${masks[@]}"; do
            names+=("$model-$task-$mask")
        done
    done
done
if [ "${1:-}" = list ]; then
    printf '%s\n' "${names[@]}"
    exit
fi
if [[ ! ${1:-} =~ ^[0-9]+$ ]] || [ "$1" -ge ${#names[@]} ]; then
    sed -n '2,9s/^# //p' "$0" >&2
    exit 2
fi
: "${DATASETS:?set DATASETS to the folder that holds the datasets none and header}"
: "${RUNS:?set RUNS to the folder for the runs}"
name=${names[$1]}
shift
IFS=- read -r model task mask <<<"$name"

# An installed command is taken as it is; in a checkout the one of .venv.
root=$(dirname "${BASH_SOURCE[0]}")/..
command=$(command -v xai-traffic || echo "$root/.venv/bin/xai-traffic")
# In the shell's place, so that signals reach the training and its status the caller.
exec "$command" train \
    --config "$root/configs/$model.py:$task,$mask,${RECIPE:-seed},${SIZE:-full}" \
    --config.data.path="$DATASETS/$mask" \
    --workdir "$RUNS/$name" "$@"
