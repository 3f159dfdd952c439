"""Max pooling in the formulation that the platform runs fast."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


def max_pool(x: jax.Array, window: int = 2, stride: int = 2, padding: str = "VALID") -> jax.Array:
    """Take the largest value of each window, channel by channel.

    On CPU a maximum of strided slices, whose gradient is several times faster there than that
    of `reduce_window`. Values are equal; where several pixels of a window tie, the slices
    split the gradient between them, and `reduce_window` gives all of it to the first.

    Args:
        x: float [B, H, W, C].
        window: side of the square window in pixels.
        stride: the same down and across.
        padding: "SAME" (padded by minus infinity) or "VALID".

    Returns:
        [B, H', W', C] of x's dtype.
    """
    if jax.default_backend() == "cpu":
        return sliced_max_pool(x, window, stride, padding)
    return reduced_max_pool(x, window, stride, padding)


def reduced_max_pool(x: jax.Array, window: int, stride: int, padding: str) -> jax.Array:
    """Pool by `lax.reduce_window`; arguments of `max_pool`."""
    return lax.reduce_window(
        x,
        -jnp.inf,
        lax.max,
        (1, window, window, 1),
        (1, stride, stride, 1),
        padding,
    )


def sliced_max_pool(x: jax.Array, window: int, stride: int, padding: str) -> jax.Array:
    """Pool by a maximum of strided slices; arguments of `max_pool`."""
    x = _pad(x, window, stride, padding)
    # Rows first, then columns: 2 * window slices in place of window squared.
    for axis in (1, 2):
        slices = _slices(x, axis, window, stride)
        x = slices[0]
        for other in slices[1:]:
            x = jnp.maximum(x, other)
    return x


def _pad(x: jax.Array, window: int, stride: int, padding: str) -> jax.Array:
    pads = lax.padtype_to_pads(x.shape[1:3], (window, window), (stride, stride), padding)
    rows, columns = (tuple(int(side) for side in pair) for pair in pads)
    if not (any(rows) or any(columns)):
        return x
    return jnp.pad(x, ((0, 0), rows, columns, (0, 0)), constant_values=-jnp.inf)


def _slices(x: jax.Array, axis: int, window: int, stride: int) -> list[jax.Array]:
    length = (x.shape[axis] - window) // stride * stride + 1
    return [
        lax.slice_in_dim(x, begin, begin + length, stride, axis=axis) for begin in range(window)
    ]
