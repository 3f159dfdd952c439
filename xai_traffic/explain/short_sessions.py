"""Explain sessions of few packets at the cost of the packets that they have.

A model that never looks at empty tiles gives the same logits of an image without them, and no model
misses what it does not read. Sessions of about as many packets are cut to the same extent and
explained together. Where a method fills empty tiles, as noise does, this must not be done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from xai_traffic.capture.images import filled_tiles
from xai_traffic.explain.model_function import as_float
from xai_traffic.explain.token_grid import TILE_SIDE

Extents = Sequence[tuple[int, int]]
"""Heights and widths that images may be cut to, the smallest first; the last suits all."""

LEAST = 4
"""Sessions that are worth programs of their own; fewer join those of the next extent."""


def by_extent(counts: np.ndarray, extents: Extents) -> list[tuple[tuple[int, int], np.ndarray]]:
    """Return extents, each with the rows of the sessions that fit into it.

    Args:
        counts: int [B], packets.
    """
    sizes = [height * width // TILE_SIDE**2 for height, width in extents]
    place = np.minimum(np.searchsorted(sizes, counts), len(sizes) - 1)
    found, waiting = [], np.zeros(0, np.int64)
    for number, extent in enumerate(extents):
        waiting = np.union1d(waiting, np.flatnonzero(place == number))
        if len(waiting) >= LEAST or (len(waiting) and not (place > number).any()):
            found.append((extent, waiting))
            waiting = waiting[:0]
    return found


def explain_cut(
    explain: Callable,
    x,
    target,
    groups: Mapping[str, np.ndarray] | None,
    extents: Extents,
) -> tuple[jax.Array, jax.Array | None]:
    """Explain sessions of about the same length together, cut to their packets.

    Args:
        explain: `explain(x, target, groups) -> (attributions [b, h, w], errors [b] or None)`.
        x: images [B, 128, 128, C], bytes.
        target: class, int or int32 [B], or None.
        groups: players by unit, int [B, 128, 128, 1] each, or None.
        extents: that x may be cut to.

    Returns:
        What `explain` does, in x's order and of x's height and width: zero where it was cut.
    """
    x = as_float(x)
    held = [np.asarray(x), *(values >= 0 for values in (groups or {}).values())]
    counts = np.max([filled_tiles(values) for values in held], axis=0)
    maps, errors, order = [], [], []
    for (height, width), rows in by_extent(counts, extents):
        # Filled up to a power of two: batches of other lengths find their programs compiled.
        size = min(1 << (len(rows) - 1).bit_length(), len(x))
        at = np.pad(rows, (0, size - len(rows)), mode="edge")

        def cut(values, at=at, height=height, width=width):
            return values[at][:, :height, :width]

        found, error = explain(
            cut(x),
            target if target is None or np.ndim(target) == 0 else np.asarray(target)[at],
            None if groups is None else {unit: cut(values) for unit, values in groups.items()},
        )
        margins = ((0, 0), (0, x.shape[1] - height), (0, x.shape[2] - width))
        maps.append(jnp.pad(found[: len(rows)], margins))
        errors.append(error if error is None else error[: len(rows)])
        order.append(rows)
    back = np.argsort(np.concatenate(order))
    together = jnp.concatenate(maps)[back]
    return together, None if errors[0] is None else jnp.concatenate(errors)[back]
