"""Faithfulness: does the order of an explanation move the logit more than any order by chance.

The players of an input (bytes, fields, packets) are kept from the highest attribution down, and
from the lowest up, at a few shares of them: the explanation's gain is how much higher the logit
stands with the first than with the second, on average (Petsiuk et al., RISE, 2018: insertion less
deletion). The same is done in random orders. An order and its reverse have opposite gains, so
chance is even on both sides of zero, and an explanation whose bytes were given their values
anyhow reaches a chance of p, byte by byte, in no more than a part p of all cases, whatever the
values, the model and the input are: that is an exact test (Fisher, The Design of Experiments,
1935), and needs no belief in how models answer to inputs that they have never seen.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from xai_traffic.explain.model_function import ModelFunction, as_float
from xai_traffic.explain.players import as_groups, masked_targets, present_players
from xai_traffic.explain.removal import Removal
from xai_traffic.explain.shapley import on_all_players

ORDERS = 39
"""Random orders of each example: the least chance is 1 / (2 * (ORDERS + 1)), one in eighty."""

SHARES = (0.2, 0.4, 0.6, 0.8)
"""Parts of the players that are kept."""


def faithfulness(
    f: ModelFunction,
    params,
    x,
    groups,
    explanations: Sequence,
    target=None,
    *,
    orders: int = ORDERS,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    baseline=0.0,
    removal: Removal | Sequence[Removal] | None = None,
    memory_budget: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gain of explanations over their reverse, and the chance of random orders.

    Args:
        f, params, x, groups, target, baseline, removal, memory_budget: as for `occlusion`.
        explanations: M arrays float [B, ...] of x's shape (a last axis of one may miss), signed or
            not; a player is worth the sum over its values. Players of equal worth are ordered at
            random. The random orders serve all explanations.
        orders: random ones, at least 1.
        shares: parts of the players, above 0 and below 1.
        seed: of the orders, which depend on it and on the example alone, not on its neighbours.

    Returns:
        gain float64 [M, B] in logits, and chance float64 [M, B] of that gain or a higher one: at
        least 1 / (2 (orders + 1)), and 1 where the gain is not above 0.

    Raises:
        ValueError: a shape does not fit, orders or shares are out of range, or see `as_groups` and
            `resolve_target`.
    """
    x = as_float(x)
    groups, players = as_groups(groups, x)
    values = [np.asarray(one, np.float64) for one in explanations]
    if not values or any(one.size != x.size or len(one) != len(x) for one in values):
        raise ValueError(
            f"explanations {[one.shape for one in values]} must have the shape of the input, "
            f"{x.shape}"
        )
    if orders < 1 or not shares or not all(0 < share < 1 for share in shares):
        raise ValueError(f"{orders} orders at {shares}: need 1 or more, and shares between 0 and 1")
    present, _ = present_players(groups, x)
    masks = []
    for row, (own, example) in enumerate(zip(present, np.asarray(x), strict=True)):
        places = np.where(groups[row] < 0, players, groups[row]).reshape(-1)
        worth = [np.bincount(places, one[row].reshape(-1), players + 1)[own] for one in values]
        rng = np.random.Generator(np.random.Philox((seed, zlib.crc32(example))))
        kept = _kept(np.stack(worth), orders, shares, rng)
        masks.append(on_all_players(own, players, kept))
    logits = masked_targets(
        f,
        params,
        x,
        groups,
        masks,
        target,
        baseline=baseline,
        removal=removal,
        memory_budget=memory_budget,
    )
    ways = np.stack(logits, 1).reshape(len(values) + orders, 2, len(shares), len(x))
    gains = (ways[:, 0] - ways[:, 1]).mean(1)
    gain, by_chance = gains[: len(values)], np.abs(gains[len(values) :])
    reached = (by_chance[None] >= gain[:, None]).sum(1)
    return gain, np.where(gain > 0, (1 + reached) / (2 * (orders + 1)), 1.0)


def _kept(worth: np.ndarray, orders: int, shares: Sequence[float], rng) -> np.ndarray:
    """Return which players of an example are kept, bool [(M + orders) * 2 * shares, n].

    Of each order by worth [M, n], then of each random one: its first parts, and what is left
    without them.
    """
    n = worth.shape[1]
    scores = np.concatenate([worth, np.zeros((orders, n))])
    # Where they are equal the random number decides; where all are, it is a random order.
    ranks = np.lexsort((rng.random(scores.shape), -scores), axis=1).argsort(1)[:, None]
    first = ranks < np.rint(np.asarray(shares) * n)[:, None]
    return np.stack([first, ~first], 1).reshape(-1, n)
