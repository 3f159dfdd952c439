#!/usr/bin/env bash
# Trains on this machine, on every device it has, and scores the test split.
# Usage: bash launch/local.sh CONFIG DATASET RUN [--config.FIELD=VALUE ...]
#   bash launch/local.sh configs/vit.py:multiclass,cpu datasets/ustc runs/vit
set -euo pipefail
if [ $# -lt 3 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
config=$1 dataset=$2 run=$3
shift 3
# An installed command is taken as it is; in a checkout the one of .venv.
command=$(command -v xai-traffic || echo "$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/xai-traffic")
"$command" train --config "$config" --config.data.path="$dataset" --workdir "$run" "$@"
"$command" evaluate "$run"
