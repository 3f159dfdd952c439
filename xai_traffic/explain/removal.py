"""Removals: functions that make inputs without some of their values, in place of a baseline.

A removal is `removal(rows, keep) -> inputs`: of the examples `rows`, int [m], it returns what is
left with the values where `keep`, bool [m, ...] of x's shape, is True. With all kept that is x
itself. It runs on the host. `replacement.py` has those that leave valid packets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from xai_traffic.explain.devices import split, ways
from xai_traffic.explain.model_function import ModelFunction, compiled, logits_of

Removal = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From (rows, keep) to inputs, see above."""

AT_ONCE = 1024
"""Most inputs that a removal makes in one call: 16 MiB of images, and some times that at work."""


def as_removals(removal: Removal | Sequence[Removal] | None, baseline) -> list[Removal]:
    """Return removals as a list, empty where the baseline does it.

    Raises:
        ValueError: both are named, or the list is empty.
    """
    if removal is None:
        return []
    if np.any(np.asarray(baseline) != 0):
        raise ValueError("a removal takes the place of the baseline: name one of them")
    found = [removal] if callable(removal) else list(removal)
    if not found:
        raise ValueError("there are no removals in the list")
    return found


def logits_without(
    f: ModelFunction,
    params,
    x: jax.Array,
    rows: np.ndarray,
    keep_of: Callable[[slice], np.ndarray],
    removals: list[Removal],
    at_once: int,
) -> np.ndarray:
    """Return the logits of f without some values, the mean over the removals: float32 [M, K].

    Args:
        rows: int [M], examples.
        keep_of: returns of a slice of the M what stays, bool [m, ...] of x's shape.
        at_once: examples in a call.

    Raises:
        ValueError: a removal that keeps all does not return x.
    """
    size = min(at_once, AT_ONCE)
    size += -size % ways(x)
    _hold_to(x, removals, size)
    call = compiled(_as_they_are, f)
    parts = []
    for first in range(0, len(rows), size):
        part = slice(first, min(first + size, len(rows)))
        own, keep = rows[part], keep_of(part)
        missing = [(0, size - len(own)), *[(0, 0)] * (x.ndim - 1)]
        made = (np.pad(np.asarray(remove(own, keep)), missing) for remove in removals)
        logits = [np.asarray(call(params, split(x, inputs)))[: len(own)] for inputs in made]
        parts.append(np.mean(logits, axis=0))
    return np.concatenate(parts)


def _as_they_are(f, params, x) -> jax.Array:
    return logits_of(f, params, x.astype(jnp.float32))


def _hold_to(x: jax.Array, removals: list[Removal], size: int) -> None:
    for first in range(0, len(x), size):
        part = np.asarray(x[first : first + size])
        rows = np.arange(first, first + len(part))
        for remove in removals:
            made = np.asarray(remove(rows, np.ones(part.shape, bool)))
            if made.shape != part.shape or not np.array_equal(made, part):
                raise ValueError(
                    "with all kept the removal returns something else than x: it must be made of "
                    "the same sessions in the same order, under the same mask"
                )
