"""Run one case of a model in another framework and print it as a line of JSON.

    PEERS/bin/python benchmarks/model_peers.py PEER training|inference MODEL DTYPE BATCH SECONDS
    PEERS/bin/python benchmarks/model_peers.py PEER version

Started by the benchmarks of training and inference with the Python of the peers, which lacks
xai_traffic. Every peer has the same architecture, number of parameters, plain SGD, cross-entropy
and batch, in memory of its device before; it runs as its own users would run it, compiled.
"""

from __future__ import annotations

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Threads that spin while they wait lose several times over as soon as a core is shared.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from model_cases import CLASSES, MODELS
from step_timing import lacks_memory, peak_of_process, time_steps

PEERS = ("keras-jax", "torch", "keras-tensorflow")


def main() -> None:
    """Run what the command line asks for."""
    peer, what, *rest = sys.argv[1:]
    if peer == "torch":
        import model_peers_torch as framework
    else:
        os.environ["KERAS_BACKEND"] = peer.removeprefix("keras-")
        import model_peers_keras as framework
    if what == "version":
        print(json.dumps({"version": framework.version()}))
        return
    name, dtype, batch = rest[0], rest[1], int(rest[2])
    print(json.dumps(run(framework, what, name, dtype, batch, float(rest[3]))), flush=True)
    sys.stdout.flush()
    os._exit(0)  # some of them end threads with an error when Python ends


def run(framework, what: str, name: str, dtype: str, batch: int, seconds: float) -> dict:
    """Time one case; what the framework lacks or has no memory for is said in the answer."""
    try:
        model, parameters, note = framework.build(MODELS[name], CLASSES, dtype, what)
        case = {"training": framework.training, "inference": framework.inference}[what]
        step, wait = case(model, batch, CLASSES, dtype)
        timed = time_steps(step, wait, seconds)
    except ImportError as error:
        return {"absent": f"not installed: {error}"}
    except Exception as error:
        if lacks_memory(error):
            return {"absent": f"out of memory at batch {batch}"}
        raise
    images = timed["steps"] * batch
    peak = framework.peak() or peak_of_process()
    made = {"images": images, "parameters": parameters, "peak": peak, "built": note}
    return {**timed, **made, "version": framework.version()}


if __name__ == "__main__":
    main()
