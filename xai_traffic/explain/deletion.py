"""Deletion and insertion: does the logit move where an explanation says, faster than by chance."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from xai_traffic.explain.model_function import ModelFunction, as_float
from xai_traffic.explain.players import masked_targets, present_players
from xai_traffic.explain.removal import Removal
from xai_traffic.explain.shapley import on_all_players


@dataclasses.dataclass(frozen=True)
class Curves:
    """The target's logit on the way from x to the baseline and back.

    Args:
        deletion: for each example float64 [n + 1], its n players removed one after another, the
            highest score first; from the logit at x to that with all replaced.
        insertion: the same the other way, players put into the baseline.
        random_deletion: float64 [draws, n + 1], removed in random order.
        random_insertion: the same, put in.
    """

    deletion: list[np.ndarray]
    insertion: list[np.ndarray]
    random_deletion: list[np.ndarray]
    random_insertion: list[np.ndarray]

    def gain(self) -> np.ndarray:
        """Return the area between insertion and deletion less that of random orders, float64 [B].

        In logits, areas over the part of players, 0 to 1. Above 0: the order is better than chance;
        0 for examples without a player.
        """
        found = zip(
            self.deletion, self.insertion, self.random_deletion, self.random_insertion, strict=True
        )
        return np.array(
            [area(i) - area(d) - (area(ri) - area(rd)).mean() for d, i, rd, ri in found]
        )


def area(curve: np.ndarray) -> np.ndarray:
    """Return the area under curves [..., n + 1] over 0 to 1 by the trapezoid rule."""
    steps = curve.shape[-1] - 1
    return (curve[..., 1:] + curve[..., :-1]).sum(-1) / (2 * max(steps, 1))


def deletion_curves(
    f: ModelFunction,
    params,
    x,
    groups,
    scores,
    target=None,
    *,
    draws: int = 10,
    seed: int = 0,
    baseline=0.0,
    removal: Removal | Sequence[Removal] | None = None,
    memory_budget: int | None = None,
) -> Curves:
    """Remove and put in players by score, and in random orders for control.

    Source: Petsiuk et al., RISE, 2018, for deletion and insertion, here of players and in logits.
    The area alone depends on how the model answers to what it has never seen: only the distance to
    random orders of the same players says something of the explanation.

    Args:
        f, params, x, groups, target, baseline, removal, memory_budget: as for `occlusion`.
        scores: float [B, P], what the explanation gives each player, signed.
        draws: random orders.
        seed: of them.

    Raises:
        ValueError: scores do not fit the players, draws are fewer than 1, or see `as_groups` and
            `resolve_target`.
    """
    x = as_float(x)
    present, players = present_players(groups, x)
    scores = np.asarray(scores)
    if scores.shape != (len(x), players) or draws < 1:
        raise ValueError(
            f"{draws} draws and scores {scores.shape}: need at least 1, and {(len(x), players)}"
        )
    rng = np.random.Generator(np.random.Philox(seed))
    masks = []
    for row, own in enumerate(present):
        n = len(own)
        orders = [np.argsort(-scores[row, own], kind="stable")]
        orders += [rng.permutation(n) for _ in range(draws)]
        # rank >= k: the first k of the order are gone; rank < k: they are there.
        ranks, counts = np.stack(orders).argsort(1)[:, None, :], np.arange(n + 1)[:, None]
        ways = np.stack([ranks >= counts, ranks < counts])
        masks.append(on_all_players(own, players, ways.reshape(-1, n)))
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
    ways = [
        values.reshape(2, draws + 1, len(own) + 1)
        for values, own in zip(logits, present, strict=True)
    ]
    return Curves(
        deletion=[way[0, 0] for way in ways],
        insertion=[way[1, 0] for way in ways],
        random_deletion=[way[0, 1:] for way in ways],
        random_insertion=[way[1, 1:] for way in ways],
    )
