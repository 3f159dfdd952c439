"""Maps of a coarse grid (tokens, late convolutions) laid over the image they were computed from."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from xai_traffic.capture.records import TILE

TILE_SIDE = math.isqrt(TILE)

RESIZES = ("auto", "nearest", "bilinear")


def grid_of(count: int, extent: tuple[int, int]) -> tuple[int, int]:
    """Return (rows, columns) of `count` square cells that cover `extent` pixels.

    Raises:
        ValueError: no such grid exists.
    """
    height, width = extent
    rows = round(math.sqrt(count * height / width))
    if rows < 1 or count % rows or rows * width != (count // rows) * height:
        raise ValueError(f"{count} tokens are no grid of squares over {height} x {width} pixels")
    return rows, count // rows


def lay_over(
    maps: jax.Array, shape: tuple[int, int], extent: tuple[int, int], resize: str = "auto"
) -> jax.Array:
    """Enlarge maps [..., h, w] to `extent` and put them into zeros of `shape`: [..., H, W].

    The extent begins at the image's first pixel. "nearest" keeps cells apart, "bilinear" (half
    pixel centres) blends them; "auto" is nearest where a cell is exactly one packet's tile, so
    that no packet takes what belongs to its neighbour, and bilinear elsewhere.

    Raises:
        ValueError: the extent is larger than the image, or resize is not one of RESIZES.
    """
    if resize not in RESIZES:
        raise ValueError(f"resize {resize!r} is unknown: choose one of {', '.join(RESIZES)}")
    height, width = extent
    if height > shape[0] or width > shape[1]:
        raise ValueError(f"extent {extent} is larger than the image {shape}")
    if resize == "auto":
        cell = (TILE_SIDE * maps.shape[-2], TILE_SIDE * maps.shape[-1])
        resize = "nearest" if cell == tuple(extent) else "bilinear"
    large = jax.image.resize(maps, (*maps.shape[:-2], height, width), resize)
    margin = [(0, 0)] * (maps.ndim - 2) + [(0, shape[0] - height), (0, shape[1] - width)]
    return jnp.pad(large, margin)
