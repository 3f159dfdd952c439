"""One of several processes of a training: `train_worker.py DATASET RUN`; see test_parallel.py."""

import sys

import jax
from small_dataset import tiny_config

from xai_traffic.data.store import open_dataset
from xai_traffic.training.loop import train

if __name__ == "__main__":
    dataset, run = sys.argv[1:]
    result = train(tiny_config(open_dataset(dataset), **{"mesh.data": 0}), run)
    sys.stdout.write(f"{jax.process_index()} of {jax.process_count()}: {result['params_sha256']}\n")
