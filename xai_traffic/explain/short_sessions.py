"""Explain sessions of few packets at the cost of the packets that they have.

A model that never looks at empty tiles gives the same logits when it is not shown them. Sessions of
about as many packets are explained together, by the function that reads no more of them. Where a
method fills empty tiles, as noise does, this must not be done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from xai_traffic.capture.images import filled_tiles
from xai_traffic.explain.model_function import ModelFunction

Shorter = Callable[[int], "ModelFunction | None"]
"""From a number of packets to f of sessions that have no more; None where f itself is that."""

LENGTHS = (2, 8, 16, 32)
"""Packets that functions are made for: each is compiled."""

LEAST = 4
"""Sessions that are worth a function of their own; fewer join those of the next length."""


def by_length(counts: np.ndarray) -> list[tuple[int | None, np.ndarray]]:
    """Return lengths of LENGTHS, None above all, each with the rows that it suits.

    Args:
        counts: int [B], packets.
    """
    place = np.searchsorted(LENGTHS, counts)
    found, waiting = [], np.zeros(0, np.int64)
    for number, length in enumerate((*LENGTHS, None)):
        waiting = np.union1d(waiting, np.flatnonzero(place == number))
        if len(waiting) >= LEAST or (len(waiting) and not (place > number).any()):
            found.append((length, waiting))
            waiting = waiting[:0]
    return found


def explain_by_length(
    explain: Callable,
    f: ModelFunction,
    shorter: Shorter,
    x: jax.Array,
    target,
    groups: Mapping[str, np.ndarray] | None,
):
    """Explain sessions of about the same length together; return what `explain` does, in order.

    Args:
        explain: `explain(f, x, target, groups) -> tree of arrays [b, ...]`, b the rows of x.
        f: explains sessions of any length.
        shorter: makes f of short ones.
        x: images [B, 128, 128, C], bytes.
        target: class, int or int32 [B], or None.
        groups: players by unit, int [B, 128, 128, 1] each, or None.
    """
    parts, order = [], []
    for length, rows in by_length(filled_tiles(np.asarray(x))):
        own = (None if length is None else shorter(length)) or f
        # Filled up to a power of two: batches of other lengths find their programs compiled.
        filled = np.pad(rows, (0, (1 << (len(rows) - 1).bit_length()) - len(rows)), mode="edge")
        at = filled if len(filled) <= len(x) else rows
        found = explain(
            own,
            x[at],
            target if target is None or np.ndim(target) == 0 else np.asarray(target)[at],
            None if groups is None else {unit: values[at] for unit, values in groups.items()},
        )
        parts.append(jax.tree.map(lambda leaf, count=len(rows): leaf[:count], found))
        order.append(rows)
    back = np.argsort(np.concatenate(order))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[back], *parts)
