"""Run one metric by Quantus on a PyTorch model and print its time as a line of JSON.

    PEERS/quantus/bin/python benchmarks/explain_quantus_peer.py METRIC SIZE BATCH THREADS SEED FILE
    PEERS/quantus/bin/python benchmarks/explain_quantus_peer.py version

Started by explain_quantus.py with the Python of the peers, which lacks xai_traffic. What Quantus
finds goes to FILE, so that both sides are seen to compute the same.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Threads that spin while they wait lose several times over as soon as a core is shared.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import explain_quantus_model as shared
import numpy as np
import quantus
import torch
from step_timing import peak_of_process


class Network(torch.nn.Module):
    """The network of `explain_quantus_model`, channels first."""

    def __init__(self, size: str, seed: int):
        super().__init__()
        *kernels, head = shared.weights(size, seed)
        self.layers = torch.nn.ModuleList()
        for kernel, (_, _, stride) in zip(kernels, shared.SIZES[size], strict=True):
            side, _, before, behind = kernel.shape
            layer = torch.nn.Conv2d(before, behind, side, stride, bias=False)
            layer.weight.data = torch.tensor(kernel.transpose(3, 2, 0, 1).copy())
            self.layers.append(layer)
        self.head = torch.nn.Parameter(torch.tensor(head))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x.mean((2, 3)) @ self.head


def metric_of(name: str):
    """Return a metric without what it would do besides: no normalising, no warnings."""
    quiet = {"normalise": False, "abs": False, "disable_warnings": True}
    if name == "deletion":
        return quantus.PixelFlipping(features_in_step=shared.STEP, perturb_baseline=0.0, **quiet)
    if name == "correlation":
        return quantus.FaithfulnessCorrelation(
            nr_runs=shared.RUNS,
            subset_size=shared.SUBSET,
            perturb_baseline=0.0,
            return_aggregate=False,
            **quiet,
        )
    return quantus.ROAD(percentages=[100 * s for s in shared.SHARES], noise=0.01, **quiet)


def main() -> None:
    """Run what the command line asks for."""
    version = f"Quantus {quantus.__version__}, torch {torch.__version__}"
    if sys.argv[1] == "version":
        print(json.dumps({"version": version}))
        return
    warnings.simplefilter("ignore")  # that a step changed nothing is warned of at each step
    name, size, batch, threads, seed, path = sys.argv[1:]
    batch, seed = int(batch), int(seed)
    torch.set_num_threads(int(threads))
    network = Network(size, seed).eval()
    images, maps = shared.sessions(batch, seed)
    images, maps = images[:, None], maps[:, None]

    def once():
        if name == "forward":
            with torch.no_grad():
                return network(torch.tensor(images)).numpy()
        return metric_of(name)(
            model=network,
            x_batch=images.copy(),
            y_batch=np.full(batch, shared.TARGET),
            a_batch=maps.copy(),
            softmax=False,
            channel_first=True,
        )

    began = time.perf_counter()
    once()
    first = time.perf_counter() - began
    began, busy = time.perf_counter(), time.process_time()
    found = once()
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    np.save(path, np.array(list(found.values()) if isinstance(found, dict) else found))
    made = {"first": first, "seconds": seconds, "busy": busy, "peak": peak_of_process()}
    amount = {"images": shared.evaluations(name, batch), "version": version}
    print(json.dumps(made | amount), flush=True)


if __name__ == "__main__":
    main()
