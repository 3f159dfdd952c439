"""Sensitivity-n: do sums of attributions follow what the logit loses without those players."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xai_traffic.explain.model_function import ModelFunction, as_float
from xai_traffic.explain.players import masked_targets, present_players
from xai_traffic.explain.removal import Removal
from xai_traffic.explain.shapley import on_all_players


def sensitivity_n(
    f: ModelFunction,
    params,
    x,
    groups,
    scores,
    sizes: Sequence[float],
    target=None,
    *,
    samples: int = 100,
    seed: int = 0,
    baseline=0.0,
    removal: Removal | Sequence[Removal] | None = None,
    memory_budget: int | None = None,
) -> np.ndarray:
    """Return the correlation of summed scores and the fall of the logit, float64 [B, sizes].

    Source: Ancona et al., Towards Better Understanding of Gradient-Based Attribution Methods, ICLR
    2018: Pearson's correlation over random subsets of n players. With one n it is the faithfulness
    correlation of Bhatt et al., Evaluating and Aggregating Feature-Based Model Explanations, 2020.
    Near 1: the logit loses what the explanation says, at this size of what is taken away.

    Args:
        f, params, x, groups, target, baseline, removal, memory_budget: as for `occlusion`; where
            each value shall be a player, groups number them.
        scores: float [B, P], what the explanation says each player adds, signed.
        sizes: n, each a whole number of players, or below 1 the part of an example's own players,
            rounded, at least 1.
        samples: subsets for each n, at least 2.
        seed: of the draw; the same subsets for examples with as many players, see `random_subsets`.

    Returns:
        -1 to 1. NaN where nothing varies: no more players than n (then there is but one subset),
        scores or logits that are alike for all subsets.

    Raises:
        ValueError: scores, sizes or samples are not as above, or see `as_groups`, `resolve_target`.
    """
    x = as_float(x)
    present, players = present_players(groups, x)
    scores = np.asarray(scores, np.float64)
    if scores.shape != (len(x), players) or samples < 2:
        raise ValueError(
            f"{samples} samples and scores {scores.shape}: need 2 or more, and {(len(x), players)}"
        )
    if not len(sizes) or any(not n > 0 or n >= 1 and n != int(n) for n in sizes):
        raise ValueError(f"sizes {list(sizes)}: need whole numbers of players, or parts below 1")
    drawn: dict[int, np.ndarray] = {}
    for n in {len(own) for own in present}:
        counts = [min(_size(size, n), n) for size in sizes]
        drawn[n] = np.stack([random_subsets(n, count, samples, seed) for count in counts])
    masks = []
    for own in present:
        gone = drawn[len(own)].reshape(-1, len(own))
        kept = ~np.concatenate([gone, np.zeros((1, len(own)), bool)])
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
    result = np.full((len(x), len(sizes)), np.nan)
    for row, (own, values) in enumerate(zip(present, logits, strict=True)):
        falls = (values[-1] - values[:-1]).reshape(len(sizes), samples)
        result[row] = _pearson(drawn[len(own)] @ scores[row, own], falls)
    return result


def random_subsets(players: int, size: int, samples: int, seed: int) -> np.ndarray:
    """Draw subsets of `size` out of so many players, bool [samples, players].

    A function of the arguments alone: neither other examples nor other sizes change it.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, size]))
    result = np.zeros((samples, players), bool)
    if size:
        places = rng.random((samples, players)).argpartition(size - 1, axis=1)[:, :size]
        np.put_along_axis(result, places, True, axis=1)
    return result


def _size(n: float, players: int) -> int:
    return int(n) if n >= 1 else max(1, round(n * players))


def _pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the correlation of each row, NaN where one is constant but for rounding."""
    flat = np.zeros(len(a), bool)
    for values in (a, b):
        flat |= np.ptp(values, axis=1) <= 1e-9 * np.abs(values).max(1)
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    scale = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    found = np.divide((a * b).sum(1), scale, out=np.full(len(a), np.nan), where=~flat & (scale > 0))
    return np.clip(found, -1, 1)
