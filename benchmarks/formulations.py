"""Time the formulations that `xai_traffic/ops` chooses from, at the shapes of the models.

    python benchmarks/formulations.py DTYPE BATCH SECONDS

Started by benchmarks/training.py. Each is timed with its gradients to input and kernel, as training
needs them; the choice of a platform is in `ops/`, and stands or falls with these figures.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
from step_timing import peak_of_process, time_steps

from xai_traffic.ops.convolution import direct_conv, winograd_conv
from xai_traffic.ops.depthwise import grouped_depthwise, shifted_depthwise
from xai_traffic.ops.pooling import reduced_max_pool, sliced_max_pool

Ways = dict[str, Callable]

SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...] | None, Ways]] = {
    "depthwise 3 x 3, 61 x 61 x 128": (
        *((61, 61, 128), (3, 3, 1, 128)),
        {
            "grouped": lambda x, kernel: grouped_depthwise(x, kernel, 1, "SAME"),
            "shifted": lambda x, kernel: shifted_depthwise(x, kernel, 1, "SAME"),
        },
    ),
    "depthwise 3 x 3, 8 x 8 x 728": (
        *((8, 8, 728), (3, 3, 1, 728)),
        {
            "grouped": lambda x, kernel: grouped_depthwise(x, kernel, 1, "SAME"),
            "shifted": lambda x, kernel: shifted_depthwise(x, kernel, 1, "SAME"),
        },
    ),
    "convolution 3 x 3, 32 x 32 x 256": (
        *((32, 32, 256), (3, 3, 256, 256)),
        {
            "direct": lambda x, kernel: direct_conv(x, kernel, 1, "SAME"),
            "Winograd": lambda x, kernel: winograd_conv(x, kernel, "SAME"),
        },
    ),
    "max pool 3 x 3 by 2, 61 x 61 x 128": (
        *((61, 61, 128), None),
        {
            "windows": lambda x, _: reduced_max_pool(x, 3, 2, "SAME"),
            "slices": lambda x, _: sliced_max_pool(x, 3, 2, "SAME"),
        },
    ),
}
"""Shape of an image, of the kernel, and the ways; as they stand in Xception and VGG-19."""


def milliseconds(
    way: Callable, image: tuple, kernel: tuple | None, dtype: str, batch: int, seconds: float
) -> float:
    """Return what one call takes, forward and backward."""
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (batch, *image), dtype)
    weights = jax.random.normal(keys[1], kernel or (1,), jnp.float32)

    @jax.jit
    def call(x: jax.Array, weights: jax.Array) -> tuple[jax.Array, ...]:
        y, pull = jax.vjp(way, x, weights)
        return y, *pull(y)

    timed = time_steps(lambda: call(x, weights), jax.block_until_ready, seconds)
    return timed["seconds"] / timed["steps"] * 1e3


def main() -> None:
    """Time all of them."""
    dtype, batch, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    found = {
        what: {
            name: milliseconds(way, image, kernel, dtype, batch, seconds)
            for name, way in ways.items()
        }
        for what, (image, kernel, ways) in SHAPES.items()
    }
    total = sum(sum(ways.values()) for ways in found.values()) / 1e3
    print(json.dumps({"seconds": total, "formulations": found, "peak": peak_of_process()}))


if __name__ == "__main__":
    main()
