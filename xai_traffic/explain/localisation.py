"""Where the evidence is known: how much of an explanation falls upon it.

Scores are of players (bytes, fields or packets), by example; each function has its value by chance,
which depends on how much of an example is evidence.
"""

from __future__ import annotations

import numpy as np


def pointing_game(scores, evidence, present=None) -> np.ndarray:
    """Tell whether the highest score is the evidence's, float64 [B]: 1, 0, or a part among ties.

    By chance: the part of the players that is evidence. Source: Zhang et al., Top-Down Neural
    Attention by Excitation Backprop, 2018.

    Args:
        scores: float [B, P], what each player is given; |attribution| where the sign is of no
            interest.
        evidence: bool [B, P].
        present: bool [B, P], players that there are; None for all.

    Returns:
        NaN where no player is evidence, or nothing was attributed at all.
    """
    return _each(_hit, scores, evidence, present)


def relevance_mass(scores, evidence, present=None) -> np.ndarray:
    """Return the part of all scores that the evidence has, float64 [B], for scores of 0 and more.

    By chance: the part of the players that is evidence. Source: Arras et al., CLEVR-XAI, 2022
    (relevance mass accuracy). Arguments and NaN as for `pointing_game`.

    Raises:
        ValueError: a score is negative.
    """
    if np.any(np.asarray(scores) < 0):
        raise ValueError("relevance_mass needs scores of 0 and more: hand over |attribution|")
    return _each(lambda own, true: own[true].sum() / own.sum(), scores, evidence, present)


def relevance_rank(scores, evidence, present=None) -> np.ndarray:
    """Return the part of the evidence among the first players, as many as it has, float64 [B].

    1 is a perfect order; ties count as drawn by lot. By chance: the part of the players that is
    evidence. Source: Arras et al., CLEVR-XAI, 2022 (relevance rank accuracy). Arguments and NaN as
    for `pointing_game`.
    """
    return _each(_recall, scores, evidence, present)


def by_chance(evidence, present=None) -> np.ndarray:
    """Return the part of the players that is evidence, float64 [B]: what chance scores."""
    evidence = np.asarray(evidence, bool)
    held = np.ones(evidence.shape, bool) if present is None else np.asarray(present, bool)
    return (evidence & held).sum(1) / np.maximum(held.sum(1), 1)


def _each(score, scores, evidence, present) -> np.ndarray:
    scores, evidence = np.asarray(scores, np.float64), np.asarray(evidence, bool)
    held = np.ones(scores.shape, bool) if present is None else np.asarray(present, bool)
    if not scores.shape == evidence.shape == held.shape or scores.ndim != 2:
        raise ValueError(
            f"scores {scores.shape}, evidence {evidence.shape} and present {held.shape} must all "
            "be [B, P]"
        )
    found = np.full(len(scores), np.nan)
    for row, own in enumerate(held):
        values, true = scores[row, own], evidence[row, own]
        if true.any() and values.any():
            found[row] = score(values, true)
    return found


def _hit(values: np.ndarray, true: np.ndarray) -> float:
    return true[values == values.max()].mean()


def _recall(values: np.ndarray, true: np.ndarray) -> float:
    count = true.sum()
    last = np.sort(values)[-count]
    above, level = values > last, values == last
    drawn = (count - above.sum()) / level.sum()
    return (true[above].sum() + drawn * true[level].sum()) / count
