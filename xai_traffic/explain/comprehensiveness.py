"""Comprehensiveness: does the verdict fall when the players with the highest scores are gone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xai_traffic.explain.model_function import (
    ModelFunction,
    as_float,
    examples_at_once,
    resolve_target,
)
from xai_traffic.explain.players import masked_logits, present_players
from xai_traffic.explain.removal import Removal
from xai_traffic.explain.shapley import on_all_players

SHARES = (0.05, 0.1, 0.2, 0.5)
"""Parts of the players that are the rationale."""


def comprehensiveness(
    f: ModelFunction,
    params,
    x,
    groups,
    scores,
    target=None,
    *,
    shares: Sequence[float] = SHARES,
    logits: bool = False,
    baseline=0.0,
    removal: Removal | Sequence[Removal] | None = None,
    memory_budget: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the target's probability loses without the players with the highest scores.

    Source: DeYoung et al., ERASER, ACL 2020, equation 1, over players in place of tokens: p(x) -
    p(x without them). High is good: what the explanation names was needed. The mean over shares is
    that of the paper's published scorer; the paper's formula also counts the share 0, which is 0.

    Args:
        f, params, x, groups, target, baseline, removal, memory_budget: as for `occlusion`.
        scores: float [B, P], what the explanation gives each player, signed.
        shares: above 0, at most 1, of an example's own players; rounded up, so at least one.
        logits: take the target's logit in place of its probability, which a sure model saturates.

    Returns:
        mean over shares (AOPC), float64 [B], and each, float64 [B, shares]; 0 for examples without
        a player.

    Raises:
        ValueError: scores or shares are not as above, f has one logit only and probabilities are
            asked for, or see `as_groups` and `resolve_target`.
    """
    options = {"baseline": baseline, "removal": removal, "memory_budget": memory_budget}
    return falls(f, params, x, groups, scores, target, shares, logits, options)


def falls(
    f, params, x, groups, scores, target, shares, logits, options, kept=False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the falls of `comprehensiveness`, or with `kept` those of `sufficiency`."""
    x = as_float(x)
    present, players = present_players(groups, x)
    scores = np.asarray(scores)
    if scores.shape != (len(x), players):
        raise ValueError(f"scores must be {(len(x), players)}, and are {scores.shape}")
    if not len(shares) or any(not 0 < share <= 1 for share in shares):
        raise ValueError(f"shares {list(shares)} must be above 0 and at most 1")
    masks = []
    for row, own in enumerate(present):
        ranks = np.argsort(-scores[row, own], kind="stable").argsort()
        # 0.1 of 30 is a little more than 3 in binary, and still 3.
        counts = np.ceil(np.array([*shares]) * len(own) - 1e-9)[:, None]
        ways = np.concatenate([np.ones((1, len(own)), bool), (ranks < counts) == kept])
        masks.append(on_all_players(own, players, ways))
    at_once = examples_at_once(f, params, x, options["memory_budget"])
    target = np.asarray(resolve_target(f, params, x, target, at_once))
    found = masked_logits(f, params, x, groups, masks, **options)
    if not logits and found[0].shape[1] < 2:
        raise ValueError("f returns one logit, and a probability needs two: take logits=True")
    values = np.stack(found).astype(np.float64)  # [B, 1 + shares, K]
    if not logits:
        values = np.exp(values - values.max(-1, keepdims=True))
        values /= values.sum(-1, keepdims=True)
    values = np.take_along_axis(values, target[:, None, None], 2)[..., 0]
    each = values[:, :1] - values[:, 1:]
    return each.mean(1), each
