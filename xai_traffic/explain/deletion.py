"""Deletion and insertion: does the logit move where an explanation says, faster than by chance."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from xai_traffic.explain.model_function import (
    ModelFunction,
    as_float,
    examples_at_once,
    resolve_target,
)
from xai_traffic.explain.ordered_removal import even_counts, removed_logits
from xai_traffic.explain.players import present_players
from xai_traffic.explain.removal import Removal


@dataclasses.dataclass(frozen=True)
class Curves:
    """The target's logit on the way from x to the baseline and back.

    Args:
        deletion: for each example float64 [points], its n players removed one after another, the
            highest score first; from the logit at x to that with all replaced.
        insertion: the same the other way, players put into the baseline.
        random_deletion: float64 [draws, points], removed in random order.
        random_insertion: the same, put in.
        places: float64 [points], which part of the players has gone or come, from 0 to 1; n + 1
            points where no `steps` were given.
    """

    deletion: list[np.ndarray]
    insertion: list[np.ndarray]
    random_deletion: list[np.ndarray]
    random_insertion: list[np.ndarray]
    places: list[np.ndarray]

    def gain(self) -> np.ndarray:
        """Return the area between insertion and deletion less that of random orders, float64 [B].

        In logits, areas over the part of players, 0 to 1. Above 0: the order is better than chance;
        0 for examples without a player.
        """
        found = zip(
            *(self.deletion, self.insertion, self.random_deletion, self.random_insertion),
            self.places,
            strict=True,
        )
        return np.array(
            [
                area(i, at) - area(d, at) - (area(ri, at) - area(rd, at)).mean()
                for d, i, rd, ri, at in found
            ]
        )


def area(curve: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the area under curves [..., points] by the trapezoid rule."""
    return np.trapezoid(curve, places, axis=-1)


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
    steps: int | None = None,
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
        steps: in which the players of an example go, evenly; None takes one player a step.

    Raises:
        ValueError: scores do not fit the players, draws or steps are fewer than 1, or see
            `as_groups` and `resolve_target`.
    """
    x = as_float(x)
    present, players = present_players(groups, x)
    scores = _fitting(scores, (len(x), players), steps, draws)
    rng = np.random.Generator(np.random.Philox(seed))
    orders, counts = [], []
    for row, own in enumerate(present):
        ways = [own[np.argsort(-scores[row, own], kind="stable")]]
        ways += [own[rng.permutation(len(own))] for _ in range(draws)]
        # The first of an order put in is the last of it taken away: its reverse, the rest gone.
        orders.append(np.stack([*ways, *(way[::-1] for way in ways)]))
        gone = even_counts(len(own), steps)
        counts.append(np.repeat([gone, len(own) - gone], draws + 1, axis=0))
    options = {"baseline": baseline, "removal": removal, "memory_budget": memory_budget}
    logits = _targets(f, params, x, groups, orders, counts, target, options)
    ways = [values.reshape(2, draws + 1, -1) for values in logits]
    return Curves(
        deletion=[way[0, 0] for way in ways],
        insertion=[way[1, 0] for way in ways],
        random_deletion=[way[0, 1:] for way in ways],
        random_insertion=[way[1, 1:] for way in ways],
        places=[gone[0] / max(len(own), 1) for gone, own in zip(counts, present, strict=True)],
    )


def pixel_flipping(
    f: ModelFunction,
    params,
    x,
    groups,
    scores,
    target=None,
    *,
    steps: int | None = None,
    baseline=0.0,
    removal: Removal | Sequence[Removal] | None = None,
    memory_budget: int | None = None,
) -> list[np.ndarray]:
    """Return the deletion curve alone, without a control: for each example float64 [points].

    Source: Bach et al., On Pixel-Wise Explanations, 2015; Samek et al., Evaluating the
    Visualization of What a Deep Neural Network Has Learned, 2017. Arguments and errors as for
    `deletion_curves`; the first point is the logit at x, the last that with all players gone.
    """
    x = as_float(x)
    present, players = present_players(groups, x)
    scores = _fitting(scores, (len(x), players), steps)
    orders = [
        own[np.argsort(-scores[row, own], kind="stable")][None] for row, own in enumerate(present)
    ]
    counts = [even_counts(len(own), steps)[None] for own in present]
    options = {"baseline": baseline, "removal": removal, "memory_budget": memory_budget}
    logits = _targets(f, params, x, groups, orders, counts, target, options)
    return [values[0] for values in logits]


def _fitting(scores, shape: tuple[int, int], steps: int | None, draws: int = 1) -> np.ndarray:
    scores = np.asarray(scores)
    if scores.shape != shape or draws < 1:
        raise ValueError(
            f"{draws} draws and scores {scores.shape}: need at least 1, and {shape} for the players"
        )
    if steps is not None and steps < 1:
        raise ValueError(f"{steps} steps: need at least 1")
    return scores


def _targets(f, params, x, groups, orders, counts, target, options):
    """Return the target's logit, for each example float64 [O, C]."""
    at_once = examples_at_once(f, params, x, options["memory_budget"])
    target = np.asarray(resolve_target(f, params, x, target, at_once))
    logits = removed_logits(f, params, x, groups, orders, counts, **options)
    return [np.float64(own[..., k]) for own, k in zip(logits, target, strict=True)]
