"""Owen values: Shapley values of protocol fields that come and go packet by packet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xai_traffic.explain.model_function import ModelFunction, as_float
from xai_traffic.explain.players import PlayerValues, masked_targets, present_players
from xai_traffic.explain.removal import Removal
from xai_traffic.explain.shapley import (
    SAMPLES,
    all_masks,
    gather_players,
    on_all_players,
    order_weights,
)

LEAST_ORDERS = 8
"""Pairs of orders that are drawn at least, for an error to be told from them."""


def owen_values(
    f: ModelFunction,
    params,
    x,
    groups,
    coalitions,
    target=None,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    baseline=0.0,
    removal: Removal | Sequence[Removal] | None = None,
    memory_budget: int | None = None,
) -> PlayerValues:
    """Return Owen values: Shapley values of players that come and go packet by packet.

    Source: Owen, Values of Games with a Priori Unions, 1977. All orders count in which the players
    of a coalition follow one another, so a coalition's values add up to its own Shapley value in
    the game among coalitions. Where each is one player they are the Shapley values.

    Args:
        f, params, x, groups, target, baseline, removal, memory_budget: as for `occlusion`.
        coalitions: int [P] or [B, P], the coalition (packet) of each player.
        samples: about the most masks an example; where all that matter are no more it is exact,
            above it orders are drawn, each with its reverse, at least 8 of them.
        seed: of the draw.

    Raises:
        ValueError: coalitions do not fit the players; see also `as_groups`, `resolve_target`.
    """
    x = as_float(x)
    present, players = present_players(groups, x)
    unions = np.asarray(coalitions)
    if unions.shape not in ((players,), (len(x), players)):
        raise ValueError(f"{players} players need as many coalitions, not {unions.shape}")
    unions = np.broadcast_to(unions, (len(x), players))
    plans = []
    for row, own in enumerate(present):
        members = [np.flatnonzero(unions[row, own] == u) for u in np.unique(unions[row, own])]
        terms = sum(2.0 ** (len(members) - 1 + len(part)) for part in members)
        exact = terms <= max(samples, 2)
        plan = (
            _owen_terms(members, len(own)) if exact else _orders(members, len(own), samples, seed)
        )
        plans.append((exact, *plan))
    masks = [
        on_all_players(own, players, plan[1]) for own, plan in zip(present, plans, strict=True)
    ]
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
    rows = []
    for (exact, _, steps), values in zip(plans, logits, strict=True):
        found = (_summed if exact else _walked)(steps, values)
        rows.append((*found, values[-1] - values[-2], exact))
    return gather_players(present, players, rows)


def _owen_terms(members: list[np.ndarray], n: int) -> tuple[np.ndarray, tuple]:
    """Return each mask that matters once, and what to add up.

    Returns:
        masks bool [M + 2, n], at the end none and all; and (n, player, weight, row with the player,
        row without it).
    """
    tried, steps, first = [], [], 0
    outer = order_weights(len(members))
    for place, part in enumerate(members):
        others = [other for k, other in enumerate(members) if k != place]
        inner = order_weights(len(part))
        for chosen in all_masks(len(others)):
            around = np.zeros(n, bool)
            for other, taken in zip(others, chosen, strict=True):
                around[other] = taken
            masks = np.repeat(around[None], 1 << len(part), 0)
            masks[:, part] = all_masks(len(part))
            sizes = masks[:, part].sum(1)
            tried.append(masks)
            for bit, player in enumerate(part):
                without = np.flatnonzero(~masks[:, player])
                weight = outer[chosen.sum()] * inner[sizes[without]]
                upper, lower = first + (without | 1 << bit), first + without
                steps.append((np.full(len(without), player), weight, upper, lower))
            first += len(masks)
    ends = np.repeat([[False], [True]], n, 1)
    if not tried:
        nothing = np.zeros(0, int)
        return ends, (n, nothing, np.zeros(0), nothing, nothing)
    unique, where = np.unique(np.concatenate(tried), axis=0, return_inverse=True)
    player, weight, upper, lower = (np.concatenate(column) for column in zip(*steps, strict=True))
    where = where.reshape(-1)
    return np.concatenate([unique, ends]), (n, player, weight, where[upper], where[lower])


def _summed(steps, values) -> tuple[np.ndarray, np.ndarray]:
    players, player, weight, with_it, without = steps
    rises = weight * (values[with_it] - values[without])
    return np.bincount(player, rises, minlength=players), np.zeros(players)


def _orders(
    members: list[np.ndarray], n: int, samples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw orders that keep coalitions together, each followed by its reverse.

    Returns:
        masks bool [orders * (n - 1) + 2, n], all the way up each order, then none and all; and the
        orders int [orders, n].
    """
    rng = np.random.Generator(np.random.Philox(seed))
    orders = []
    for _ in range(max(LEAST_ORDERS, samples // (2 * (n - 1)))):
        outer = rng.permutation(len(members))
        order = np.concatenate([rng.permutation(members[place]) for place in outer])
        orders += [order, order[::-1]]
    drawn = np.stack(orders)
    masks = drawn.argsort(1)[:, None, :] < np.arange(1, n)[:, None]
    return np.concatenate([masks.reshape(-1, n), np.repeat([[False], [True]], n, 1)]), drawn


def _walked(orders: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each player's mean rise over the orders, and its standard error over the pairs."""
    n = orders.shape[1]
    path = values[:-2].reshape(len(orders), n - 1)
    path = np.pad(path, ((0, 0), (1, 1)))
    path[:, 0], path[:, -1] = values[-2:]
    rises = np.empty(orders.shape)
    np.put_along_axis(rises, orders, np.diff(path, axis=1), axis=1)
    pairs = rises.reshape(-1, 2, n).mean(1)
    return pairs.mean(0), pairs.std(0, ddof=1) / np.sqrt(len(pairs))
