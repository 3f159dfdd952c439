#!/usr/bin/env bash
# Trains on every worker of a Cloud TPU slice; JAX finds the workers from the TPU's own metadata.
# Usage: TPU=name ZONE=zone bash launch/tpu_pod.sh CONFIG DATASET RUN [--config.FIELD=VALUE ...]
# DATASET and RUN are on a file system that all workers mount. The repository's revision is taken
# from the machine that starts the job; REPOSITORY is its address.
set -euo pipefail
: "${TPU:?set TPU to the name of the slice}" "${ZONE:?set ZONE to its zone}"
: "${REPOSITORY:?set REPOSITORY to the address that workers clone from}"
if [ $# -lt 3 ]; then
    sed -n '3,5s/^# //p' "$0" >&2
    exit 2
fi
config=$1 dataset=$2 run=$3
shift 3
revision=$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse HEAD)
# Each word is quoted for the remote shell, so that overrides arrive as they were given.
train=$(printf '%q ' env XAI_TRAFFIC_COORDINATOR=auto .venv/bin/xai-traffic train --config "$config" \
    --config.data.path="$dataset" --workdir "$run" "$@")
gcloud compute tpus tpu-vm ssh "$TPU" --zone "$ZONE" --worker=all --command "
    set -e
    test -d xai_traffic || git clone $(printf '%q' "$REPOSITORY") xai_traffic
    cd xai_traffic
    git fetch --all --quiet
    git checkout --quiet $revision
    test -x .venv/bin/python || python3 -m venv .venv
    .venv/bin/python -m pip install --quiet --editable '.[tpu]'
    $train"
