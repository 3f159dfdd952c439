"""Occlusion: how far the target's logit falls when one player is left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xai_traffic.explain.model_function import ModelFunction, as_float
from xai_traffic.explain.players import masked_targets, present_players
from xai_traffic.explain.removal import Removal


def occlusion(
    f: ModelFunction,
    params,
    x,
    groups,
    target=None,
    *,
    baseline=0.0,
    removal: Removal | Sequence[Removal] | None = None,
    memory_budget: int | None = None,
) -> np.ndarray:
    """Return the target's logit at x less that with each player replaced by the baseline.

    Source: Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, 2014; as leave
    one out over players it has captum's name FeatureAblation. Of two players that say the same,
    neither gets anything: either can be spared.

    Args:
        f, x, groups, baseline, removal, memory_budget: as for `masked_logits`.
        target: class, int or int32 [B]; None explains the class with the highest logit.

    Returns:
        float64 [B, P] in logits; 0 for players that an example does not have.

    Raises:
        ValueError: see `as_groups` and `resolve_target`.
    """
    x = as_float(x)
    present, players = present_players(groups, x)
    masks = []
    for own in present:
        mask = np.ones((len(own) + 1, players), bool)
        mask[np.arange(len(own)) + 1, own] = False
        masks.append(mask)
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
    result = np.zeros((len(x), players))
    for row, (own, values) in enumerate(zip(present, logits, strict=True)):
        result[row, own] = values[0] - values[1:]
    return result
