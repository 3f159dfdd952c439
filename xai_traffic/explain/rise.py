"""RISE: how much higher the target's logit is on random masks that keep a player."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xai_traffic.explain.model_function import ModelFunction, as_float
from xai_traffic.explain.players import masked_targets, present_players
from xai_traffic.explain.removal import Removal
from xai_traffic.explain.shapley import on_all_players


def rise(
    f: ModelFunction,
    params,
    x,
    groups,
    target=None,
    *,
    samples: int = 1024,
    kept: float = 0.5,
    seed: int = 0,
    baseline=0.0,
    removal: Removal | Sequence[Removal] | None = None,
    memory_budget: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean logit over the masks that keep a player, less that over all masks.

    Source: Petsiuk et al., RISE, 2018, equation 6, with two differences: masks are drawn over
    players, not over a coarse grid that is enlarged and shifted, and the mean over all masks is
    taken away, a constant that changes no order but makes 0 the value of what does not matter. A
    linear model's player gets (1 - kept) times what it adds.

    Args:
        f, params, x, groups, target, baseline, removal, memory_budget: as for `occlusion`.
        samples: masks an example.
        kept: chance of a player to be kept, above 0 and below 1.
        seed: of the draw; the same masks for examples with as many players.

    Returns:
        values and their standard errors, both float64 [B, P] in logits; 0 for players that an
        example does not have.

    Raises:
        ValueError: `kept` is no such chance, samples are fewer than 2, or see `as_groups` and
            `resolve_target`.
    """
    if not 0 < kept < 1 or samples < 2:
        raise ValueError(
            f"{samples} samples kept with chance {kept}: need 2 or more, and 0 < p < 1"
        )
    x = as_float(x)
    present, players = present_players(groups, x)
    drawn = [
        np.random.Generator(np.random.Philox(seed)).random((samples, len(own))) < kept
        for own in present
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
    values, errors = np.zeros((2, len(x), players))
    for row, (own, part, logit) in enumerate(zip(present, drawn, logits, strict=True)):
        counts = np.maximum(part.sum(0), 1)
        centred = logit - logit.mean()
        means = centred @ part / counts
        # What one mask adds: the mean of those that keep the player is a ratio of two sums.
        pulls = part * (centred[:, None] - means) * (samples / counts) - centred[:, None]
        values[row, own] = means
        errors[row, own] = np.sqrt((pulls**2).sum(0) / (samples * (samples - 1)))
    return values, errors
