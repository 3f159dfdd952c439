"""Counterfactuals: the fewest packets whose removal turns the verdict."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from xai_traffic.explain.model_function import ModelFunction, as_float
from xai_traffic.explain.players import masked_logits, present_players
from xai_traffic.explain.removal import Removal


@dataclasses.dataclass(frozen=True)
class Counterfactual:
    """What must go for another verdict.

    Args:
        removed: players in order, empty where no removal was found that turns the verdict.
        before, after: the verdict at x and without them.
        flips: whether one was found.
        proven: every smaller set was tried and none is enough; where nothing flips, every set was.
            Else no single player can be put back alone, and smaller sets may exist.
    """

    removed: tuple[int, ...]
    before: int
    after: int
    flips: bool
    proven: bool


Logits = Callable[[list[np.ndarray]], list[np.ndarray]]
"""From a list of players to remove, bool [M, P] for each example, to logits [M, K]."""


def counterfactual(
    f: ModelFunction,
    params,
    x,
    groups,
    *,
    scores=None,
    limit: int = 1 << 14,
    baseline=0.0,
    removal: Removal | Sequence[Removal] | None = None,
    memory_budget: int | None = None,
) -> list[Counterfactual]:
    """Find for each example a smallest set of players whose removal turns the verdict.

    First players go in the order of their scores until the verdict turns, then those come back
    that are not needed: few, but not proven the fewest. Then all sets of one player are tried, of
    two, and so on up to that size, as long as `limit` allows: this proves it or finds fewer.

    Args:
        f, params, x, groups, baseline, removal, memory_budget: as for `masked_logits`; f needs two
            or more classes.
        scores: float [B, P], such as Shapley values or `occlusion`: the highest goes first. None
            takes how far the verdict's lead over the next class falls without the player.
        limit: most sets that are tried for each example in the search by size.

    Raises:
        ValueError: f has one logit only, scores do not fit, or see `as_groups`.
    """
    x = as_float(x)
    present, players = present_players(groups, x)

    def logits(removed: list[np.ndarray]) -> list[np.ndarray]:
        kept = [~own for own in removed]
        return masked_logits(
            f,
            params,
            x,
            groups,
            kept,
            baseline=baseline,
            removal=removal,
            memory_budget=memory_budget,
        )

    start = [_sets([(), *((player,) for player in own)], players) for own in present]
    found = logits(start)
    if found[0].shape[1] < 2:
        raise ValueError("f returns one logit, so no verdict can turn: return one for each class")
    before = [int(values[0].argmax()) for values in found]
    if scores is None:
        scores = np.zeros((len(x), players))
        for row, own in enumerate(present):
            scores[row, own] = -_leads(found[row], before[row])[1:]
    scores = np.asarray(scores)
    if scores.shape != (len(x), players):
        raise ValueError(f"scores must be {(len(x), players)}, and are {scores.shape}")
    orders = [own[np.argsort(-scores[row, own], kind="stable")] for row, own in enumerate(present)]
    sets = _put_back(logits, _first_prefix(logits, orders, before, players), before)
    sets, proven = _searched(logits, present, sets, before, limit, players)
    after = logits([np.zeros((1, players), bool) if own is None else own[None] for own in sets])
    return [
        Counterfactual(
            removed=() if own is None else tuple(np.flatnonzero(own).tolist()),
            before=verdict,
            after=int(values[0].argmax()),
            flips=own is not None,
            proven=sure,
        )
        for own, verdict, values, sure in zip(sets, before, after, proven, strict=True)
    ]


def _first_prefix(logits: Logits, orders, before, players: int) -> list[np.ndarray | None]:
    """Remove players in order; return the first set, bool [P], that turns each verdict."""
    prefixes = [
        _sets([tuple(order[:count]) for count in range(1, len(order) + 1)], players)
        for order in orders
    ]
    result = []
    for sets, values, verdict in zip(prefixes, logits(prefixes), before, strict=True):
        turned = np.flatnonzero(values.argmax(1) != verdict)
        result.append(sets[turned[0]] if len(turned) else None)
    return result


def _put_back(logits: Logits, sets, before) -> list[np.ndarray | None]:
    """Put players back, the one first that leaves the old verdict furthest behind, until none."""
    sets, open_rows = list(sets), {row for row, own in enumerate(sets) if own is not None}
    width = next((len(own) for own in sets if own is not None), 0)
    while open_rows:
        tried = [np.zeros((0, width), bool)] * len(sets)
        for row in open_rows:
            members = np.flatnonzero(sets[row])
            tried[row] = np.repeat(sets[row][None], len(members), 0)
            tried[row][np.arange(len(members)), members] = False
        values = logits(tried)
        for row in sorted(open_rows):
            turned = values[row].argmax(1) != before[row]
            if not turned.any():
                open_rows.remove(row)
                continue
            leads = np.where(turned, _leads(values[row], before[row]), np.inf)
            sets[row] = tried[row][leads.argmin()]
    return sets


def _searched(
    logits: Logits, present, sets, before, limit: int, players: int
) -> tuple[list[np.ndarray | None], list[bool]]:
    """Try all sets that are smaller than those found, by size; return the best, and if proven."""
    best, proven = list(sets), [False] * len(present)
    spent, open_rows, size = [0] * len(present), set(range(len(present))), 0
    while open_rows:
        size += 1
        tried = [np.zeros((0, players), bool)] * len(present)
        for row in sorted(open_rows):
            own = present[row]
            spent[row] += math.comb(len(own), size)
            proven[row] = size >= (len(own) + 1 if best[row] is None else best[row].sum())
            if proven[row] or spent[row] > limit:
                open_rows.remove(row)
            else:
                tried[row] = _sets(itertools.combinations(own, size), players)
        if not open_rows:
            break
        values = logits(tried)
        for row in sorted(open_rows):
            turned = values[row].argmax(1) != before[row]
            if turned.any():
                leads = np.where(turned, _leads(values[row], before[row]), np.inf)
                best[row], proven[row] = tried[row][leads.argmin()], True
                open_rows.remove(row)
    return best, [bool(sure) for sure in proven]


def _sets(members: Iterable[Sequence[int]], players: int) -> np.ndarray:
    """Return sets of players as bool [M, P]."""
    members = list(members)
    result = np.zeros((len(members), players), bool)
    for row, own in enumerate(members):
        result[row, list(own)] = True
    return result


def _leads(values: np.ndarray, verdict: int) -> np.ndarray:
    """Return how far the verdict's logit lies above the next one, [M]; negative where it turned."""
    return values[:, verdict] - np.delete(values, verdict, axis=1).max(1)
