"""Shapley values of players: exact, and by Kernel SHAP where there are too many for that.

Sums over masks are taken in float64 on the host, so values add up to the rise of the logit from
the baseline to x, whatever the precision of f.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from xai_traffic.explain.model_function import ModelFunction, as_float
from xai_traffic.explain.players import PlayerValues, masked_targets, present_players
from xai_traffic.explain.removal import Removal

EXACT_PLAYERS = 12
"""Most players whose 2^n masks are all tried."""

SAMPLES = 2048
"""Masks that are drawn above, for each example, unless told otherwise."""


def exact_shapley(
    f: ModelFunction,
    params,
    x,
    groups,
    target=None,
    *,
    baseline=0.0,
    removal: Removal | Sequence[Removal] | None = None,
    memory_budget: int | None = None,
) -> PlayerValues:
    """Return the Shapley values of up to 12 players an example, from all 2^n masks.

    Source: Shapley, A Value for n-Person Games, 1953. Arguments as for `occlusion`.

    Raises:
        ValueError: an example has more than 12 players; see also `as_groups`, `resolve_target`.
    """
    x = as_float(x)
    present, players = present_players(groups, x)
    most = max(map(len, present))
    if most > EXACT_PLAYERS:
        raise ValueError(
            f"an example has {most} players, and 2^{most} masks are too many: take kernel_shap, or "
            f"at most {EXACT_PLAYERS} players"
        )
    masks = [on_all_players(own, players, all_masks(len(own))) for own in present]
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
    rows = [(shapley_of(v), np.zeros(v.size.bit_length() - 1), v[-1] - v[0], True) for v in logits]
    return gather_players(present, players, rows)


def kernel_shap(
    f: ModelFunction,
    params,
    x,
    groups,
    target=None,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    baseline=0.0,
    removal: Removal | Sequence[Removal] | None = None,
    memory_budget: int | None = None,
) -> PlayerValues:
    """Estimate Shapley values as the weighted regression of the logit on masks.

    Source: Lundberg and Lee, A Unified Approach to Interpreting Model Predictions, 2017; masks are
    drawn by the Shapley kernel, each with its complement, and the standard errors are those of
    the regression (Covert and Lee, Improving KernelSHAP, 2021). Values always add up. Examples
    whose masks are no more than `samples` are computed exactly.

    Args:
        f, params, x, groups, target, baseline, removal, memory_budget: as for `occlusion`.
        samples: masks an example, at least 4 for each of its players.
        seed: of the draw; the same for all examples.

    Raises:
        ValueError: samples are too few; see also `as_groups`, `resolve_target`.
    """
    x = as_float(x)
    present, players = present_players(groups, x)
    whole = [1 << len(own) <= samples and len(own) <= EXACT_PLAYERS for own in present]
    drawn_of = [len(own) for own, exact in zip(present, whole, strict=True) if not exact]
    most = max(drawn_of, default=0)
    if samples < 4 * most:
        raise ValueError(f"{most} players need at least {4 * most} samples, not {samples}")
    drawn = [
        all_masks(len(own)) if exact else _paired_masks(len(own), samples // 2, seed)
        for own, exact in zip(present, whole, strict=True)
    ]
    masks = [on_all_players(own, players, part) for own, part in zip(present, drawn, strict=True)]
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
    for exact, part, values in zip(whole, drawn, logits, strict=True):
        found = (shapley_of(values), np.zeros(part.shape[1])) if exact else _regress(part, values)
        rows.append((*found, values[-1] - values[0], exact))
    return gather_players(present, players, rows)


def all_masks(n: int) -> np.ndarray:
    """Return all masks over n players, bool [2^n, n]; player i is bit i of the row's number."""
    return (np.arange(1 << n)[:, None] >> np.arange(n) & 1).astype(bool)


def shapley_of(values: np.ndarray) -> np.ndarray:
    """Return the Shapley values float64 [n] of a game given by its 2^n values, see `all_masks`."""
    n = (len(values) - 1).bit_length()
    masks = np.arange(len(values))
    weights = order_weights(n)[all_masks(n).sum(1).clip(max=n - 1)] if n else np.ones(1)
    result = np.zeros(n)
    for player in range(n):
        without = masks[masks >> player & 1 == 0]
        result[player] = weights[without] @ (values[without | 1 << player] - values[without])
    return result


def order_weights(n: int) -> np.ndarray:
    """Return the part of all orders in which given s players precede one of n, for s < n."""
    return np.array([1 / (n * math.comb(n - 1, size)) for size in range(n)])


def _paired_masks(n: int, pairs: int, seed: int) -> np.ndarray:
    """Draw masks by the Shapley kernel, complements next to each other, between none and all."""
    rng = np.random.Generator(np.random.Philox(seed))
    sizes = np.arange(1, n)
    chance = 1 / (sizes * (n - sizes))
    drawn = rng.choice(sizes, size=pairs, p=chance / chance.sum())
    ranks = rng.random((pairs, n)).argsort(1).argsort(1)
    half = ranks < drawn[:, None]
    inner = np.stack([half, ~half], 1).reshape(-1, n)
    return np.concatenate([np.zeros((1, n), bool), inner, np.ones((1, n), bool)])


def _regress(masks: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solve the regression under the condition that values add up; return them and errors."""
    z, rise = np.float64(masks[1:-1]), values[-1] - values[0]
    y = values[1:-1] - values[0]
    inverse = np.linalg.pinv(z.T @ z / len(z), hermitian=True)
    ones = inverse.sum(1)
    free = inverse @ (z.T @ y / len(z))
    found = free - ones * (free.sum() - rise) / ones.sum()
    # The sandwich: pairs are independent draws, the two masks of a pair are not.
    pulls = (z * (y - z @ found)[:, None]).reshape(len(z) // 2, 2, -1).mean(1)
    spread = pulls @ (inverse - np.outer(ones, ones) / ones.sum())
    freedom = max(len(pulls) - z.shape[1], 1)
    errors = np.sqrt(((spread - spread.mean(0)) ** 2).sum(0) / len(pulls) / freedom)
    return found, errors


def on_all_players(own: np.ndarray, players: int, masks: np.ndarray) -> np.ndarray:
    """Widen masks over an example's own players to all P; the others change nothing."""
    if len(own) == players:
        return masks  # all of them: thousands, as bytes are, take long to put one by one
    result = np.ones((len(masks), players), bool)
    result[:, own] = masks
    return result


def gather_players(present: list[np.ndarray], players: int, rows: list[tuple]) -> PlayerValues:
    """Put each example's (values, errors, rise of the logit, exact) to its players among all P."""
    values, errors = np.zeros((2, len(present), players))
    for row, (own, (found, error, _, _)) in enumerate(zip(present, rows, strict=True)):
        values[row, own], errors[row, own] = found, error
    rise = np.array([row[2] for row in rows])
    return PlayerValues(
        values, errors, np.abs(values.sum(1) - rise), np.array([row[3] for row in rows])
    )
