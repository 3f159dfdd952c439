"""Run one metric by xai_traffic.explain and print its time as a line of JSON.

    python benchmarks/explain_quantus_ours.py METRIC SIZE BATCH SEED FILE

Started by explain_quantus.py; the counterpart of explain_quantus_peer.py. The first call compiles,
the second is timed.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import metadata

import explain_quantus_model as shared
import jax
import jax.numpy as jnp
import numpy as np
from step_timing import peak_of_process

from xai_traffic import explain


def make_network(size: str):
    """Return the model function of `explain_quantus_model`, channels last."""
    strides = [stride for _, _, stride in shared.SIZES[size]]

    def network(params, x):
        *kernels, head = params
        for kernel, stride in zip(kernels, strides, strict=True):
            dimensions = ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(
                x, kernel, (stride, stride), "VALID", dimension_numbers=dimensions
            )
            x = jax.nn.relu(x)
        return x.mean((1, 2)) @ head

    return network


def main() -> None:
    """Run what the command line asks for."""
    name, size, batch, seed, path = sys.argv[1:]
    batch, seed = int(batch), int(seed)
    f, params = make_network(size), [jnp.asarray(w) for w in shared.weights(size, seed)]
    images, maps = shared.sessions(batch, seed)
    x, scores = images[..., None], maps.reshape(batch, -1)
    pixels = np.arange(scores.shape[1]).reshape(*images.shape[1:], 1)
    compiled = jax.jit(f)

    def once() -> tuple[np.ndarray, int]:
        if name == "forward":
            return np.asarray(compiled(params, x)), batch
        if name == "deletion":
            steps = scores.shape[1] // shared.STEP
            found = explain.pixel_flipping(f, params, x, pixels, scores, shared.TARGET, steps=steps)
            return np.stack(found)[:, 1:], batch * (steps + 1)
        if name == "correlation":
            found = explain.sensitivity_n(
                *(f, params, x, pixels, scores, [shared.SUBSET], shared.TARGET),
                samples=shared.RUNS,
            )
            return found[:, 0], batch * (shared.RUNS + 1)
        road = explain.road(f, params, x, maps, shared.TARGET, shares=shared.SHARES)
        return road.accuracy()[0], batch * (2 * len(shared.SHARES) + 1)

    began = time.perf_counter()
    once()
    first = time.perf_counter() - began
    began, busy = time.perf_counter(), time.process_time()
    found, images_judged = once()
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    np.save(path, found)
    made = {"first": first, "seconds": seconds, "busy": busy, "peak": peak_of_process()}
    version = f"jax {metadata.version('jax')}"
    print(json.dumps(made | {"images": images_judged, "version": version}), flush=True)


if __name__ == "__main__":
    main()
