"""f on inputs that lost the first players of an order, for orders of thousands of players."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from xai_traffic.explain.devices import split, ways
from xai_traffic.explain.model_function import (
    ModelFunction,
    as_float,
    compiled,
    logits_of,
)
from xai_traffic.explain.players import as_groups, masked_at_once
from xai_traffic.explain.removal import Removal, as_removals, logits_without

RANK_BYTES = 1 << 28
"""Most bytes of ranks that lie on the device at a time."""


def removed_logits(
    f: ModelFunction,
    params,
    x,
    groups,
    orders: Sequence[np.ndarray],
    counts: Sequence[np.ndarray],
    *,
    baseline=0.0,
    removal: Removal | Sequence[Removal] | None = None,
    memory_budget: int | None = None,
) -> list[np.ndarray]:
    """Return the logits of f with the first players of orders removed.

    What `masked_logits` does of masks, done of ranks: a value is there while its player's rank is
    no less than the count, so that no mask [M, P] is made or moved. All (example, order, count)
    run in calls of one size, whatever example they belong to.

    Args:
        f, params, x, groups, baseline, removal, memory_budget: as for `masked_logits`.
        orders: for each example int [O, n], players, the first to go first; others stay.
        counts: for each example int [O, C], how many are gone.

    Returns:
        For each example float32 [O, C, K].

    Raises:
        ValueError: see `as_groups`; orders and counts are not one for each example.
    """
    x = as_float(x)
    groups, players = as_groups(groups, x)
    shapes = [np.shape(own) for own in counts]
    if not len(x) == len(orders) == len(counts) or any(
        len(own) != shape[0] for own, shape in zip(orders, shapes, strict=True)
    ):
        raise ValueError(f"{len(x)} examples need as many arrays of orders and of counts")
    rows = np.repeat(np.arange(len(x), dtype=np.int32), [shape[0] for shape in shapes])
    size = masked_at_once(f, params, x, memory_budget)
    total = sum(shape[0] * shape[1] for shape in shapes)
    size = max(ways(x), min(size, 1 << max(total - 1, 0).bit_length()))
    size += -size % ways(x)
    flat = [order for own in orders for order in np.asarray(own, np.int64)]
    asked = [np.asarray(count, np.int32) for own in counts for count in own]
    ends = np.cumsum([shape[0] * shape[1] for shape in shapes])[:-1]
    if removals := as_removals(removal, baseline):
        which = np.repeat(np.arange(len(flat)), [len(own) for own in asked])
        gone = np.concatenate(asked)

        def keep_of(part: slice) -> np.ndarray:
            ranks = [
                _ranks(flat[pair], players)[groups[rows[pair]]] >= count
                for pair, count in zip(which[part], gone[part], strict=True)
            ]
            return np.stack(ranks)

        logits = logits_without(f, params, x, rows[which], keep_of, removals, size)
        return _by_order(logits, ends, shapes)
    start = jnp.broadcast_to(jnp.asarray(baseline, jnp.float32), x.shape)
    call, parts = compiled(_removed, f), []
    most = min(len(flat), max(1, RANK_BYTES // (4 * x[0].size)))
    for first in range(0, len(flat), most):
        pairs = range(first, min(first + most, len(flat)))
        ranks = np.zeros((most, *x.shape[1:]), np.int32)
        for place, pair in enumerate(pairs):
            ranks[place] = _ranks(flat[pair], players)[groups[rows[pair]]]
        ranks = jnp.asarray(ranks)
        # What a last short call lacks is filled up with (0, 0) and cut off again.
        gone = np.concatenate([asked[pair] for pair in pairs])
        which = np.repeat(np.arange(len(pairs), dtype=np.int32), [len(asked[p]) for p in pairs])
        own = rows[first + which]
        fill = (0, -len(gone) % size)
        gone, which, own = (np.pad(column, fill) for column in (gone, which, own))
        found = [
            call(
                params, x, start, ranks, *(split(x, c[at : at + size]) for c in (own, which, gone))
            )
            for at in range(0, len(gone), size)
        ]
        parts.append(np.concatenate(found)[: len(gone) - fill[1]])
    return _by_order(np.concatenate(parts), ends, shapes)


def _by_order(logits: np.ndarray, ends: np.ndarray, shapes) -> list[np.ndarray]:
    return [
        own.reshape(*shape, -1) for own, shape in zip(np.split(logits, ends), shapes, strict=True)
    ]


def even_counts(players: int, steps: int | None) -> np.ndarray:
    """Return how many players are gone at each step, from none to all: int [at most steps + 1]."""
    steps = players if steps is None else min(steps, players)
    return np.rint(np.linspace(0, players, steps + 1)).astype(np.int64)


def _ranks(order: np.ndarray, players: int) -> np.ndarray:
    # The last place is for what belongs to no player: -1 looks there.
    ranks = np.full(players + 1, np.iinfo(np.int32).max, np.int32)
    ranks[order] = np.arange(len(order))
    return ranks


def _removed(f, params, x, start, ranks, rows, which, gone) -> jax.Array:
    there = ranks[which] >= gone.reshape(-1, *(1,) * (x.ndim - 1))
    return logits_of(f, params, jnp.where(there, x[rows], start[rows]))
