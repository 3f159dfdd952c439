"""Sufficiency: does the verdict hold when only the players with the highest scores are left."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xai_traffic.explain.comprehensiveness import SHARES, falls
from xai_traffic.explain.model_function import ModelFunction
from xai_traffic.explain.removal import Removal


def sufficiency(
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
    """Return what the target's probability loses with nothing but the highest scored players.

    Source: DeYoung et al., ERASER, ACL 2020, equation 2, over players in place of tokens: p(x) -
    p(they alone). Low is good, near 0 or below: they carry the verdict without the rest. Arguments,
    result and errors as for `comprehensiveness`; the paper's formula also counts the share 0, what
    the probability loses with all players gone, which is the same for any explanation.
    """
    options = {"baseline": baseline, "removal": removal, "memory_budget": memory_budget}
    return falls(f, params, x, groups, scores, target, shares, logits, options, kept=True)
