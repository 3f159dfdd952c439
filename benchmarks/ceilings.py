"""Measure what no model can beat on a device: its matrix products and its memory.

    python benchmarks/ceilings.py product DTYPE SECONDS     operations a second
    python benchmarks/ceilings.py memory SECONDS            bytes a second, read and written

Products are of square matrices, of the size that is fastest. In float32 they run as JAX runs a
model's: on NVIDIA's GPUs in TF32.
"""

from __future__ import annotations

import json
import sys

import jax
import jax.numpy as jnp
from step_timing import peak_of_process, time_steps

SIDES = {"cpu": (1024, 2048), "other": (4096, 8192, 16384)}
BYTES = {"cpu": 256 << 20, "other": 2 << 30}


def product(dtype: str, seconds: float) -> dict:
    """Multiply square matrices; return the fastest size's operations and time."""
    best = {"flops": 0, "seconds": 1.0}
    sides = _of_platform(SIDES)
    for side in sides if seconds else sides[:1]:
        left, right = (
            jax.random.normal(jax.random.key(seed), (side, side), dtype) for seed in (0, 1)
        )
        multiply = jax.jit(jnp.matmul)
        timed = time_steps(lambda: multiply(left, right), jax.block_until_ready, seconds)  # noqa: B023
        flops = 2 * side**3 * timed["steps"]
        if flops / timed["seconds"] > best["flops"] / best["seconds"]:
            best = {"flops": flops, "side": side, **timed}
    return best


def memory(seconds: float) -> dict:
    """Add one to each number of a large array: every byte is read once and written once."""
    size = _of_platform(BYTES)
    numbers = jnp.zeros(size // 4, jnp.float32)
    add = jax.jit(lambda numbers: numbers + 1)
    timed = time_steps(lambda: add(numbers), jax.block_until_ready, seconds)
    return {"bytes": 2 * size * timed["steps"], **timed}


def _of_platform(table: dict):
    return table["cpu" if jax.default_backend() == "cpu" else "other"]


def main() -> None:
    """Measure what the command line asks for."""
    what, *arguments = sys.argv[1:]
    measured = {"product": product, "memory": memory}[what]
    made = measured(*arguments[:-1], float(arguments[-1]))
    print(json.dumps({**made, "peak": peak_of_process()}))


if __name__ == "__main__":
    main()
